"""Where rasters lie on the Earth, in metres: footprints, distances, and squares of ground."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from geo_retina.errors import GeoreferenceError
from geo_retina.space.grid import WGS84, Grid, reproject

METRES_PER_DEGREE = 111_320.0
"""Of latitude, near enough for laying out blocks."""

_LAST_ROW_LATITUDE = 89.0
_TURN = 360.0
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A square of ground in a division of the whole Earth, the same for every data set."""

    row: int
    """Northwards from the equator."""
    column: int
    """Eastwards from Greenwich; a turn around the Earth further it is the same block."""
    size_m: float

    @property
    def key(self) -> str:
        """Text that stands for this block, whatever the data."""
        return f"block {self.size_m:g} m {self.row} {self.column % _columns(self.row, self.size_m)}"

    def ring(self) -> NDArray[np.float64]:
        """(4, 2) longitude and latitude of the corners."""
        height = self.size_m / METRES_PER_DEGREE
        width = _width(self.row, self.size_m)
        south, west = self.row * height, self.column * width
        return np.array(
            [
                [west, south],
                [west + width, south],
                [west + width, south + height],
                [west, south + height],
            ]
        )


def block_at(lon: float, lat: float, *, size_m: float) -> Block:
    """The block that holds a point. Blocks stand in rows of equal latitude, nearly square."""
    row = math.floor(lat * METRES_PER_DEGREE / size_m)
    width = _width(row, size_m)
    return Block(row, math.floor(lon / width), size_m)


def blocks_over(ring: NDArray[np.float64], *, size_m: float, margin_m: float) -> list[Block]:
    """Blocks that a footprint may touch if it is widened by a margin.

    Args:
        ring: (N, 2) longitude and latitude of its corners.
        size_m: Side of a block, metres.
        margin_m: Metres around it.
    """
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    up = margin_m / METRES_PER_DEGREE
    aside = up / max(math.cos(math.radians(max(abs(south), abs(north)))), 1e-3)
    first = block_at(west, south - up, size_m=size_m).row
    last = block_at(west, north + up, size_m=size_m).row
    found = []
    for row in range(first, last + 1):
        width = _width(row, size_m)
        columns = range(math.floor((west - aside) / width), math.floor((east + aside) / width) + 1)
        found += [Block(row, column, size_m) for column in columns]
    return found


def to_lon_lat(grid: Grid, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Longitude and latitude (..., 2) of pixel points of a raster.

    Raises:
        GeoreferenceError: The grid has no CRS, or a local one, which is not tied to the Earth.
    """
    if grid.crs is None:
        raise GeoreferenceError("a raster without CRS has no place on the Earth")
    return reproject(grid.pixel_to_world(points), source=grid.crs, target=WGS84)


def footprint(grid: Grid, area: BaseGeometry | None) -> BaseGeometry:
    """Polygon of a georeferenced raster, or of its labelled area, in longitude and latitude.

    Across the antimeridian longitudes go on beyond 180.

    Raises:
        GeoreferenceError: See `to_lon_lat`.
    """
    shape = shapely.box(0, 0, grid.width, grid.height) if area is None else area

    def without_leaps(points: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = to_lon_lat(grid, points).T
        return np.stack([np.unwrap(lon, period=_TURN), lat], axis=-1)

    moved: BaseGeometry = shapely.transform(shape, lambda points: to_lon_lat(grid, points))
    if np.ptp(moved.bounds[::2]) <= _TURN / 2:
        return moved
    # across the antimeridian, or wider than half the Earth: steps along the outline tell which
    stepped = shapely.segmentize(shape, max(grid.width, grid.height) / _STEPS)
    moved = shapely.transform(stepped, without_leaps)
    return translate(moved, _TURN) if moved.bounds[0] < -_TURN / 2 else moved


def known_footprint(grid: Grid, area: BaseGeometry | None) -> BaseGeometry | None:
    """`footprint`, or None: no CRS, a local one, one not valid there, or ground around a pole."""
    try:
        with np.errstate(invalid="ignore"):
            return footprint(grid, area)
    except (GeoreferenceError, GEOSException):  # the latter: its outline is not closed
        return None


def in_metres(shape: BaseGeometry, *, centre: tuple[float, float]) -> BaseGeometry:
    """Project longitude and latitude to metres east and north of `centre` (lon, lat).

    Azimuthal equidistant: right near the centre, which is where it is used.
    """
    transformer = _to_metres(centre)

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transformer.transform(points[:, 0], points[:, 1]), axis=-1)

    moved: BaseGeometry = shapely.transform(shape, project)
    return moved


@lru_cache(maxsize=8)
def _to_metres(centre: tuple[float, float]) -> pyproj.Transformer:
    local = pyproj.CRS.from_dict({"proj": "aeqd", "lon_0": centre[0], "lat_0": centre[1]})
    return pyproj.Transformer.from_crs(WGS84, local, always_xy=True)


def pixel_to_ground(grid: Grid) -> NDArray[np.float64]:
    """(2, 2) metres on the ground that a step of one pixel along x and along y (columns) makes.

    Rows are east and north, at the raster's centre, so that turned, sheared and flipped grids and
    those in degrees keep their angles.

    Raises:
        GeoreferenceError: See `Grid.gsd_m`.
    """
    metres = grid.gsd_m()
    centre = np.array([grid.width / 2, grid.height / 2])
    lon, lat = to_lon_lat(grid, centre + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).T
    azimuth, _, _ = pyproj.Geod(ellps="WGS84").inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
    turned = np.radians(azimuth)
    steps: NDArray[np.float64] = np.stack([np.sin(turned), np.cos(turned)]) * np.array(metres)
    return steps


def distances_m(point: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres from one longitude, latitude (2,) to others (N, 2), on the sphere."""
    lon, lat = np.radians(point)
    lons, lats = np.radians(others).T
    half = np.sin((lats - lat) / 2) ** 2
    half += np.cos(lat) * np.cos(lats) * np.sin((lons - lon) / 2) ** 2
    return np.asarray(2 * 6_371_008.8 * np.arcsin(np.sqrt(np.clip(half, 0, 1))), np.float64)


def _columns(row: int, size_m: float) -> int:
    """Blocks of a row around the Earth."""
    height = size_m / METRES_PER_DEGREE
    middle = min(abs(row + 0.5) * height, _LAST_ROW_LATITUDE)
    return max(round(360 * math.cos(math.radians(middle)) / height), 1)


def _width(row: int, size_m: float) -> float:
    """Width of a row's blocks, degrees."""
    return 360 / _columns(row, size_m)
