"""What runs a network on chips: the `Detector` protocol and the values that pass through it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import ConfigError, ModelError
from geo_retina.space.detections import Detections
from geo_retina.wording import shown

CHIP_MULTIPLE_PX = 32
"""Networks take chips of multiples of the coarsest stride of their backbones."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as found on one chip, and how many boxes are kept."""

    score: float
    """Boxes with a lower score are dropped; in [0, 1]."""
    nms_iou: float
    """Of two boxes of one class that overlap more, the lower-scored one is dropped; in (0, 1]."""
    candidates_per_level: int
    """Highest-scored anchors of each level that are decoded."""
    detections_per_chip: int
    """Most boxes of one chip."""
    decay_iou: float | None = None
    """Of two boxes of one class that overlap more, the lower score falls; None = scores stay."""
    class_scores: tuple[float, ...] | None = None
    """Least score of each class id, none under `score`; None = `score` holds for all."""

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1 or not 0 < self.nms_iou <= 1:
            raise ModelError(
                "expected a score in [0, 1] and nms_iou in (0, 1], got "
                f"{self.score} and {self.nms_iou}"
            )

    @classmethod
    def of(
        cls,
        card: ModelCard,
        *,
        score: float | None = None,
        class_scores: Mapping[str, float] | None = None,
    ) -> "Thresholds":
        """What the card states, but for scores that are given.

        Args:
            card: Of the model.
            score: Least score of all classes; None = what the card states for each.
            class_scores: Classes with another one, of the card's.
        """
        least, others = (card.score, card.class_scores) if score is None else (score, {})
        others = {**others, **(class_scores or {})}
        each = tuple(others.get(name, least) for name in card.class_names)
        return cls(
            min(each),
            card.nms_iou,
            card.candidates_per_level,
            card.detections_per_chip,
            card.decay_iou,
            each if others else None,
        )

    def reached(self, found: Detections) -> Detections:
        """Those detections that score as their class has to."""
        if self.class_scores is None:
            return found
        least = np.array(self.class_scores, np.float32)  # as scores are: 0.7 reaches 0.7
        return found.select(found.scores >= least[found.class_ids])

    def with_limits_times(self, factor: float) -> "Thresholds":
        """The same with limits so many times as high; they never shrink."""
        return replace(
            self,
            candidates_per_level=math.ceil(self.candidates_per_level * max(factor, 1)),
            detections_per_chip=math.ceil(self.detections_per_chip * max(factor, 1)),
        )


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
