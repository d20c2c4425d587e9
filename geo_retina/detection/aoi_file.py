"""The polygons of a vector file that draw an AOI, as the file has them."""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import shapely

from geo_retina.errors import AoiError, GeoreferenceError
from geo_retina.imagery.georeference import horizontal
from geo_retina.labels.features import PARQUET_SUFFIXES, UNREADABLE, layers_with_geometries
from geo_retina.labels.image_paths import is_elsewhere
from geo_retina.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Polygons = shapely.Polygon | shapely.MultiPolygon

SWAP_XY = "write x (east, longitude) before y (north, latitude)"
"""What to do where latitude stands before longitude."""

_MOST_DEGREES = 540.0, 100.0
"""Longitude, one turn and a half, and latitude, 90 degrees in gons, that no AOI goes beyond."""


def read_polygons(
    path: str | PathLike[str], layer: str | None
) -> tuple[Polygons, pyproj.CRS | None]:
    """Union of all polygons of a file, repaired with a warning, and its CRS.

    Tens of thousands of polygons take seconds to unite: of many rasters, they are read for the
    first one.

    Args:
        path: Any vector format that GDAL reads, or GeoParquet; also a URL, or a path in an archive
            (`/vsizip/...`).
        layer: Which layer of a file that has several.

    Raises:
        AoiError: The file is missing, no vector file, has several layers and none was named, lacks
            the one that was, has no polygon, or is in degrees that can be none.
    """
    file = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
    path = Path(file)
    if is_elsewhere(file):
        return _read_polygons(file, layer)
    if not path.exists():
        raise AoiError(f"expected an AOI file at {file}, found none; check the path")
    if path.suffix.lower() == ".vrt":  # says nothing of when the files change that it names
        return _read_polygons(file, layer)
    try:
        folder = path if path.is_dir() else path.parent
        stamp = tuple(
            (one.name, *_version(one.stat()))
            for one in sorted(os.scandir(folder), key=lambda one: one.name)
            if folder == path or one.name.startswith(f"{path.stem}.")
            if one.is_file()  # no link that leads nowhere
        )
        stamp = ((str(path.absolute()), *_version(path.stat())), *stamp)
    except OSError:  # what lies beside it came or went, or may not be listed
        return _read_polygons(file, layer)
    return _read_once(file, layer, stamp)


def files_of_aoi(path: str) -> list[str]:
    """Files that are read for an AOI, as far as an output could take the place of one.

    Args:
        path: An AOI that `read_polygons` could read: a file, a folder of Shapefiles or CSV files,
            an OGR VRT, or a file after the name of its driver (`GPKG:stands.gpkg`).
    """
    file = Path(path)
    if file.is_dir():
        return [str(one) for one in file.iterdir() if one.suffix.lower() in (".shp", ".csv")]
    if file.suffix.lower() == ".vrt" and file.is_file():
        try:
            named = ET.parse(file).iter("SrcDataSource")  # noqa: S314  GDAL has read it
        except ET.ParseError:  # GDAL forgives more
            return [path]
        return [path, *(str(_source(one, file.parent)) for one in named)]
    return [path if file.exists() else re.sub(r"^\w{2,}:(?!//)", "", path)]


def _source(named: ET.Element, folder: Path) -> Path:
    path = (named.text or "").strip()
    return folder / path if named.get("relativeToVRT") == "1" else Path(path)


def _version(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced, whatever its date and size say."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


@lru_cache(maxsize=1)
def _read_once(
    path: str, layer: str | None, _stamp: tuple[object, ...]
) -> tuple[Polygons, pyproj.CRS | None]:
    return _read_polygons(path, layer)


def _read_polygons(path: str, layer: str | None) -> tuple[Polygons, pyproj.CRS | None]:
    is_parquet = Path(path).suffix.lower() in PARQUET_SUFFIXES
    geometries, crs = (_parquet_shapes if is_parquet else _layer_shapes)(path, layer)
    crs = None if crs is None else _on_the_ground(path, crs)
    present = [one for one in geometries if one]
    if crs is not None and crs.is_geographic and present:
        _refuse_metres(path, crs, shapely.total_bounds(present))
    valid = shapely.is_valid(present)
    broken = [
        one
        for one, whole in zip(present, valid, strict=True)
        if not whole and not only_polygons(one).is_empty
    ]
    if broken:
        _log.warning(
            "the AOI %s: %d of %d shapes cross or touch themselves (%s) and were repaired; check "
            "what they enclose",
            path,
            len(broken),
            len(present),
            shapely.is_valid_reason(broken[0]),
        )
    mended = np.array(present, dtype=object)
    mended[~valid] = shapely.make_valid(mended[~valid])
    union = shapely.union_all([only_polygons(one) for one in mended])
    if union.is_empty:
        raise AoiError(
            f"expected polygons in the AOI {path}, found {counted(len(geometries), 'feature')} and "
            "no polygon with an area; draw the AOI as polygons"
        )
    return only_polygons(union), crs


def _layer_shapes(path: str, layer: str | None) -> tuple[NDArray[np.object_], pyproj.CRS | None]:
    """Geometries, some of them None, of a file that GDAL reads, and its CRS."""
    import pyogrio

    try:
        layer = _layer(path, layer)
        meta, _, shapes, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise AoiError(
            f"expected a vector file such as .geojson, .gpkg or .shp as AOI, got {path} ({error})"
        ) from error
    crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    return shapely.from_wkb(shapes if shapes is not None else np.array([], dtype=object)), crs


def _parquet_shapes(path: str, layer: str | None) -> tuple[NDArray[np.object_], pyproj.CRS | None]:
    """The same of GeoParquet, which GDAL in wheels cannot read."""
    import geopandas as gpd

    if layer is not None:
        raise AoiError(f"the AOI {path} is GeoParquet, which has no layers; leave --aoi-layer out")
    try:
        frame = gpd.read_parquet(path)
    except UNREADABLE as error:
        raise AoiError(f"expected GeoParquet as AOI, got {path} ({error})") from error
    return shapely.force_2d(frame.geometry.to_numpy()), frame.crs


def _on_the_ground(path: str, crs: pyproj.CRS) -> pyproj.CRS:
    """A CRS without its heights, or the error that says that it has nothing but them."""
    try:
        return horizontal(crs)
    except GeoreferenceError as error:
        raise AoiError(
            f"the AOI {path} says that it is in {crs.name}, which has no horizontal plane; state "
            f"the CRS it was drawn in: `ogr2ogr -a_srs EPSG:<code> aoi.gpkg {path}`"
        ) from error


def _refuse_metres(path: str, crs: pyproj.CRS, bounds: NDArray[np.float64]) -> None:
    """Raise for a CRS in degrees whose coordinates cannot be degrees."""
    furthest = np.abs(bounds).reshape(2, 2).max(axis=0)  # (x, y)
    if (furthest > _MOST_DEGREES).any():
        west, south, east, north = bounds
        if (furthest[::-1] <= _MOST_DEGREES).all():
            raise AoiError(
                f"the AOI {path} is in degrees, but its y runs from {south:,.12g} to "
                f"{north:,.12g}: latitude seems to stand before longitude; {SWAP_XY}"
            )
        raise AoiError(
            f"the AOI {path} says that it is in degrees ({crs.name}; a GeoJSON that names no CRS "
            f"is), but its x runs from {west:,.12g} to {east:,.12g} and its y from {south:,.12g} "
            f"to {north:,.12g}; state the CRS it was drawn in: `ogr2ogr -a_srs EPSG:<code> "
            f"aoi.gpkg {path}`"
        )


def _layer(path: str, wanted: str | None) -> str:
    """The layer that was named, or the only one."""
    names = layers_with_geometries(path)
    if wanted is not None and wanted not in names:
        raise AoiError(
            f"the AOI {path} has no layer {wanted!r} with geometries; it has "
            f"{', '.join(names) or 'none'}"
        )
    if wanted is not None:
        return wanted
    if len(names) > 1:
        raise AoiError(
            f"expected one layer in the AOI {path}, got {', '.join(names)}; say which with "
            "--aoi-layer NAME (in Python aoi_layer)"
        )
    if not names:
        raise AoiError(f"expected polygons in the AOI {path}, found no layer with geometries")
    return names[0]


def only_polygons(geometry: shapely.Geometry) -> Polygons:
    """The parts of a geometry that have an area."""
    if isinstance(geometry, shapely.Polygon | shapely.MultiPolygon):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.MultiPolygon([part for part in parts if isinstance(part, shapely.Polygon)])
