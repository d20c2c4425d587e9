"""Raster files side by side as one raster: a VRT, GDAL's list of where each file lies.

No pixel is copied or resampled, so only files of one grid fit together: the same CRS, pixel size
and orientation, a whole number of pixels apart. Who reads the mosaic sees no border between them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from geo_retina.errors import OutputError, RasterError
from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.imagery.vrt import TYPES, Bands, SourceFile, vrt_tree
from geo_retina.space.grid import Grid
from geo_retina.whole_files import check_place, whole_file
from geo_retina.wording import listed

if TYPE_CHECKING:
    import pyproj

MOST_OFF_PX = 0.05
"""How far a file may lie off the common grid; further, and boxes would be off as much."""

LONGEST_SIDE_PX = 2**31 - 1
"""GDAL counts columns and rows in 32 bits."""

_NAMED = 3  # files that an error names of each kind


@dataclass(frozen=True, slots=True)
class Mosaic:
    """What was put together."""

    files: int
    """How many."""
    grid: Grid
    """The smallest that holds them all."""
    covered: float
    """Share of the grid that files lie on, in (0, 1]."""


def write_mosaic(
    files: Sequence[str],
    out: Path,
    *,
    crs: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Mosaic:
    """Write a VRT that shows raster files as one.

    Where files overlap, the later one shows; where it has no valid pixel, what lies below: by masks
    and alpha for all bands alike, by nodata values band by band (of floats without, NaN is one).
    Ground without file is not valid. Paths are relative to the VRT where files lie beside or
    below it.

    Args:
        files: Files, URLs or GDAL paths; headers alone are read.
        out: Where to write, `.vrt`; what stands there is replaced. Named among `files` too, it is
            left out of them: a pattern finds the mosaic of an earlier call.
        crs: CRS to assign to files that have none.
        on_progress: Called after each file with the number done and that of all.

    Raises:
        RasterError: There is no file, one cannot be opened, they do not fit together, or `out` is
            one of them and shows others.
        OutputError: The folder of `out` is missing or may not be written in.
        GeoreferenceError: A file's georeference is broken.
    """
    if out.suffix.lower() != ".vrt":
        raise RasterError(f"expected a mosaic that ends in .vrt, got {out}")
    check_place(out)
    before = [file for file in files if Path(file).resolve() == out.resolve()]
    files = [file for file in files if file not in before]
    if not files:
        raise RasterError("expected raster files to put together, got none")
    found, kept = [], {Path(path).resolve() for path in (*before, *files)}
    for number, path in enumerate(files, start=1):
        with open_raster(path, crs=crs) as raster:
            parts = {Path(file).resolve() for file in raster.files} if out.exists() else set()
            if out.resolve() in parts:
                raise RasterError(f"{out} is a part of {path}; choose another output")
            kept |= parts
            found.append(_described(raster))
        on_progress(number, len(files))
    _refuse_lost(before, kept)
    found = _with_nan(found)
    _refuse_different(found)
    grid, places = _placed(found)
    sides = np.array([[file.grid.width, file.grid.height] for file in found])
    ground = shapely.union_all(shapely.box(*places.T, *(places + sides).T))
    covered = float(ground.area) / (grid.width * grid.height)
    overlapping = float(sides.prod(axis=1).sum()) > float(ground.area)
    tree = vrt_tree(found, places, grid, out.parent, has_gaps=covered < 1, has_overlaps=overlapping)
    ET.indent(tree)
    with whole_file(out, error=OutputError) as file:
        ET.ElementTree(tree).write(file, encoding="utf-8")
    return Mosaic(len(found), grid, covered)


def _refuse_lost(before: Sequence[str], kept: set[Path]) -> None:
    """Refuse to replace a mosaic that was named, unless what it shows is all in the new one."""
    for path in before:
        with open_raster(path, pixel_coordinates=True) as raster:
            lost = [file for file in raster.files if Path(file).resolve() not in kept]
        if lost:
            raise RasterError(
                f"{path} would be overwritten, and it is read: it shows {_some(lost)}; choose "
                "another output"
            )


def _described(raster: Raster) -> SourceFile:
    flags = raster.mask_flags[0]
    is_masked = not flags & {"all_valid", "alpha", "nodata"}
    nodata = tuple(
        _nodata_text(value, dtype)
        for value, dtype in zip(raster.nodata, raster.dtypes, strict=True)
    )
    return SourceFile(
        raster.path,
        _name_for_gdal(raster),
        raster.grid,
        Bands(raster.dtypes, nodata, raster.colours, raster.descriptions),
        raster.block_shape,
        is_masked,
    )


def _with_nan(files: list[SourceFile]) -> list[SourceFile]:
    """Files of floats that nothing masks: NaN is their nodata value, whether they say so or not."""
    plain = (
        set(file.bands.nodata) == {None}
        and all(dtype.startswith("float") for dtype in file.bands.dtypes)
        and "alpha" not in file.bands.colours
        and not file.is_masked
        for file in files
    )
    if not all(plain):
        return files
    return [
        replace(file, bands=replace(file.bands, nodata=("nan",) * len(file.bands.nodata)))
        for file in files
    ]


def _nodata_text(value: float | None, dtype: str) -> str | None:
    if value is None:
        return None
    whole = not dtype.startswith("float") and float(value).is_integer()
    return str(int(value)) if whole else repr(float(value))


def _name_for_gdal(raster: Raster) -> str:
    """What GDAL opens a raster by, from any folder; an address may be spelt as rasterio has it."""
    path = raster.path
    is_address = "://" in path and not path.startswith(("vrt://", "/vsi"))
    name = (raster.files or (path,))[0] if is_address else path
    archive = re.match(r"(/vsi(?:zip|tar|gzip|7z|rar)/)(?!/|\{|vsi)(.*)", name)
    return f"{archive[1]}{Path.cwd()}/{archive[2]}" if archive else name


def _refuse_different(files: Sequence[SourceFile]) -> None:
    """Raise for files that have no CRS, or not the one, the pixels and the bands of the others."""
    lost = [file.path for file in files if file.grid.crs is None]
    if lost:
        raise RasterError(
            f"no georeference: {_some(lost)}; a mosaic needs to know where each file lies. Where "
            "only the CRS is missing, state it with --raster-crs"
        )
    _refuse_several_crs(files)
    _refuse_several(files, "data types", lambda file: ", ".join(file.bands.dtypes))
    _refuse_several(files, "bands", lambda file: ", ".join(file.bands.colours))
    _refuse_several(
        files, "band names", lambda file: ", ".join(n or "none" for n in file.bands.descriptions)
    )
    _refuse_several(
        files, "nodata values", lambda file: ", ".join(n or "none" for n in file.bands.nodata)
    )
    strange = set(files[0].bands.dtypes) - set(TYPES)
    if strange:
        raise RasterError(f"{files[0].path}: pixels of type {', '.join(strange)} are not taken")
    one = files[0].grid.transform
    apart = [file.path for file in files if not _is_parallel(file.grid, one)]
    if apart:
        raise RasterError(
            f"{_some(apart)}: other pixels than {files[0].path} ({one.a:.10g}, {one.b:.10g}, "
            f"{one.d:.10g}, {one.e:.10g}); bring all to one grid: `gdalwarp -tr X Y -tap`"
        )


def _refuse_several_crs(files: Sequence[SourceFile]) -> None:
    """Raise unless all CRSs are one: two of one name may differ, two spellings may say the same."""
    firsts: list[pyproj.CRS] = []
    names: dict[str, str] = {}
    for crs in (file.grid.crs for file in files if file.grid.crs is not None):
        if crs.to_wkt() in names:
            continue
        number = next((i for i, first in enumerate(firsts) if first == crs), len(firsts))
        firsts += [crs] if number == len(firsts) else []
        twin = any(first.name == crs.name for first in firsts[:number])
        names[crs.to_wkt()] = f"{crs.name} ({crs.to_string()})" if twin else firsts[number].name
    _refuse_several(
        files, "CRS", lambda file: names[file.grid.crs.to_wkt()] if file.grid.crs else ""
    )


def _refuse_several(
    files: Sequence[SourceFile], what: str, kind: Callable[[SourceFile], str]
) -> None:
    kinds = Counter(map(kind, files))
    if len(kinds) == 1:
        return
    parts = [
        f"{count} of {name} ({_some([f.path for f in files if kind(f) == name])})"
        for name, count in kinds.most_common(_NAMED)
    ]
    raise RasterError(
        f"the files differ in their {what}: {'; '.join(parts)}; make a mosaic of those that agree, "
        "or bring all to one form with `gdalwarp` or `gdal_translate`"
    )


def _some(paths: Sequence[str]) -> str:
    return listed(paths, shown=_NAMED)


def _is_parallel(grid: Grid, one: Affine) -> bool:
    """Whether a grid drifts from the pixels of a transform by little, over its whole length."""
    there = ~one @ grid.transform
    sides = np.array([grid.width, grid.height])
    drift = np.abs(np.array([[there.a - 1, there.b], [there.d, there.e - 1]])) @ sides
    return bool((drift <= MOST_OFF_PX).all())


def _placed(files: Sequence[SourceFile]) -> tuple[Grid, NDArray[np.int64]]:
    """The smallest grid that holds all files, and column and row (N, 2) of each on it."""
    offsets = _offsets(files)
    first = offsets.min(axis=0)
    ends = offsets + [[file.grid.width, file.grid.height] for file in files]
    width, height = (ends.max(axis=0) - first).tolist()
    if max(width, height) > LONGEST_SIDE_PX:
        raise RasterError(
            f"the files span {width:,} x {height:,} px, more than the {LONGEST_SIDE_PX:,} that "
            "GDAL takes; does one of them lie far off the others?"
        )
    moved = files[0].grid.transform @ Affine.translation(*first.tolist())
    return Grid(width, height, moved, files[0].grid.crs), offsets - first


def _offsets(files: Sequence[SourceFile]) -> NDArray[np.int64]:
    """Columns and rows (N, 2) of each file's first pixel, from the first file's."""
    corners = np.array([[file.grid.transform.c, file.grid.transform.f] for file in files])
    exact = files[0].grid.world_to_pixel(corners)
    whole = exact.round()
    off = np.abs(exact - whole).max(axis=1)
    if off.max() > MOST_OFF_PX:
        wrong = [file.path for file, far in zip(files, off, strict=True) if far > MOST_OFF_PX]
        raise RasterError(
            f"{_some(wrong)}: up to {off.max():.2f} px off the grid of {files[0].path}, and "
            "objects would be as far off; bring all to one grid: `gdalwarp -tr X Y -tap`"
        )
    return whole.astype(np.int64)
