"""Detections to vector files: format by extension, as a stream, in place only when whole.

    with open_writer(path, grid=grid, class_names=names, metadata={"model": "trees"}) as writer:
        for detections in flushed:
            writer.write(detections)

A file's content follows from the sequence of detections alone, not from how it was cut into calls
of `write`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyproj

from geo_retina.detection.file_writer import FileWriter, MultiWriter
from geo_retina.detection.formats import (
    COCO,
    FLATGEOBUF,
    GEOPACKAGE,
    GEOPARQUET,
    SHAPEFILE,
    Format,
    split_extension,
)
from geo_retina.detection.paths import refuse_overwriting
from geo_retina.detection.placement import Placement
from geo_retina.detection.shapefile_crs import refuse_what_prj_lacks
from geo_retina.detection.writers.layer import Geometry, Layer
from geo_retina.errors import GeoreferenceError, OutputError
from geo_retina.imagery.georeference import horizontal
from geo_retina.space.grid import WGS84, Grid
from geo_retina.whole_files import check_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BY_GDAL = (GEOPACKAGE, FLATGEOBUF, SHAPEFILE)
_GEOPACKAGE_TABLES = ("gpkg", "rtree_", "sqlite_")

PIXEL_NOTE = "raster pixels: x to the right, y down, (0, 0) is the raster's upper left corner"
"""Stands in the metadata of files whose coordinates are not on the Earth."""


def check_output(
    path: str | Path,
    *,
    crs: str | pyproj.CRS | None = None,
    geometry: Geometry = "polygon",
) -> None:
    """Find out, before any work, whether an output can be written as asked.

    Args:
        path: Where the file shall appear.
        crs: CRS to write coordinates in; None = that of the raster, WGS 84 for GeoJSON.
        geometry: Outlines or centres.

    Raises:
        OutputError: Unknown extension, missing folder, no permission, or a request that the format
            does not allow.
    """
    path = Path(path)
    _, kind = split_extension(path)
    check_place(path)
    if kind in _BY_GDAL and "!" in str(path.resolve()):
        raise OutputError(
            f"{kind.name} cannot be written to {path.resolve()}: what follows a ! would be taken "
            "for a file in an archive; choose another name or folder, or another format"
        )
    if kind in (*_BY_GDAL, GEOPARQUET) and not _is_plain(str(path.resolve())):
        raise OutputError(
            f"{kind.name} cannot be written to {str(path.resolve())!r}: expected a path in UTF-8 "
            "without tabs and line breaks; choose another name or folder"
        )
    if geometry not in ("polygon", "point"):
        raise OutputError(f"expected geometry 'polygon' or 'point', got {geometry!r}")
    if kind is COCO and geometry != "polygon":
        raise OutputError(
            f"COCO holds boxes, not points; write {path.name} without --simplify-to point"
        )
    target = None if crs is None else _parse_crs(crs)
    if target is not None and kind.fixed_frame and (kind is COCO or not _is_wgs84(target)):
        raise OutputError(
            f"{path.name} cannot be written in {target.name}: {kind.fixed_frame}; leave the CRS "
            "out, or write .gpkg, .fgb, .parquet, .shp or .csv"
        )


def _is_plain(path: str) -> bool:
    """Whether the libraries that write find a path: they take UTF-8 and drop tabs, line breaks."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not set(path) & set("\t\n\r")


def take_crs(paths: Sequence[str | Path]) -> list[bool]:
    """Whether the CRS that a run is asked for holds for each of its outputs.

    Formats with a frame of their own (GeoJSON, COCO) keep that where another output takes the CRS.
    Where none does, it is asked of all, and `check_output` refuses.

    Raises:
        OutputError: An extension stands for no format.
    """
    is_free = [not split_extension(Path(path))[1].fixed_frame for path in paths]
    return is_free if any(is_free) else [True] * len(paths)


def open_writer(
    path: str | Path,
    *,
    grid: Grid,
    class_names: Sequence[str],
    metadata: Mapping[str, object] | None = None,
    crs: str | pyproj.CRS | None = None,
    geometry: Geometry = "polygon",
) -> FileWriter:
    """Prepare an output; nothing is touched before the `with` statement is entered.

    Of a raster without CRS, coordinates are its pixels in every format.

    Args:
        path: Where the file shall appear; an existing one is replaced at the end.
        grid: Grid of the raster that the boxes are in.
        class_names: Names of class ids 0..K-1.
        metadata: What made the file (model, options, version, `raster`), as JSON values; kept by
            every format but Shapefile, CSV and GeoJSON sequences, which have no room for it.
        crs: CRS to write coordinates in; None = that of the raster, WGS 84 for GeoJSON.
        geometry: Outlines or centres.

    Raises:
        OutputError: See `check_output`, and `refuse_what_prj_lacks` for a Shapefile.
        GeoreferenceError: `crs` is given, and the raster has none.
        ValueError: `metadata` has a value that JSON lacks (NaN).
        TypeError: `metadata` has a value of a type that JSON lacks.
    """
    path = Path(path)
    check_output(path, crs=crs, geometry=geometry)
    name, kind = split_extension(path)
    target = None if crs is None else _parse_crs(crs)
    placement = _placement(path, kind, grid=grid, crs=target)
    if kind is SHAPEFILE:
        refuse_what_prj_lacks(path.name, placement)
    notes = {"coordinates": PIXEL_NOTE} if grid.crs is None else {}
    described = json.loads(json.dumps({**(metadata or {}), **notes}, allow_nan=False))
    layer = Layer(_layer_name(name, kind), grid, tuple(class_names), described, placement, geometry)
    return FileWriter(path, kind, layer)


def open_writers(
    paths: Sequence[str | Path],
    *,
    grid: Grid,
    class_names: Sequence[str],
    metadata: Mapping[str, object] | None = None,
    crs: str | pyproj.CRS | None = None,
    geometry: Geometry = "polygon",
) -> MultiWriter:
    """Prepare several outputs of one run; arguments as for `open_writer`.

    All appear under their final names after all are whole, or none does. `crs` holds for those
    whose format lets one choose, see `take_crs`.

    Raises:
        OutputError: See `check_output`; or one path is named twice.
        GeoreferenceError: `crs` is given, and the raster has none.
    """
    refuse_overwriting([], paths)
    return MultiWriter(
        [
            open_writer(
                path,
                grid=grid,
                class_names=class_names,
                metadata=metadata,
                crs=crs if takes else None,
                geometry=geometry,
            )
            for path, takes in zip(paths, take_crs(paths), strict=True)
        ]
    )


def _layer_name(name: str, kind: Format) -> str:
    """The file's name without its extension, unless the format does not take that."""
    plain = name[0].isalnum() or name[0] == "_"
    kept_by_format = kind is GEOPACKAGE and name.lower().startswith(_GEOPACKAGE_TABLES)
    return name if plain and not kept_by_format else f"layer_{name}"


def _parse_crs(crs: str | pyproj.CRS) -> pyproj.CRS:
    try:
        return horizontal(pyproj.CRS.from_user_input(crs))
    except GeoreferenceError as error:
        raise OutputError(f"{error}: an output needs one") from error
    except pyproj.exceptions.CRSError as error:
        raise OutputError(
            f"expected a CRS such as EPSG:32633, got {crs!r} ({error}); see `projinfo` for names"
        ) from error


def _is_wgs84(crs: pyproj.CRS) -> bool:
    return bool(crs.equals(WGS84, ignore_axis_order=True))


def _placement(path: Path, kind: Format, *, grid: Grid, crs: pyproj.CRS | None) -> Placement:
    """Where the output's coordinates lie, or the error that says why they cannot."""
    if kind is COCO or (grid.crs is None and crs is None):
        return Placement.in_pixels(grid)
    if grid.crs is None and crs is not None:
        raise GeoreferenceError(
            f"the raster has no CRS, so {path.name} cannot be written in {crs.name}; assign the "
            "raster its CRS first (gdal_edit.py -a_srs)"
        )
    if kind.fixed_frame:
        return Placement(grid, WGS84, closes_poles=True)
    return Placement(grid, crs or grid.crs)
