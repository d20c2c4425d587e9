"""Resampling whose result for a pixel depends on that pixel alone, not on the window read.

Each working pixel is a fixed weighted sum of source pixels, computed from its position in the whole
raster and always added up in the same order: overlapping windows read identical values, and the
kernel reaches past a window's edge, so that no seam shows. Along an axis that shrinks, a pixel is
the average over its exact area (no aliasing); along one that grows, it is interpolated linearly.
Neither shifts the image nor leaves the range of its values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.windows import Window

LEAST_VALID_SHARE = 0.5
"""Share of a working pixel's weight that must be valid for the pixel to be valid."""

_ROWS_AT_ONCE = 64  # with fewer, the calls cost more than their work

_WHOLE = 1 - 1e-5  # weights are float32: their sum is 1 only nearly
_EXACT_DIGITS = 9  # pixel edges are rounded, so that 2.9999999999 is 3


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """The source pixels of a run of working pixels along one axis."""

    start: int
    """First source pixel needed."""
    stop: int
    """One past the last source pixel needed."""
    index: NDArray[np.intp]
    """(pixels, taps) source pixels, counted from `start`."""
    weight: NDArray[np.float32]
    """(pixels, taps) their weights; each row sums to 1."""


def find_taps(start: int, stop: int, *, step: float, origin: float, length: int) -> Taps:
    """Source pixels and weights of the working pixels `start` to `stop - 1`.

    Args:
        start: First working pixel.
        stop: One past the last working pixel.
        step: Source pixels per working pixel.
        origin: Source coordinate of the working coordinate 0, in source pixel edges.
        length: Number of source pixels; the outermost ones stand for those beyond.
    """
    pixels = np.arange(start, stop, dtype=np.float64)
    index, weight = _area(pixels, step, origin) if step >= 1 else _linear(pixels, step, origin)
    weight /= weight.sum(axis=1, keepdims=True)
    index = index.clip(0, length - 1)
    first, last = int(index.min()), int(index.max())
    return Taps(first, last + 1, index - first, weight.astype(np.float32))


def window_of(rows: Taps, cols: Taps) -> Window:
    """The source pixels that the taps of a working window need."""
    return Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)


def _area(
    pixels: NDArray[np.float64], step: float, origin: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Every source pixel that a working pixel covers, weighted by the covered length."""
    low = np.round(origin + pixels * step, _EXACT_DIGITS)
    high = np.round(origin + (pixels + 1) * step, _EXACT_DIGITS)
    count = int((np.ceil(high) - np.floor(low)).max())
    edges = np.floor(low)[:, None] + np.arange(count)
    covered = np.minimum(edges + 1, high[:, None]) - np.maximum(edges, low[:, None])
    return edges.astype(np.intp), covered.clip(min=0)


def _linear(
    pixels: NDArray[np.float64], step: float, origin: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The two source pixels around a working pixel's centre."""
    centre = np.round(origin + (pixels + 0.5) * step - 0.5, _EXACT_DIGITS)
    before = np.floor(centre)
    after = centre - before
    index = before[:, None] + np.arange(2)
    return index.astype(np.intp), np.stack([1 - after, after], axis=1)


def resample(
    samples: NDArray[Any], valid: NDArray[np.bool_], *, rows: Taps, cols: Taps
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Weighted sums of the valid samples.

    Args:
        samples: (bands, source rows, source columns) from `rows.start` and `cols.start` on.
        valid: (source rows, source columns), True = valid; other samples weigh nothing.
        rows: Taps along y.
        cols: Taps along x.

    Returns:
        (bands, rows, columns) float32, or float64 where float32 cannot hold the samples, and the
        (rows, columns) mask of pixels with at least `LEAST_VALID_SHARE` of valid weight.
    """
    if valid.all():
        sums = _weigh_both(samples, rows, cols)
        return sums, np.ones(sums.shape[1:], np.bool_)
    # The mask travels as one more band, so that both are weighed alike.
    kind = np.result_type(samples.dtype, np.float32)
    masked = np.concatenate([np.where(valid, samples, 0), valid[None]], dtype=kind)
    *_, share = sums = _weigh_both(masked, rows, cols)
    kept = share >= LEAST_VALID_SHARE
    np.divide(sums, share, out=sums, where=kept & (share < _WHOLE))
    return sums[:-1], kept


def _weigh_both(samples: NDArray[Any], rows: Taps, cols: Taps) -> NDArray[np.floating]:
    """Sum (bands, n, m) over both axes.

    A few rows at a time, so that what is made on the way stays in the processor's cache.
    """
    bands, count = len(samples), len(rows.index)
    kind = np.result_type(samples.dtype, np.float32)
    sums: NDArray[np.floating] = np.empty((bands, count, len(cols.index)), kind)
    for start in range(0, count, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        reduced = _weigh_rows(samples, rows.index[part], rows.weight[part])
        turned = np.ascontiguousarray(reduced.swapaxes(1, 2))  # (bands, columns, rows)
        sums[:, part] = _weigh_rows(turned, cols.index, cols.weight).swapaxes(1, 2)
    return sums


def _weigh_rows(
    samples: NDArray[Any], index: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.floating]:
    """Sum (bands, n, m) along n; tap by tap, so that the order never changes."""
    weights = weight[:, :, None]
    total: NDArray[np.floating] = samples[:, index[:, 0]] * weights[:, 0]
    for tap in range(1, index.shape[1]):
        total += samples[:, index[:, tap]] * weights[:, tap]
    return total
