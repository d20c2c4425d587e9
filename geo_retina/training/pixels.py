"""Pixels of training rasters through windows, with bounded memory."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from geo_retina.card import ModelCard
from geo_retina.imagery.radiometry import Radiometry
from geo_retina.imagery.source import Chip, ChipSource
from geo_retina.space.windows import Window
from geo_retina.training.rasters import TrainingRaster, open_source
from geo_retina.training.sources import Reading

CACHE_BYTES = 2**30
"""Memory of whole images kept by each process that cuts chips."""

_SMALL_SHARE = 1 / 16  # of the cache: larger rasters are read window by window
_OPEN_FILES = 32

_Key = tuple[str, Reading]


@dataclass(frozen=True, slots=True)
class Square:
    """A square of the working grid; it may reach over the raster's edges."""

    col_off: int
    row_off: int
    side: int
    """Pixels, at least 1."""


class PixelReader:
    """Reads squares of training rasters as the model sees them.

    Small images are kept whole, the least recently used ones given up first; of larger ones, files
    are kept open. For one thread; a copy in another process starts empty.
    """

    def __init__(self, card: ModelCard, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._card = card
        self._cache_bytes = cache_bytes
        self._images: OrderedDict[_Key, Chip] = OrderedDict()
        self._held_bytes = 0
        self._sources: OrderedDict[_Key, ChipSource] = OrderedDict()

    def read(
        self, raster: TrainingRaster, square: Square
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read a square.

        Args:
            raster: Where from.
            square: What to read.

        Returns:
            (bands, side, side) of the card's data type, and (side, side) True = valid. Off the
            raster, off its area and on ignored objects nothing is valid; pixels are then neutral.

        Raises:
            RasterError: The raster is gone.
            RasterReadError: It is damaged.
        """
        side = square.side
        left, top = max(square.col_off, 0), max(square.row_off, 0)
        right = min(square.col_off + side, raster.width)
        bottom = min(square.row_off + side, raster.height)
        fill = self._fill()
        pixels = np.broadcast_to(fill[:, None, None], (len(fill), side, side)).copy()
        valid = np.zeros((side, side), np.bool_)
        if left < right and top < bottom:
            chip = self._chip(raster, Window(left, top, right - left, bottom - top))
            rows = slice(top - square.row_off, bottom - square.row_off)
            cols = slice(left - square.col_off, right - square.col_off)
            pixels[:, rows, cols] = chip.pixels
            valid[rows, cols] = chip.valid
        valid &= _known(raster, square)
        pixels[:, ~valid] = fill[:, None]
        return pixels, valid

    def close(self) -> None:
        """Give up all images and close all files."""
        while self._sources:
            self._sources.popitem()[1].close()
        self._images.clear()
        self._held_bytes = 0

    def __getstate__(self) -> dict[str, object]:
        return {"_card": self._card, "_cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["_card"], cache_bytes=state["_cache_bytes"])  # type: ignore[misc]

    def _fill(self) -> NDArray[np.generic]:
        """(bands,) neutral value, as in detection."""
        return np.array(Radiometry.of(self._card, None).fill, self._card.dtype)

    def _chip(self, raster: TrainingRaster, window: Window) -> Chip:
        size = raster.width * raster.height * self._pixel_bytes()
        if size > self._cache_bytes * _SMALL_SHARE:
            return self._source(raster).read(window)
        key = (raster.path, raster.reading)
        image = self._images.get(key)
        if image is None:
            source = self._source(raster)
            image = source.read(Window(0, 0, raster.width, raster.height))
            self._sources.pop(key).close()
            self._keep(key, image, size)
        self._images.move_to_end(key)
        rows = slice(window.row_off, window.row_end)
        cols = slice(window.col_off, window.col_end)
        return Chip(image.pixels[:, rows, cols], image.valid[rows, cols], window)

    def _keep(self, key: _Key, image: Chip, size: int) -> None:
        self._images[key] = image
        self._held_bytes += size
        while self._held_bytes > self._cache_bytes:
            _, dropped = self._images.popitem(last=False)
            self._held_bytes -= dropped.valid.size * self._pixel_bytes()

    def _source(self, raster: TrainingRaster) -> ChipSource:
        key = (raster.path, raster.reading)
        source = self._sources.get(key)
        if source is None:
            source = open_source(raster.path, raster.reading, self._card)
            self._sources[key] = source
            if len(self._sources) > _OPEN_FILES:
                self._sources.popitem(last=False)[1].close()
        self._sources.move_to_end(key)
        return source

    def _pixel_bytes(self) -> int:
        return len(self._card.bands) * np.dtype(self._card.dtype).itemsize + 1


def _known(raster: TrainingRaster, square: Square) -> NDArray[np.bool_]:
    """(side, side) True where it is known what is there: in the area, and on no ignored object."""
    known = np.ones((square.side, square.side), np.bool_)
    if raster.area is not None and raster.area.is_empty:
        return ~known
    if raster.area is not None:
        known = geometry_mask(
            [raster.area],
            out_shape=known.shape,
            transform=Affine.translation(square.col_off, square.row_off),
            invert=True,
        )
    if raster.ignored.any():
        counted = _covered(raster.boxes[~raster.ignored], square)
        known &= counted | ~_covered(raster.boxes[raster.ignored], square)
    return known


def _covered(boxes: NDArray[np.float64], square: Square) -> NDArray[np.bool_]:
    """(side, side) True on pixels that a box touches."""
    covered = np.zeros((square.side, square.side), np.bool_)
    local = boxes - np.tile([square.col_off, square.row_off], 2)
    local = local[(local[:, :2] < square.side).all(axis=1) & (local[:, 2:] > 0).all(axis=1)]
    edges = np.concatenate([np.floor(local[:, :2]), np.ceil(local[:, 2:])], axis=1)
    for x_min, y_min, x_max, y_max in edges.clip(0, square.side).astype(int).tolist():
        covered[y_min:y_max, x_min:x_max] = True
    return covered
