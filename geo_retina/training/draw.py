"""Where training chips are cut: rasters and squares at random, some of them around objects."""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from geo_retina.space import boxes as box_arrays
from geo_retina.training.pixels import Square
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.settings import AugmentSettings

_TRIES = 100
"""Points tried before the area of a raster is taken for a sliver."""


class SquareDraw:
    """Draws squares to cut chips from.

    Squares around objects are drawn object by object, the others pixel by pixel, both times the
    source's weight: a raster without objects is seen as often as its size says.
    """

    def __init__(self, rasters: Sequence[TrainingRaster], settings: AugmentSettings) -> None:
        self._rasters = list(rasters)
        self._settings = settings
        self._by_pixels = _shares([item.weight * item.pixels for item in rasters])
        self._by_objects = _shares([item.weight * _counted(item) for item in rasters])

    def draw(self, random: np.random.Generator) -> tuple[TrainingRaster, Square]:
        """A raster and a square of it, of a side that scales to the chip's by the drawn zoom."""
        side = self._side(random)
        if random.random() < self._settings.around_objects and self._by_objects.any():
            raster = self._rasters[random.choice(len(self._rasters), p=self._by_objects)]
            counted = np.flatnonzero(~raster.ignored)
            box = raster.boxes[[random.choice(counted)]]
            x, y = (box_arrays.centres(box)[0] + (random.random(2) - 0.5) * side).tolist()
        else:
            raster = self._rasters[random.choice(len(self._rasters), p=self._by_pixels)]
            x, y = _centre(raster, side, random)
        return raster, _square(raster, x, y, side)

    def _side(self, random: np.random.Generator) -> int:
        """Pixels of the working grid, evenly over the range that the zoom allows."""
        low, high = (round(self._settings.crop_px / zoom) for zoom in self._settings.zoom[::-1])
        return int(random.integers(low, high + 1))


def _shares(sizes: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(sizes, dtype=np.float64)
    shares: NDArray[np.float64] = values / max(values.sum(), np.finfo(np.float64).tiny)
    return shares


def _counted(raster: TrainingRaster) -> int:
    return int((~raster.ignored).sum())


def _centre(raster: TrainingRaster, side: int, random: np.random.Generator) -> tuple[float, float]:
    """Centre of a square that lies on the raster if it can, or of one within its area."""
    if raster.area is not None:
        return _point_in(raster, random)
    x = min(0, raster.width - side) + random.random() * abs(raster.width - side)
    y = min(0, raster.height - side) + random.random() * abs(raster.height - side)
    return x + side / 2, y + side / 2


def _point_in(raster: TrainingRaster, random: np.random.Generator) -> tuple[float, float]:
    """An even random point of the raster's area."""
    parts = [part for part in shapely.get_parts(raster.area) if isinstance(part, Polygon)]
    part = parts[random.choice(len(parts), p=_shares([part.area for part in parts]))]
    x_min, y_min, x_max, y_max = part.bounds
    points = random.random((_TRIES, 2)) * [x_max - x_min, y_max - y_min] + [x_min, y_min]
    inside = np.flatnonzero(shapely.contains_xy(part, *points.T))
    if len(inside):
        x, y = points[inside[0]].tolist()
        return x, y
    point = shapely.point_on_surface(part)
    return float(point.x), float(point.y)


def _square(raster: TrainingRaster, x: float, y: float, side: int) -> Square:
    """Square around a point, moved so that it lies on the raster, or the raster in it."""
    col, row = (
        int(np.clip(round(middle - side / 2), min(0, length - side), max(0, length - side)))
        for middle, length in ((x, raster.width), (y, raster.height))
    )
    return Square(col, row, side)
