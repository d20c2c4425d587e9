"""Which pixels of a raster hold anything: masks, alpha and nodata of several bands as one mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.imagery.bands import BandChoice
from geo_retina.imagery.raster import Level, Raster
from geo_retina.space.windows import Window


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """The masks to read, and how they join. A pixel is valid if it is valid in all of them."""

    every: tuple[int, ...]
    """Bands of which each one's mask must be valid."""
    some: tuple[int, ...]
    """Bands of which at least one must be valid: those whose nodata value is also a colour."""
    alpha: int | None
    """Alpha band that must not be 0, where GDAL's masks leave it out."""

    @property
    def is_trivial(self) -> bool:
        """True where every pixel is valid."""
        return not (self.every or self.some or self.alpha)

    def read(self, raster: Raster, window: Window, level: Level | None) -> NDArray[np.bool_]:
        """Mask of a window of `level`: (height, width), True = valid.

        Stops reading as soon as no pixel is left.

        Raises:
            RasterReadError: See `Raster.read`.
        """
        valid = np.ones((window.height, window.width), np.bool_)
        for band in self.every:
            valid &= raster.read_mask(window, band=band, level=level)
            if not valid.any():
                return valid
        if self.alpha is not None:
            valid &= raster.read(window, bands=[self.alpha], level=level)[0] > 0
        if self.some and valid.any():
            masks = [raster.read_mask(window, band=band, level=level) for band in self.some]
            valid &= np.logical_or.reduce(masks)
        return valid


def plan_masks(
    raster: Raster,
    choice: BandChoice,
    *,
    shown: Sequence[tuple[float, float]] | None = None,
) -> MaskPlan:
    """The masks that say which pixels of the chosen bands are valid.

    In general all chosen bands must be valid. One exception: a nodata value that lies in the range
    of values the model is shown (0 in an 8-bit photograph) is also a colour. A black shadow may
    hold it in one band; then only a pixel that holds it in all bands is nodata.

    Args:
        raster: The raster.
        choice: The bands read.
        shown: Lowest and highest value of each chosen band that the model can tell apart; None to
            take no nodata value for a colour.
    """
    shared: list[int] = []  # a band that has the one mask of all that have none of their own
    own: list[int] = []
    nodata: list[int] = []
    for band in dict.fromkeys(choice.numbers):
        flags = raster.mask_flags[band - 1]
        from_alpha = "alpha" in flags
        if "all_valid" in flags or (from_alpha and choice.alpha is None):
            continue  # an alpha band that was asked for as an input is no mask
        if "per_dataset" in flags or from_alpha:
            shared = [band]
        elif "nodata" in flags:
            nodata.append(band)
        else:
            own.append(band)
    masked_by_alpha = any("alpha" in raster.mask_flags[band - 1] for band in choice.numbers)
    alpha = None if masked_by_alpha else choice.alpha
    if shown is not None and len(nodata) > 1 and _are_colours(raster, choice, shown):
        return MaskPlan((*shared, *own), tuple(nodata), alpha)
    return MaskPlan((*shared, *own, *nodata), (), alpha)


def _are_colours(raster: Raster, choice: BandChoice, shown: Sequence[tuple[float, float]]) -> bool:
    """True where the nodata value of each chosen band lies in the range shown of that band."""
    values = [raster.nodata[band - 1] for band in choice.numbers]
    return all(
        value is not None and low <= value <= high
        for value, (low, high) in zip(values, shown, strict=True)
    )
