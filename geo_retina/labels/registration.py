"""Do labels lie on their objects? The shift at which box outlines best meet edges in the image.

Outlines of boxes drawn around objects run where the image changes. The mean gradient under all
outlines is therefore highest where the labels lie right, and a peak elsewhere gives away labels
that were drawn on another image, in another datum, or with a wrong origin.

Where objects stand close, outlines also meet the edges of the neighbours. Such a chance peak
belongs to the few objects that make it: a shift counts only where both halves of the labels find
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import GeoRetinaError
from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.pictures import window_around
from geo_retina.space import boxes as box_arrays
from geo_retina.space.spread import evenly_spread

_REACH_PX = 60
"""Largest shift looked for along x and y."""
_SHIFTS = 2 * _REACH_PX + 1
"""Shifts along x, and along y."""
_NEAR = slice(_REACH_PX - 15, _REACH_PX + 16)
"""Shifts up to 15 px: rows of trees and of cars repeat, so a far shift must be clearly better."""
_FAR_GAIN = 1.2
_AGREE_PX = 6.0
"""Two estimates of one shift lie no further apart."""
_HALVES = 2
_WINDOW_PX = 512
_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Shift:
    """How labels should be moved so that their outlines best meet the edges of the image."""

    x_px: int
    """To the right, pixels."""
    y_px: int
    """Down, pixels."""
    loss: float
    """Share of the edge strength there that is missing where the labels are now; 0 = none."""
    sharpness: float
    """How far the edge strength falls within six pixels around that shift, as a share of it. Where
    shadows or textures make edges everywhere the peak is blunt and tells little."""
    labels: int
    """Labels the estimate rests on."""
    rasters: int = 0
    """Rasters with such labels."""
    halves_agree: bool = False
    """Every other label finds this shift, and so do those between."""
    rasters_agree: bool = False
    """Every other raster finds this shift, and so do those between; False for one raster."""

    @property
    def is_suspect(self) -> bool:
        """True where enough labels seem clearly off, by over two pixels."""
        off = max(abs(self.x_px), abs(self.y_px))
        return off > _LEAST_SHIFT_PX and self.loss > _LEAST_LOSS and self._is_reliable

    @property
    def is_fault(self) -> bool:
        """True where several rasters agree in a suspect shift: more than a suspicion."""
        return self.is_suspect and self.rasters_agree

    @property
    def _is_reliable(self) -> bool:
        enough = self.labels >= _LEAST_LABELS and self.halves_agree
        return self.sharpness > _LEAST_SHARPNESS and enough


# Measured on hand-drawn crowns (98 NEON plots by site, two Yellowstone crops, 0.1 m) and on oil
# tanks (16 SPOT images, 1.2 m): the best shift is at most 1 px with a loss up to 0.07, and labels
# moved by (5, -7), crowns also by (20, -18), (50, -40) and (-50, 0) px, are found to 1 px with a
# loss from 0.33 up, all with a sharpness of 0.22 to 0.60. The one exception, long shadows over
# meadow, has a sharpness of 0.14. Single plots of some 40 crowns are too noisy. Of the six plots
# of over 100 crowns one (NIWO_004, crowns of 17 px that stand 20 px apart) peaks 21 px off, sharp
# as a true shift: its halves peak over 60 px from each other, those of the others within 4 px.
_LEAST_SHIFT_PX = 2
_LEAST_LOSS = 0.2
_LEAST_SHARPNESS = 0.2
_RING_PX = (5.0, 7.0)
_LEAST_LABELS = 100


def estimate_shift(
    labelled: Sequence[LabelledRaster],
    *,
    on_error: Callable[[LabelledRaster, GeoRetinaError], None] | None = None,
) -> Shift:
    """Estimate the shift that all of `labelled` have in common, up to 60 px along x and y.

    Boxes of one size, made around points, do not count: their outlines follow no object.

    Args:
        labelled: Rasters of one source, whose labels would all be off alike.
        on_error: Takes a raster that cannot be read, and why; it is left out then. None raises.

    Raises:
        RasterError: A raster cannot be opened, and `on_error` is None.
        RasterReadError: Pixels cannot be read, and `on_error` is None.
    """
    halves, by_raster = np.zeros((2, _HALVES, _SHIFTS, _SHIFTS))
    count = rasters = 0
    for item in labelled:
        boxes = item.labels.boxes
        boxes = boxes[np.isfinite(boxes).all(axis=1) & (box_arrays.area(boxes) > 1)]
        if _were_drawn(boxes):
            try:
                with open_raster(item.raster, pixel_coordinates=True) as raster:
                    found = _edge_strength(raster, boxes)
            except GeoRetinaError as error:
                if on_error is None:
                    raise
                on_error(item, error)
                continue
            halves += found
            by_raster[rasters % _HALVES] += found.sum(axis=0)
            count += len(boxes)
            rasters += 1
    strength = halves.sum(axis=0)
    place = row, column = _best_place(strength)
    best = strength[place]
    if not best > 0:
        return Shift(0, 0, 0.0, 0.0, count, rasters)
    away = _distances(place)
    around = strength[(away > _RING_PX[0]) & (away < _RING_PX[1])].mean()
    return Shift(
        x_px=column - _REACH_PX,
        y_px=row - _REACH_PX,
        loss=float(1 - strength[_REACH_PX, _REACH_PX] / best),
        sharpness=float(1 - around / best),
        labels=count,
        rasters=rasters,
        halves_agree=all(away[_best_place(half)] <= _AGREE_PX for half in halves),
        rasters_agree=rasters > 1
        and all(away[_best_place(half)] <= _AGREE_PX for half in by_raster),
    )


def _distances(place: tuple[int, int]) -> NDArray[np.float64]:
    """How far each shift lies from the one at a row and column, pixels."""
    down, right = np.mgrid[:_SHIFTS, :_SHIFTS]
    distances: NDArray[np.float64] = np.hypot(down - place[0], right - place[1])
    return distances


def _best_place(strength: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column of the best shift: a near one, unless a far one is clearly better."""
    near = strength[_NEAR, _NEAR]
    if strength.max() > _FAR_GAIN * near.max():
        row, column = np.unravel_index(int(strength.argmax()), strength.shape)
        return int(row), int(column)
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    return int(row) + _NEAR.start, int(column) + _NEAR.start


def _were_drawn(boxes: box_arrays.Boxes) -> bool:
    """False for boxes of one size, made around points: their outlines follow no object."""
    return len(boxes) > 0 and (len(boxes) == 1 or bool(np.ptp(box_arrays.area(boxes)) > 1))


def _edge_strength(raster: Raster, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Excess gradient under the outlines, summed, for each shift (y, x) up to `_REACH_PX`.

    Returns:
        (2, `_SHIFTS`, `_SHIFTS`): of every other label, and of those between.
    """
    total = np.zeros((_HALVES, _SHIFTS, _SHIFTS))
    centres = box_arrays.centres(boxes)
    spread = evenly_spread(len(boxes), _WINDOWS)
    seen = set()
    for x, y in centres[np.lexsort(centres.T)][spread].tolist():
        window = window_around(x, y, size_px=_WINDOW_PX, raster=raster)
        if window in seen:
            continue
        seen.add(window)
        bands = [index + 1 for index in range(min(raster.band_count, 3))]
        pixels = raster.read(window, bands=bands).astype(np.float64).mean(axis=0)
        valid = np.any([raster.read_mask(window, band=band) for band in bands], axis=0)
        pixels = np.where(valid & np.isfinite(pixels), pixels, np.nan)
        gradient = _gradient(pixels)
        local = box_arrays.shift(boxes, x=-window.col_off, y=-window.row_off)
        for half in range(_HALVES):
            outlines = _outlines(local[half::_HALVES], gradient.shape)
            total[half] += _correlate(outlines, gradient)
    return total


def _gradient(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient magnitude as a multiple of its mean, less that mean; 0 where it is unknown."""
    if min(pixels.shape) <= 1:
        return np.zeros_like(pixels)
    down, right = np.gradient(pixels)
    size = np.hypot(down, right)
    known = np.isfinite(size)
    mean = size[known].mean() if known.any() else 0.0
    return np.where(known, size / mean - 1, 0.0) if mean > 0 else np.zeros_like(pixels)


def _outlines(boxes: box_arrays.Boxes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """1 on the pixels just inside each box's edge that the window shows, 0 elsewhere."""
    drawn = np.zeros(shape)
    height, width = shape
    shown = boxes[box_arrays.area(box_arrays.clip(boxes, width=width, height=height)) > 0]
    for x_min, y_min, x_max, y_max in np.round(shown).astype(int).tolist():
        rows, columns = slice(max(y_min, 0), max(y_max, 0)), slice(max(x_min, 0), max(x_max, 0))
        for row in (y_min, y_max - 1):
            if 0 < row < height - 1:
                drawn[row, columns] = 1
        for column in (x_min, x_max - 1):
            if 0 < column < width - 1:
                drawn[rows, column] = 1
    return drawn


def _correlate(outlines: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the gradient under the outlines moved by each (y, x); by Fourier transform."""
    height, width = (size + 2 * _REACH_PX for size in gradient.shape)
    spectrum = np.conj(np.fft.rfft2(outlines, (height, width)))
    product = np.fft.irfft2(spectrum * np.fft.rfft2(gradient, (height, width)), (height, width))
    rolled = np.roll(product, (_REACH_PX, _REACH_PX), (0, 1))
    return rolled[:_SHIFTS, :_SHIFTS]
