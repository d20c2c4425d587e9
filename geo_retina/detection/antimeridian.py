"""Polygons that meet the antimeridian or a pole, in degrees (RFC 7946, 3.1.9) and projected."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry.polygon import orient

from geo_retina.space.grid import reproject

if TYPE_CHECKING:
    import pyproj
    from numpy.typing import NDArray

_SAMPLES = 8
_SAME = 1e-6  # share of the world by which a straight line may seem bent


@lru_cache(maxsize=32)
def turn_of(crs: pyproj.CRS) -> float | None:
    """How far x runs in one turn round the world, in the units of a CRS; None where it does not.

    It does in longitude and in cylindrical projections such as Web Mercator: x is proportional to
    the longitude and says nothing of the latitude.
    """
    if crs.is_bound and crs.source_crs is not None:  # a datum shift does not bend the axes
        return turn_of(crs.source_crs)
    if crs.is_geographic:
        return round(2 * np.pi / crs.axis_info[0].unit_conversion_factor, 9)
    degrees = crs.geodetic_crs if crs.is_projected else None
    base = None if degrees is None else turn_of(degrees)
    if degrees is None or base is None:
        return None
    lon, lat = np.meshgrid((np.arange(_SAMPLES) + 0.3) * base / _SAMPLES, [0, base / 12])
    x, y = np.moveaxis(reproject(np.stack([lon, lat], -1), source=degrees, target=crs), -1, 0)
    if not np.isfinite([x, y]).all():
        return None
    steps = np.roll(x, -1, axis=1) - x  # one of each row jumps back where the projection is cut
    turn = _SAMPLES * float(np.median(steps))
    if turn == 0:
        return None
    turns_lost = np.round((steps - turn / _SAMPLES) / turn)
    bent = np.abs(steps - turn * (1 / _SAMPLES + turns_lost)).max() + np.ptp(y, axis=1).max()
    return abs(turn) if bent < _SAME * abs(turn) else None


def joined(rings: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Make x of each ring continuous.

    Args:
        rings: (N, M, 2) x, y; neighbouring corners lie less than half the world apart.
        turn: How far x runs round the world.

    Returns:
        (N, M, 2), the westernmost corner of each ring as it was, the others up to a turn east of
        it. What needs no turn keeps every digit.
    """
    x = rings[..., 0]
    turns = np.pad(np.cumsum(-np.round(np.diff(x, axis=1) / turn), axis=1), ((0, 0), (1, 0)))
    westernmost = (x + turn * turns).argmin(axis=1, keepdims=True)
    turns -= np.take_along_axis(turns, westernmost, axis=1)
    return np.stack([x + turn * turns, rings[..., 1]], axis=-1)


def unwrap(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the longitudes of each ring continuous.

    Args:
        rings: (N, M, 2) longitude, latitude in degrees; neighbouring corners lie less than half
            the world apart.

    Returns:
        (N, M, 2), the westernmost corner of each ring in [-180, 180), the others up to 360 degrees
        east of it. Longitudes that need no turn keep every digit.
    """
    whole = joined(rings, 360)
    whole[..., 0] -= 360 * np.floor((whole[..., 0].min(axis=1, keepdims=True) + 180) / 360)
    return whole


def crossing(rings: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the unwrapped (N, M, 2) rings that cross the antimeridian or go round a pole, (N,)."""
    lon = rings[..., 0]
    mask: NDArray[np.bool_] = (lon.max(axis=1) > 180) | (_turns_at_close(rings) != 0)  # noqa: PLR2004
    return mask


def cut(ring: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Cut one unwrapped (M, 2) ring at the antimeridian.

    Args:
        ring: Longitude, latitude in degrees as `unwrap` returns them. A ring that goes round a pole
            is closed over the pole.

    Returns:
        One or more rings (M, 2), not closed, counter-clockwise, longitudes within [-180, 180].
    """
    polygon = shapely.Polygon(_closed_over_pole(ring))
    west, _, east, _ = polygon.bounds
    pieces = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
        world = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        pieces.append(translate(polygon.intersection(world), xoff=-360 * turn))
    # a cap over a pole is cut twice; its pieces meet again in one world
    return [
        shapely.get_coordinates(orient(part).exterior)[:-1]
        for part in shapely.get_parts(shapely.union_all(pieces))
        if isinstance(part, shapely.Polygon) and part.area > 0
    ]


def _turns_at_close(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns of the world between the last and the first corner; not 0 where a pole is inside."""
    turns: NDArray[np.float64] = -np.round((rings[:, 0, 0] - rings[:, -1, 0]) / 360)
    return turns


def _closed_over_pole(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = float(_turns_at_close(ring[None])[0])
    if turn == 0:
        return ring
    pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
    start, end = ring[0, 0], ring[0, 0] + 360 * turn
    return np.vstack([ring, [[end, ring[0, 1]], [end, pole], [start, pole]]])
