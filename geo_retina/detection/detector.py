"""What runs a network on chips: the `Detector` protocol and the values that pass through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import ConfigError, ModelError
from geo_retina.model.settings import CHIP_MULTIPLE_PX
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.detections import Detections
from geo_retina.wording import shown


@dataclass(frozen=True, slots=True)
class ChipResult:
    """What was found on one chip."""

    detections: Detections
    """Boxes in the chip's frame: (0, 0) is its upper-left corner. Highest score first."""
    saturated: bool
    """Whether a limit cut the boxes or the candidates: there may be more objects."""


class Detector(Protocol):
    """Finds objects on chips. On a CPU threads may share it; on a GPU one thread at a time."""

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""

    @property
    def batch(self) -> int:
        """How many chips to pass at once."""

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type."""


class Pending(Protocol):
    """Chips that are being worked on."""

    def result(self) -> list[ChipResult]:
        """Wait for what was found on them."""


@runtime_checkable
class BackgroundDetector(Detector, Protocol):
    """A detector that works while its caller reads, stitches and writes."""

    @property
    def in_flight(self) -> int:
        """How many batches, besides the one waited for, keep it from ever being idle."""

    def start(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> Pending:
        """Begin to find objects on (bands, height, width) chips of one size; wait for nothing.

        The chips must not change before the result is there.
        """


@runtime_checkable
class PreparingDetector(Detector, Protocol):
    """A detector that finds out before the work how many chips it takes at once."""

    def prepare(self, height: int, width: int) -> None:
        """Choose `batch` for chips of this size; does nothing where that is done or stated."""


@dataclass(frozen=True, slots=True)
class Done:
    """A result that is there already."""

    results: list[ChipResult]

    def result(self) -> list[ChipResult]:
        """See `Pending`."""
        return self.results


def check_batch(batch: object) -> None:
    """Raise a ConfigError where this is no number of chips."""
    if batch is not None and not (isinstance(batch, int | np.integer) and batch >= 1):
        raise ConfigError(f"batch must be a whole number of at least 1, got {shown(batch)}")


def check_chips(pixels: NDArray[Any], card: ModelCard) -> None:
    """Compare an array of chips with what the card states.

    Raises:
        ModelError: They differ.
    """
    if pixels.ndim != 4 or pixels.shape[1] != len(card.bands) or 0 in pixels.shape:  # noqa: PLR2004
        raise ModelError(
            f"expected chips of shape ({len(card.bands)}, height, width) with the bands "
            f"{', '.join(card.bands)}, got {pixels.shape[1:]}"
        )
    if pixels.dtype != np.dtype(card.dtype):
        raise ModelError(
            f"expected chips of type {card.dtype} with values from {card.value_range[0]:g} to "
            f"{card.value_range[1]:g}, got {pixels.dtype}; scale the values first"
        )
    if pixels.dtype.kind == "f" and np.isnan(pixels).any():  # OpenVINO makes numbers of them
        raise ModelError(
            "expected chips of numbers, got NaN pixels; put the card's mean in their place "
            f"({', '.join(f'{value:g}' for value in card.neutral)})"
        )


def pad_chips(pixels: NDArray[Any], card: ModelCard) -> NDArray[Any]:
    """Fill chips up to multiples of `CHIP_MULTIPLE_PX`, below and to the right.

    Args:
        pixels: (N, bands, height, width) chips of the card's data type.
        card: What the chips look like.

    Returns:
        Contiguous (N, bands, H, W) chips; `pixels` itself where nothing is missing.
    """
    height, width = pixels.shape[-2:]
    return fill_chips(
        pixels,
        card,
        height=height + -height % CHIP_MULTIPLE_PX,
        width=width + -width % CHIP_MULTIPLE_PX,
    )


def fill_chips(pixels: NDArray[Any], card: ModelCard, *, height: int, width: int) -> NDArray[Any]:
    """Fill chips up to a size, below and to the right.

    The fill is the card's neutral value, so that the network sees about the zeros that its
    convolutions pad with, and every backend sees the same pixels.

    Args:
        pixels: (N, bands, height, width) chips of the card's data type.
        card: What the chips look like.
        height: Rows of the result, no fewer than those of `pixels`.
        width: Columns of the result, no fewer than those of `pixels`.

    Returns:
        Contiguous (N, bands, height, width) chips; `pixels` itself where nothing is missing.
    """
    count, bands, rows, columns = pixels.shape
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(pixels)
    filled = np.empty((count, bands, height, width), dtype=pixels.dtype)
    filled[:] = np.array(card.neutral, pixels.dtype)[:, None, None]
    filled[:, :, :rows, :columns] = pixels
    return filled
