"""Polygons in longitude and latitude that meet the antimeridian or a pole (RFC 7946, 3.1.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry.polygon import orient

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unwrap(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the longitudes of each ring continuous.

    Args:
        rings: (N, M, 2) longitude, latitude in degrees; neighbouring corners lie less than half
            the world apart.

    Returns:
        (N, M, 2), the westernmost corner of each ring in [-180, 180), the others up to 360 degrees
        east of it. Longitudes that need no turn keep every digit.
    """
    lon = rings[..., 0]
    turns = -np.round(np.diff(lon, axis=1) / 360)
    lon = lon + 360 * np.pad(np.cumsum(turns, axis=1), ((0, 0), (1, 0)))
    lon = lon - 360 * np.floor((lon.min(axis=1, keepdims=True) + 180) / 360)
    return np.stack([lon, rings[..., 1]], axis=-1)


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
