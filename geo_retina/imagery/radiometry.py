"""From a raster's values to those a model was trained on: stated, never guessed."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import RadiometryError
from geo_retina.imagery.bands import BandChoice
from geo_retina.imagery.masks import MaskPlan, plan_masks
from geo_retina.imagery.raster import Raster
from geo_retina.space.windows import Window

EXACT_STATISTICS_PX = 2**22
"""Up to this many pixels, percentiles are taken over the whole raster; above, over a sample."""

_SAMPLE_PX = 2**20
_ENOUGH_VALID_PX = 2**17
_LATTICES = (16, 32, 64)
_TABLED_BYTES = 2
"""Samples of so many bytes are mapped by a table of all values that they can have."""


@dataclass(frozen=True, slots=True)
class Radiometry:
    """A fixed map of each band's values to a chip's; the same for every window."""

    dtype: str
    """Data type of chips."""
    value_range: tuple[float, float]
    """Values of `dtype` that stand for 0 and 1 in the model."""
    sources: tuple[tuple[float, float], ...] | None
    """For each band, the raster values mapped to `value_range`; None to take values as they are."""
    fill: tuple[float, ...]
    """For each band, the neutral value that invalid pixels get."""

    @property
    def shown(self) -> tuple[tuple[float, float], ...]:
        """For each band, the lowest and highest raster value that the model can tell apart."""
        return self.sources or (self.value_range,) * len(self.fill)

    def apply(self, samples: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
        """Chip values of raster samples.

        Args:
            samples: (bands, height, width) raster values, of any real type.
            valid: (height, width), True = valid; all other pixels get `fill`.

        Returns:
            (bands, height, width) array of `dtype`; a new array or `samples` itself.
        """
        values = self._mapped(samples)
        if not valid.all():
            fill = np.array(self.fill, values.dtype)[:, None, None]
            values = np.where(valid, values, fill)
        return values

    def _mapped(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Chip values of all samples; of the few that 16 bits tell apart, looked up in tables."""
        if self.sources is None:
            return self._cast(samples)
        if samples.dtype.kind not in "iu" or samples.dtype.itemsize > _TABLED_BYTES:
            return self._cast(self._stretched(samples))
        values = np.empty(samples.shape, self.dtype)
        places = samples.view(f"u{samples.dtype.itemsize}")
        for table, band, into in zip(_tables(self, samples.dtype), places, values, strict=True):
            np.take(table, band, out=into, mode="clip")  # no place is outside; "raise" would copy
        return values

    def _stretched(self, samples: NDArray[Any]) -> NDArray[np.floating]:
        kind = np.result_type(samples.dtype, np.float32)
        low, high = np.array(self.sources, kind).T[:, :, None, None]  # each (bands, 1, 1)
        bottom, top = self.value_range
        share = (samples.astype(kind) - low) / (high - low)
        stretched: NDArray[np.floating] = np.clip(share, 0, 1) * (top - bottom) + bottom
        return stretched

    def _cast(self, values: NDArray[Any]) -> NDArray[Any]:
        target = np.dtype(self.dtype)
        if values.dtype == target:
            return values
        if target.kind != "f":
            limits = np.iinfo(target)
            values = np.rint(values).clip(limits.min, limits.max)
        cast: NDArray[Any] = values.astype(target)
        return cast

    @classmethod
    def of(cls, card: ModelCard, sources: tuple[tuple[float, float], ...] | None) -> Self:
        """The map for the chips of `card`."""
        return cls(card.dtype, card.value_range, sources, card.neutral)


@lru_cache(maxsize=8)
def _tables(radiometry: Radiometry, dtype: np.dtype[Any]) -> NDArray[Any]:
    """For each band, the chip value of each raster value, in the order of its unsigned bits."""
    bits = f"u{dtype.itemsize}"
    every = np.arange(np.iinfo(bits).max + 1, dtype=bits).view(dtype).astype(np.float32)
    of_bands = np.broadcast_to(every, (len(radiometry.fill), 1, len(every)))
    return radiometry.apply(of_bands, np.ones((1, len(every)), np.bool_))[:, 0]


def choose_radiometry(
    raster: Raster,
    card: ModelCard,
    choice: BandChoice,
    *,
    scale: tuple[float, float] | None = None,
    stretch: tuple[float, float] | None = None,
) -> Radiometry:
    """How the values of `raster` become those that `card` states.

    Values are those stored in the file: scale and offset tags are not applied.

    Args:
        raster: The raster.
        card: States data type and value range of chips.
        choice: The bands read.
        scale: Raster values that become the ends of the card's value range, for all bands.
        stretch: Percentiles, 0 to 100, of each band's valid pixels that become these ends.

    Raises:
        RadiometryError: The data types differ and neither `scale` nor `stretch` is given, both
            are, one is out of range, or the raster holds complex numbers.
        RasterReadError: The raster cannot be read for its percentiles.
    """
    dtypes = [raster.dtypes[band - 1] for band in choice.numbers]
    unreal = [dtype for dtype in dtypes if dtype.startswith("complex")]
    if unreal:
        raise RadiometryError(
            f"{raster.path} holds {unreal[0]} numbers, a model is shown real ones; write their "
            "magnitude first, for instance with `gdal_calc.py --calc 'abs(A)'`"
        )
    if scale is not None and stretch is not None:
        raise RadiometryError("--scale and --stretch exclude each other; pass one of them")
    if scale is not None:
        return Radiometry.of(card, (_rising(scale),) * len(dtypes))
    if stretch is not None:
        return Radiometry.of(card, percentiles(raster, choice, _percentile_pair(stretch)))
    different = [dtype for dtype in dtypes if dtype != card.dtype]
    if different:
        bottom, top = card.value_range
        raise RadiometryError(
            f"the model {card.name} is shown {card.dtype} values, {raster.path} holds "
            f"{different[0]}; no mapping is guessed: pass --scale MIN MAX (the raster values that "
            f"become {bottom:g} and {top:g}) or --stretch P1 P2 (percentiles, such as 2 98)"
        )
    return Radiometry.of(card, None)


def percentiles(
    raster: Raster, choice: BandChoice, pair: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """Two percentiles of the valid values of each chosen band.

    Exact up to `EXACT_STATISTICS_PX` pixels. Larger rasters are sampled at native resolution in
    small windows on a regular lattice, which is made denser while it hits little but nodata: the
    same raster always gives the same numbers, at a bounded number of block reads.

    Raises:
        RadiometryError: A band is constant, or the sample of a large raster is all nodata.
        RasterReadError: See `Raster.read`.
    """
    values, is_exact = _sample(raster, choice, plan_masks(raster, choice))
    if values.shape[1] == 0 and is_exact:
        return ((0.0, 1.0),) * len(choice.numbers)  # all nodata: nothing will ever be mapped
    if values.shape[1] == 0:
        raise RadiometryError(
            f"no valid pixel of {raster.path} was met while sampling its percentiles; state the "
            "range with --scale MIN MAX instead"
        )
    lows, highs = np.percentile(values, pair, axis=1)
    for band, low, high in zip(choice.numbers, lows, highs, strict=True):
        if not low < high:
            raise RadiometryError(
                f"the percentiles {pair[0]:g} and {pair[1]:g} of band {band} of {raster.path} are "
                f"both {low:g}; spread them, or state the range with --scale MIN MAX"
            )
    return tuple((float(low), float(high)) for low, high in zip(lows, highs, strict=True))


def _sample(raster: Raster, choice: BandChoice, masks: MaskPlan) -> tuple[NDArray[Any], bool]:
    """Values of valid pixels, (bands, N), and whether they are all there are."""
    width, height = raster.grid.width, raster.grid.height
    if width * height <= EXACT_STATISTICS_PX:
        return _valid_values(raster, choice, masks, Window(0, 0, width, height)), True
    values = np.zeros((len(choice.numbers), 0))
    for count in _LATTICES:
        windows = _lattice(width, height, count)
        parts = [_valid_values(raster, choice, masks, window) for window in windows]
        values = np.concatenate(parts, axis=1)
        if values.shape[1] >= _ENOUGH_VALID_PX:
            break
    return values, False


def _lattice(width: int, height: int, count: int) -> list[Window]:
    """At most `count` x `count` windows, row by row, that together hold about `_SAMPLE_PX`."""
    edge = round(_SAMPLE_PX**0.5) // count
    cols = _spread(width, min(edge, width), count)
    rows = _spread(height, min(edge, height), count)
    return [Window(col, row, min(edge, width), min(edge, height)) for row in rows for col in cols]


def _spread(length: int, edge: int, count: int) -> list[int]:
    """First pixels of `count` runs of `edge` pixels spread evenly over `length`."""
    free = length - edge
    return sorted({round((index + 0.5) / count * free) for index in range(count)})


def _valid_values(
    raster: Raster, choice: BandChoice, masks: MaskPlan, window: Window
) -> NDArray[Any]:
    valid = masks.read(raster, window, None)
    if not valid.any():
        return np.zeros((len(choice.numbers), 0))
    samples = raster.read(window, bands=choice.numbers)
    return samples[:, valid & np.isfinite(samples).all(axis=0)]


def _rising(scale: tuple[float, float]) -> tuple[float, float]:
    low, high = float(scale[0]), float(scale[1])
    if not (np.isfinite([low, high]).all() and low < high):
        raise RadiometryError(f"--scale needs two finite values MIN < MAX, got {low:g} {high:g}")
    return low, high


def _percentile_pair(stretch: tuple[float, float]) -> tuple[float, float]:
    low, high = float(stretch[0]), float(stretch[1])
    if not 0 <= low < high <= 100:  # noqa: PLR2004
        raise RadiometryError(
            f"--stretch needs two percentiles with 0 <= P1 < P2 <= 100, got {low:g} {high:g}"
        )
    return low, high
