"""The AOI: the polygons that limit the work, in the raster's pixel frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.affinity import translate

from geo_retina.detection import antimeridian
from geo_retina.detection.aoi_file import SWAP_XY, Polygons, only_polygons, read_polygons
from geo_retina.errors import AoiError, GeoreferenceError
from geo_retina.space import boxes as box_arrays
from geo_retina.space.grid import Grid, reproject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyproj
    from numpy.typing import NDArray

    from geo_retina.space.windows import Window

OUTLINE_TOLERANCE_PX = 0.1
"""How far a reprojected edge may stray from its true course, in pixels."""

_POINTS_PER_SIDE = 65
_FIRST_PIECES = 32
_MOST_HALVINGS = 12
_CLIP_MARGIN = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Aoi:
    """Where to work. Empty is a value: the AOI may lie outside the raster."""

    geometry: Polygons
    """Valid, in raster pixels (x right, y down), within the raster; empty where none of it is."""
    _parts: shapely.STRtree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = shapely.get_parts(self.geometry)
        shapely.prepare([self.geometry, *parts])
        object.__setattr__(self, "_parts", shapely.STRtree(parts))

    @property
    def is_empty(self) -> bool:
        """No part of the raster lies in the AOI: there is nothing to detect."""
        return bool(self.geometry.is_empty)

    def touches(self, window: Window) -> bool:
        """Whether any part of the window lies in the AOI or on its edge."""
        box = shapely.box(*window.box)
        near = self._parts.geometries[self._parts.query(box)]  # of many parts, few
        return bool(shapely.intersects(near, box).any())

    def contains_centres(self, boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Mark the boxes whose centre lies in the AOI or on its edge.

        Args:
            boxes: (N, 4) pixel edges in the raster's frame.

        Returns:
            (N,) mask.
        """
        centres = box_arrays.centres(boxes)
        mask: NDArray[np.bool_] = shapely.intersects_xy(self.geometry, centres[:, 0], centres[:, 1])
        return mask


def read_aoi(path: str | Path, grid: Grid, *, layer: str | None = None) -> Aoi:
    """Read all polygons of a vector file and bring them into the raster's pixel frame.

    Edges are straight in the file's CRS, as its format says; they are divided before they are
    reprojected, so that they stay on their course to `OUTLINE_TOLERANCE_PX`. Invalid polygons are
    repaired with a warning, lines and points passed over. A file and a raster that both lack a CRS
    are taken to share one frame.

    Args:
        path: Any vector format that GDAL reads, in any CRS; also its URL, or a path in an archive
            (`/vsizip/...`).
        grid: Grid of the raster.
        layer: Which layer of a file that has several.

    Raises:
        AoiError: The file is missing, no vector file, has several layers and none was named, lacks
            the one that was, has no polygon, has y before x, or has no CRS while the raster has
            one, or the reverse.
    """
    polygons, crs = read_polygons(path, layer)
    if (crs is None) != (grid.crs is None):
        lacking = "the AOI" if crs is None else "the raster"
        raise AoiError(
            f"expected the AOI {path} and the raster to have a CRS each, but {lacking} has none; "
            "assign it (ogr2ogr -a_srs, gdal_edit.py -a_srs)"
        )
    try:
        placed = _to_pixels(polygons, crs, grid)
    except GeoreferenceError as error:
        raise AoiError(f"the AOI {path} cannot be brought onto the raster: {error}") from error
    frame = shapely.box(0, 0, grid.width, grid.height)
    inside = only_polygons(shapely.intersection(placed, frame))
    if inside.is_empty and _meets_swapped(polygons, crs, grid):
        raise AoiError(
            f"the AOI {path} lies outside the raster, but would lie on it with x and y swapped; "
            f"{SWAP_XY}"
        )
    return Aoi(inside)


def _meets_swapped(polygons: Polygons, crs: pyproj.CRS | None, grid: Grid) -> bool:
    """Whether polygons would lie on the raster if y were x."""
    swapped = shapely.transform(polygons, lambda points: points[:, ::-1])
    try:
        placed = _to_pixels(swapped, crs, grid)
    except GeoreferenceError:
        return False
    return bool(shapely.box(0, 0, grid.width, grid.height).intersects(placed))


def _to_pixels(polygons: Polygons, crs: pyproj.CRS | None, grid: Grid) -> shapely.Geometry:
    """Polygons of a CRS in the grid's pixel frame."""
    if crs is None or grid.crs is None:
        return shapely.transform(polygons, grid.world_to_pixel)
    if crs == grid.crs:
        return shapely.transform(_turns_on(polygons, grid), grid.world_to_pixel)
    source, target = crs, grid.crs

    def to_pixel(points: NDArray[np.float64]) -> NDArray[np.float64]:
        world = reproject(points, source=source, target=target)
        return grid.world_to_pixel(_at_turn_of(grid, world))

    near = _near_raster(polygons, crs, grid)
    if near.is_empty:
        return shapely.Polygon()
    west, south, east, north = near.bounds
    divided = shapely.segmentize(near, np.hypot(east - west, north - south) / _FIRST_PIECES)
    placed = [
        shapely.make_valid(
            shapely.Polygon(
                _placed_ring(part.exterior, to_pixel),
                [_placed_ring(hole, to_pixel) for hole in part.interiors],
            )
        )
        for part in shapely.get_parts(divided)
        if isinstance(part, shapely.Polygon)
    ]
    return shapely.union_all(placed)


def _near_raster(polygons: Polygons, crs: pyproj.CRS, grid: Grid) -> Polygons:
    """The part of polygons in `crs` that lies on or near the raster.

    An AOI may reach far beyond the area where the raster's CRS is valid (a country against one UTM
    zone); only what is near the raster is ever reprojected.
    """
    steps = np.linspace(0, 1, _POINTS_PER_SIDE)[:-1]
    forth, zero = steps, np.zeros_like(steps)
    x = np.concatenate([forth, zero + 1, 1 - forth, zero]) * grid.width
    y = np.concatenate([zero, forth, zero + 1, 1 - forth]) * grid.height
    world = grid.pixel_to_world(np.stack([x, y], axis=-1))
    ring = reproject(world, source=grid.crs or crs, target=crs)
    if not np.isfinite(ring).all():
        return polygons
    turn = antimeridian.turn_of(crs)
    if turn is None:
        return only_polygons(_clip(polygons, [ring]))
    if not crs.is_geographic:
        ring = antimeridian.joined(ring[None], turn)[0]
        if abs(ring[0, 0] - ring[-1, 0]) > turn / 2:  # round a pole, where it encloses nothing
            return polygons
        return only_polygons(_clip(_all_turns(polygons, [ring], turn), [ring]))
    ring = antimeridian.unwrap(ring[None])[0]
    if not antimeridian.crossing(ring[None])[0]:
        return only_polygons(_clip(_all_turns(polygons, [ring], turn), [ring]))
    rings = antimeridian.cut(ring)
    turned = _all_turns(polygons, rings, turn)
    one_world = shapely.intersection(turned, shapely.box(-180, -90, 180, 90))
    return only_polygons(_clip(only_polygons(one_world), rings))


def _all_turns(polygons: Polygons, rings: list[NDArray[np.float64]], turn: float) -> Polygons:
    """Polygons near some rings, with those that lie there a turn to the west or east.

    A raster or an AOI may go on past 180 degrees, or count from 0 to 360, where the other does not.
    """
    outline = _around(rings)
    turns = [translate(polygons, xoff=shift) for shift in (-turn, 0, turn)]
    return only_polygons(shapely.union_all([_near(turned, outline) for turned in turns]))


def _near(polygons: shapely.Geometry, outline: Polygons) -> Polygons:
    """Those parts of polygons whose bounds meet those of an outline: of many, few."""
    parts = shapely.get_parts(polygons)
    west, south, east, north = shapely.bounds(parts).T
    first, low, last, high = outline.bounds
    meets = (west <= last) & (east >= first) & (south <= high) & (north >= low)
    return shapely.MultiPolygon(parts[meets].tolist())


def _turns_on(polygons: Polygons, grid: Grid) -> Polygons:
    """Those turns of polygons in the grid's CRS that may lie on it, if its x goes round."""
    turn = None if grid.crs is None else antimeridian.turn_of(grid.crs)
    if turn is None:
        return polygons
    west, east = grid.corners[:, 0].min(), grid.corners[:, 0].max()
    first, _, last, _ = polygons.bounds
    turns = [by for by in (-turn, 0, turn) if first + by <= east and last + by >= west]
    if turns == [0]:
        return polygons
    moved = [translate(polygons, xoff=turn) for turn in turns]
    return only_polygons(shapely.union_all(moved)) if moved else shapely.Polygon()


def _at_turn_of(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in the grid's CRS; where x goes round, as near to the grid's centre as they get."""
    turn = None if grid.crs is None else antimeridian.turn_of(grid.crs)
    if turn is None:
        return points
    centre = grid.pixel_to_world(np.array([[grid.width / 2, grid.height / 2]]))[0, 0]
    turned = points.copy()
    turned[:, 0] += turn * np.round((centre - turned[:, 0]) / turn)
    return turned


def _around(rings: list[NDArray[np.float64]]) -> Polygons:
    """What some rings enclose, and a margin."""
    outline = shapely.union_all([shapely.make_valid(shapely.Polygon(ring)) for ring in rings])
    west, south, east, north = outline.bounds
    margin = _CLIP_MARGIN * float(np.hypot(east - west, north - south))
    return only_polygons(shapely.buffer(outline, margin))


def _clip(polygons: Polygons, rings: list[NDArray[np.float64]]) -> shapely.Geometry:
    outline = _around(rings)
    return shapely.intersection(_near(polygons, outline), outline)


def _placed_ring(
    ring: shapely.LinearRing, to_pixel: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Pixel coordinates of a ring, divided until every edge keeps to its true course."""
    points = shapely.get_coordinates(ring)
    placed = to_pixel(points)
    for _ in range(_MOST_HALVINGS):
        middles = (points[:-1] + points[1:]) / 2
        true = to_pixel(middles)
        strays = np.abs(true - (placed[:-1] + placed[1:]) / 2).max(axis=1) > OUTLINE_TOLERANCE_PX
        if not strays.any():
            break
        where = np.flatnonzero(strays)
        points = np.insert(points, where + 1, middles[where], axis=0)
        placed = np.insert(placed, where + 1, true[where], axis=0)
    if not np.isfinite(placed).all():
        lost = points[~np.isfinite(placed).all(axis=1)][0]
        raise GeoreferenceError(
            f"its point {tuple(lost.tolist())} lies outside the area of the raster's CRS"
        )
    return placed
