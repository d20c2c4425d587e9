"""Raster files side by side as one raster: a VRT, GDAL's list of where each file lies.

No pixel is copied or resampled, so only files of one grid fit together: the same CRS, pixel size
and orientation, a whole number of pixels apart. Who reads the mosaic sees no border between them.
"""

import os
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
from geo_retina.space.grid import Grid
from geo_retina.whole_files import check_place, whole_file

if TYPE_CHECKING:
    import pyproj

MOST_OFF_PX = 0.05
"""How far a file may lie off the common grid; further, and boxes would be off as much."""

LONGEST_SIDE_PX = 2**31 - 1
"""GDAL counts columns and rows in 32 bits."""

_NAMED = 3  # files that an error names of each kind

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
"""GDAL's names of data types."""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """What was put together."""

    files: int
    """How many."""
    grid: Grid
    """The smallest that holds them all."""
    covered: float
    """Share of the grid that files lie on, in (0, 1]."""


@dataclass(frozen=True, slots=True)
class _Bands:
    """What all files of a mosaic must have in common besides their grid."""

    dtypes: tuple[str, ...]
    nodata: tuple[str | None, ...]
    """As text, for NaN is not equal to itself; None where a band has none."""
    colours: tuple[str, ...]
    descriptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    source: str
    """How GDAL calls it: a URL as `/vsicurl/...`."""
    grid: Grid
    bands: _Bands
    block_shape: tuple[int, int]
    is_masked: bool
    """Whether there is a mask other than alpha and nodata."""


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
        out: Where to write, `.vrt`; what stands there is replaced.
        crs: CRS to assign to files that have none.
        on_progress: Called after each file with the number done and that of all.

    Raises:
        RasterError: There is no file, one cannot be opened, or they do not fit together.
        OutputError: The folder of `out` is missing or may not be written in.
        GeoreferenceError: A file's georeference is broken.
    """
    if out.suffix.lower() != ".vrt":
        raise RasterError(f"expected a mosaic that ends in .vrt, got {out}")
    check_place(out)
    files = [file for file in files if Path(file).resolve() != out.resolve()]
    if not files:
        raise RasterError("expected raster files to put together, got none")
    found = []
    for number, path in enumerate(files, start=1):
        with open_raster(path, crs=crs) as raster:
            if out.exists() and out.resolve() in map(_resolved, raster.files):
                raise RasterError(f"{out} is a part of {path}; choose another output")
            found.append(_described(raster))
        on_progress(number, len(files))
    found = _with_nan(found)
    _refuse_different(found)
    grid, places = _placed(found)
    sides = np.array([[file.grid.width, file.grid.height] for file in found])
    ground = shapely.union_all(shapely.box(*places.T, *(places + sides).T))
    covered = float(ground.area) / (grid.width * grid.height)
    overlapping = float(sides.prod(axis=1).sum()) > float(ground.area)
    tree = _vrt(found, places, grid, out.parent, has_gaps=covered < 1, has_overlaps=overlapping)
    ET.indent(tree)
    with whole_file(out, error=OutputError) as file:
        ET.ElementTree(tree).write(file, encoding="utf-8")
    return Mosaic(len(found), grid, covered)


def _described(raster: Raster) -> _File:
    flags = raster.mask_flags[0]
    is_masked = not flags & {"all_valid", "alpha", "nodata"}
    nodata = tuple(
        _nodata_text(value, dtype)
        for value, dtype in zip(raster.nodata, raster.dtypes, strict=True)
    )
    return _File(
        raster.path,
        _name_for_gdal(raster),
        raster.grid,
        _Bands(raster.dtypes, nodata, raster.colours, raster.descriptions),
        raster.block_shape,
        is_masked,
    )


def _resolved(path: str) -> Path:
    return Path(path).resolve()


def _with_nan(files: list[_File]) -> list[_File]:
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


def _refuse_different(files: Sequence[_File]) -> None:
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
    strange = set(files[0].bands.dtypes) - set(_TYPES)
    if strange:
        raise RasterError(f"{files[0].path}: pixels of type {', '.join(strange)} are not taken")
    one = files[0].grid.transform
    apart = [file.path for file in files if not _is_parallel(file.grid, one)]
    if apart:
        raise RasterError(
            f"{_some(apart)}: other pixels than {files[0].path} ({one.a:.10g}, {one.b:.10g}, "
            f"{one.d:.10g}, {one.e:.10g}); bring all to one grid: `gdalwarp -tr X Y -tap`"
        )


def _refuse_several_crs(files: Sequence[_File]) -> None:
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


def _refuse_several(files: Sequence[_File], what: str, kind: Callable[[_File], str]) -> None:
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
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_parallel(grid: Grid, one: Affine) -> bool:
    """Whether a grid drifts from the pixels of a transform by little, over its whole length."""
    there = ~one @ grid.transform
    sides = np.array([grid.width, grid.height])
    drift = np.abs(np.array([[there.a - 1, there.b], [there.d, there.e - 1]])) @ sides
    return bool((drift <= MOST_OFF_PX).all())


def _placed(files: Sequence[_File]) -> tuple[Grid, NDArray[np.int64]]:
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


def _offsets(files: Sequence[_File]) -> NDArray[np.int64]:
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


def _vrt(
    files: Sequence[_File],
    places: NDArray[np.int64],
    grid: Grid,
    folder: Path,
    *,
    has_gaps: bool,
    has_overlaps: bool,
) -> ET.Element:
    """The VRT's tree: its grid, its bands, and a mask where gaps and masks of files need one.

    A band tagged alpha may be an infrared one: it decides which file shows, where they overlap, but
    gaps are told by a mask of their own.
    """
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    _add(root, "SRS", grid.crs.to_wkt() if grid.crs else "")
    transform = ", ".join(repr(float(value)) for value in grid.transform.to_gdal())
    _add(root, "GeoTransform", transform)
    placed = list(zip(files, places, strict=True))
    bands = files[0].bands
    has_alpha, is_masked = "alpha" in bands.colours, any(file.is_masked for file in files)
    for band, (dtype, nodata) in enumerate(zip(bands.dtypes, bands.nodata, strict=True), start=1):
        node = ET.SubElement(root, "VRTRasterBand", dataType=_TYPES[dtype], band=str(band))
        _describe_band(node, files[0], band)
        for file, place in placed:
            source = _add_source(node, file, place, folder, band=str(band), dtype=dtype)
            if has_overlaps and (has_alpha or is_masked):
                _add(source, "UseMaskBand", "true")
            elif nodata is not None:
                _add(source, "NODATA", nodata)
    if is_masked or (has_gaps and None in bands.nodata):
        node = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for file, place in placed:
            band_read = "mask,1" if is_masked else "1"
            source = _add_source(node, file, place, folder, band=band_read, dtype="uint8")
            if is_masked:
                _add(source, "UseMaskBand", "true")
            else:  # 255 whatever the pixel holds
                _add(source, "ScaleOffset", "255")
                _add(source, "ScaleRatio", "0")
    return root


def _describe_band(node: ET.Element, file: _File, band: int) -> None:
    """Name, nodata value and colour of a band, as a file has them."""
    nodata, colour = file.bands.nodata[band - 1], file.bands.colours[band - 1]
    if file.bands.descriptions[band - 1]:
        _add(node, "Description", file.bands.descriptions[band - 1])
    if nodata is not None:
        _add(node, "NoDataValue", nodata)
    if colour != "undefined":
        _add(node, "ColorInterp", colour.capitalize())


def _add_source(
    node: ET.Element,
    file: _File,
    place: NDArray[np.int64],
    folder: Path,
    *,
    band: str,
    dtype: str,
) -> ET.Element:
    source = ET.SubElement(node, "ComplexSource")
    path, is_relative = _written_path(file.source, folder)
    _add(source, "SourceFilename", path).set("relativeToVRT", str(int(is_relative)))
    _add(source, "SourceBand", band)
    width, height = str(file.grid.width), str(file.grid.height)
    rows, columns = file.block_shape
    ET.SubElement(  # with these GDAL opens a file only when it is read
        source,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType=_TYPES[dtype],
        BlockXSize=str(columns),
        BlockYSize=str(rows),
    )
    x, y = map(str, place.tolist())
    ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    ET.SubElement(source, "DstRect", xOff=x, yOff=y, xSize=width, ySize=height)
    return source


def _written_path(path: str, folder: Path) -> tuple[str, bool]:
    """A path as the VRT holds it, and whether that is relative to the VRT's folder."""
    if not Path(path).exists():
        return path, False
    absolute = Path(path).absolute()
    if absolute.is_relative_to(folder.absolute()):
        return os.fspath(absolute.relative_to(folder.absolute())), True
    return os.fspath(absolute), False


def _add(node: ET.Element, name: str, text: str) -> ET.Element:
    child = ET.SubElement(node, name)
    child.text = text
    return child
