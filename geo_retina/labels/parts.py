"""Features of several parts: which parts are one object, and which are objects of their own."""

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    import geopandas as gpd

_MULTIPOINT, _MULTIPOLYGON = 4, 6
_NEAR = 0.1
"""Polygons with a gap under this share of the larger one's side are parts of one object."""
_HALF_TURN = 180.0


def separate_objects(
    frame: "gpd.GeoDataFrame",
) -> tuple["gpd.GeoDataFrame", NDArray[np.int64]]:
    """Make each object of a feature with several parts a feature of its own.

    Each point of a MultiPoint is an object. Polygons of a MultiPolygon are one object where they
    touch or nearly do, with a gap under a tenth of the larger one's side (the square root of the
    area of its bounds); others are objects of their own.

    Args:
        frame: Features; not changed.

    Returns:
        The features, in their order and with their index, and the row (M,) of `frame` that each
        comes from.
    """
    shapes = frame.geometry.to_numpy()
    kinds = shapely.get_type_id(shapes)
    rows = np.arange(len(frame))
    points = kinds == _MULTIPOINT
    several = (kinds == _MULTIPOLYGON) & (shapely.get_num_geometries(shapes) > 1)
    if not (points | several).any():
        return frame, rows
    single_points, of_point = shapely.get_parts(shapes[points], return_index=True)
    polygons, of_polygon = _joined(shapes[several], turns=_turns(frame))
    whole = ~(points | several)
    origin = np.concatenate([rows[whole], rows[points][of_point], rows[several][of_polygon]])
    order = np.argsort(origin, kind="stable")
    found = np.concatenate([shapes[whole], single_points, polygons])[order]
    origin = origin[order]
    return frame.iloc[origin].set_geometry(found, crs=frame.crs), origin


def _turns(frame: "gpd.GeoDataFrame") -> bool:
    """Whether x is a longitude, which goes on at -180 behind 180."""
    return frame.crs is not None and bool(frame.crs.is_geographic)


def _joined(
    shapes: NDArray[np.object_], *, turns: bool
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """MultiPolygons of parts that are near each other, and the one of `shapes` each is of."""
    parts, owners = shapely.get_parts(shapes, return_index=True)
    filled = ~shapely.is_empty(parts)
    parts, owners = parts[filled], owners[filled]
    if not len(parts):
        return parts, owners
    places = _unwrapped(parts, owners) if turns else parts
    groups = _groups(places, owners)
    order = np.argsort(groups, kind="stable")
    _, first, numbers = np.unique(groups[order], return_index=True, return_inverse=True)
    joined: NDArray[Any] = np.asarray(shapely.multipolygons(parts[order], indices=numbers))
    return joined, owners[order][first]


def _unwrapped(parts: NDArray[np.object_], owners: NDArray[np.int64]) -> NDArray[np.object_]:
    """Parts in longitude and latitude, side by side also where the antimeridian cuts a feature."""
    west, _, east, _ = shapely.bounds(parts).T
    ends = np.full((owners.max() + 1, 2), [np.inf, -np.inf])
    np.minimum.at(ends[:, 0], owners, west)
    np.maximum.at(ends[:, 1], owners, east)
    moved = (np.ptp(ends, axis=1)[owners] > _HALF_TURN) & (east < 0)
    turned: NDArray[Any] = parts.copy()
    turned[moved] = shapely.transform(parts[moved], lambda points: points + np.array([360.0, 0]))
    return turned


def _groups(parts: NDArray[np.object_], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the group of near parts of one owner that each part belongs to, (N,)."""
    left, low, right, high = shapely.bounds(parts).T
    reach = _NEAR * np.sqrt((right - left) * (high - low))
    first, second = shapely.STRtree(parts).query(parts, predicate="dwithin", distance=reach)
    own = owners[first] == owners[second]
    parents = np.arange(len(parts))
    for one, other in zip(first[own].tolist(), second[own].tolist(), strict=True):
        here, there = _root(parents, one), _root(parents, other)
        parents[max(here, there)] = min(here, there)
    return np.array([_root(parents, part) for part in range(len(parts))], dtype=np.int64)


def _root(parents: NDArray[np.int64], part: int) -> int:
    while parents[part] != part:
        parents[part] = parents[parents[part]]
        part = int(parents[part])
    return part
