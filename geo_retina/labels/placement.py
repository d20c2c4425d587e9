"""Where the features of a vector file lie on a raster."""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.labels.crs_fit import fitting_crs
from geo_retina.labels.ground import to_lon_lat
from geo_retina.labels.labels import Labels
from geo_retina.space.grid import WGS84, Grid, reproject
from geo_retina.wording import counted, fid_list

if TYPE_CHECKING:
    import geopandas as gpd

_log = logging.getLogger(__name__)

FAR_M = 1000.0
"""Labels further from every raster than this are taken for a mistake, not for empty rasters."""

_DEGREES = (180, 90)
"""Largest longitude and latitude."""

POLYGONS = (3, 6)
"""Type ids of shapely's Polygon and MultiPolygon."""


def features_near(
    frame: "gpd.GeoDataFrame",
    grids: Sequence[Grid],
    *,
    source: str,
    assign: str = "pass crs (--labels-crs, of detections --detections-crs, crs in a recipe), such "
    "as EPSG:4326",
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.object_]]]:
    """Find the features on or near each raster.

    Features are reprojected once for each CRS, not once for each raster: there may be many of both.

    Args:
        frame: Features; for a raster without CRS, their coordinates are its pixels.
        grids: Of the rasters.
        source: What to call the features in errors.
        assign: What to do about features without CRS, for the error's text.

    Yields:
        Position in `grids`, CRS by CRS; rows (N,) of `frame` whose bounds meet those of the raster,
        rising; their geometries (N,) of shapely in the raster's pixels.

    Raises:
        LabelError: The features have no CRS while a grid has one, or nothing leads from the one
            to the other.
    """
    by_crs: dict[str | None, list[int]] = {}
    for number, grid in enumerate(grids):
        by_crs.setdefault(None if grid.crs is None else grid.crs.to_wkt(), []).append(number)
    for numbers in by_crs.values():
        world = _world_frame(frame, grids[numbers[0]], source=source, assign=assign)
        for number in numbers:
            rows = world.sindex.query(shapely.polygons(grids[number].corners), sort=True)
            flat = shapely.force_2d(world.geometry.to_numpy()[rows])
            yield number, rows, shapely.transform(flat, grids[number].world_to_pixel)


def _world_frame(
    frame: "gpd.GeoDataFrame", grid: Grid, *, source: str, assign: str
) -> "gpd.GeoDataFrame":
    """Features in the CRS of `grid`; as they are where it has none."""
    if grid.crs is None:
        return frame  # coordinates are pixels of the raster
    if frame.crs is None:
        fit = fitting_crs(_middles(frame), [grid])
        hint = "" if fit is None else f"; the coordinates would fit the raster as {fit.name}"
        if fit is not None and not fit.is_crs:
            raise LabelError(f"{source}: states no CRS{hint}: {fit.remedy}")
        raise LabelError(f"{source}: states no CRS; {assign}{hint}")
    try:
        return frame if frame.crs == grid.crs else frame.to_crs(grid.crs)
    except pyproj.exceptions.ProjError as error:
        raise LabelError(
            f"{source}: nothing leads from {frame.crs.name} to {grid.crs.name}, the CRS of the "
            "raster: bring both into one CRS first"
        ) from error


def areas_on(frame: "gpd.GeoDataFrame", grids: Sequence[Grid]) -> list[MultiPolygon]:
    """The annotated area on each of some rasters: the union of the frame's polygons, in pixels.

    Raises:
        LabelError: There is no polygon, all miss the rasters, or the frame has no CRS while a grid
            has one.
    """
    if not np.isin(shapely.get_type_id(frame.geometry.to_numpy()), POLYGONS).any():
        raise LabelError("the annotated area must hold polygons, found none")
    assign = "assign it one (ogr2ogr -a_srs EPSG:4326)"
    areas = [MultiPolygon()] * len(grids)
    for number, _, flat in features_near(frame, grids, source="the annotated area", assign=assign):
        areas[number] = _within(flat, grids[number])
    if areas and all(area.is_empty for area in areas):
        raise LabelError(
            "the annotated area lies on none of the rasters: expected polygons over their ground; "
            "check its CRS"
        )
    return areas


def _within(shapes: NDArray[np.object_], grid: Grid) -> MultiPolygon:
    """Union of polygons in pixels, cut at the raster's edge; empty where they miss it."""
    merged = shapely.union_all(shapely.make_valid(shapes))
    inside = shapely.intersection(merged, shapely.box(0, 0, grid.width, grid.height))
    return MultiPolygon([part for part in shapely.get_parts(inside) if isinstance(part, Polygon)])


def refuse_far(frame: "gpd.GeoDataFrame", grids: Sequence[Grid], *, source: str) -> None:
    """Complain about features of which none lies on a raster; they must be some.

    Raises:
        LabelError: They lie more than `FAR_M` from every raster; says which CRS would fit.
    """
    referenced = [grid for grid in grids if grid.crs is not None]
    if not referenced:
        raise LabelError(
            f"{source}: no feature lies on a raster; the rasters have no CRS, so that coordinates "
            "must be their pixels, y down. If a CRS is all that they lack, give them one: "
            "`geo-retina mosaic FILE -o FILE.vrt --raster-crs EPSG:<code>` (nothing is copied)"
        )
    try:
        metres = min(_distance_m(frame, grid) for grid in referenced)
    except GeoreferenceError as error:
        raise LabelError(
            f"{source}: no feature lies on a raster; is it the right raster?"
        ) from error
    if metres <= FAR_M:
        _log.warning("%s: no feature lies on the raster, the nearest %.0f m away", source, metres)
        return
    fit = fitting_crs(_middles(frame), referenced)
    hint = (
        "; is it the right raster?"
        if fit is None
        else f"; as {fit.name} the coordinates would fit: {fit.remedy}"
    )
    where = (
        f"in which the nearest feature lies {metres / 1000:,.1f} km away from the raster"
        if np.isfinite(metres)
        else "of which its coordinates are none"
    )
    raise LabelError(f"{source}: states the CRS {frame.crs.name}, {where}{hint}")


def tell_of_strays(frame: "gpd.GeoDataFrame", labels: Sequence[Labels], *, source: str) -> None:
    """Warn of features that lie on none of the rasters, so that nobody misses them unseen."""
    found = [fid for item in labels if item.fids is not None for fid in item.fids]
    strays = frame.index[~frame.index.isin(found)]
    if len(strays):
        _log.warning(
            "%s: left out %d of %s, which lie on none of the rasters (%s)",
            source, len(strays), counted(len(frame), "feature"), fid_list(strays),
        )  # fmt: skip


def tell_of_degrees(frame: "gpd.GeoDataFrame", grids: Sequence[Grid], *, source: str) -> None:
    """Warn of coordinates that are taken for pixels and may be longitude and latitude."""
    larger = any(
        grid.crs is None and grid.width > _DEGREES[0] and grid.height > _DEGREES[1]
        for grid in grids
    )
    if not larger or not len(frame):
        return
    reach = np.abs(frame.total_bounds.reshape(2, 2)).max(axis=0)
    if (reach <= _DEGREES).all():
        _log.warning(
            "%s: all coordinates lie within 180 and 90 and are taken for pixels, as the raster has "
            "no CRS; if they are longitude and latitude, give the raster its CRS: `geo-retina "
            "mosaic FILE -o FILE.vrt --raster-crs EPSG:<code>` (nothing is copied)", source,
        )  # fmt: skip


def _distance_m(frame: "gpd.GeoDataFrame", grid: Grid) -> float:
    """Metres from the raster's centre to the nearest feature's middle, less the half diagonal."""
    ends = np.array([[0.0, 0.0], [grid.width / 2, grid.height / 2]])
    lon, lat = to_lon_lat(grid, ends).T
    to_lon, to_lat = reproject(_middles(frame), source=frame.crs, target=WGS84).T
    known = np.isfinite(to_lon) & np.isfinite(to_lat) & (np.abs(to_lat) <= 90)  # noqa: PLR2004
    if not known.any():
        return float("inf")
    geod = pyproj.Geod(ellps="WGS84")
    _, _, radius = geod.inv(lon[0], lat[0], lon[1], lat[1])
    count = int(known.sum())
    away = geod.inv(np.full(count, lon[1]), np.full(count, lat[1]), to_lon[known], to_lat[known])[2]
    return max(float(np.min(away)) - float(radius), 0.0)


def _middles(frame: "gpd.GeoDataFrame") -> NDArray[np.float64]:
    bounds = frame.bounds.to_numpy()
    middle: NDArray[np.float64] = (bounds[:, :2] + bounds[:, 2:]) / 2
    return middle
