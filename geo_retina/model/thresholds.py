"""What counts as found on one chip (paper, section 4, Inference), as plain data without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import ModelError
from geo_retina.space.detections import Detections


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
    class_agnostic: bool = False
    """Whether boxes of different classes drop and lower each other too."""

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1 or not 0 < self.nms_iou <= 1:
            raise ModelError(
                "expected a score in [0, 1] and nms_iou in (0, 1], got "
                f"{self.score} and {self.nms_iou}"
            )
        if self.candidates_per_level < 1 or self.detections_per_chip < 1:
            raise ModelError(
                "candidates_per_level and detections_per_chip must be at least 1, got "
                f"{self.candidates_per_level} and {self.detections_per_chip}"
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

    def groups(self, class_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """(N,) ids of which only equal ones are compared; None = all boxes are."""
        return None if self.class_agnostic else class_ids

    def with_limits_times(self, factor: float) -> "Thresholds":
        """The same with limits so many times as high; they never shrink."""
        return replace(
            self,
            candidates_per_level=math.ceil(self.candidates_per_level * max(factor, 1)),
            detections_per_chip=math.ceil(self.detections_per_chip * max(factor, 1)),
        )
