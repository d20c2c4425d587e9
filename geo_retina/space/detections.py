"""What a model found, as a struct of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.wording import counted


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N boxes with their scores and classes. Empty is a value: N may be 0."""

    boxes: NDArray[np.float64]
    """(N, 4) pixel edges `x_min, y_min, x_max, y_max` in the frame the producer names."""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    class_ids: NDArray[np.int64]
    """(N,) in 0..K-1."""
    window_ids: NDArray[np.int64]
    """(N,) id of the window that saw the object; -1 where no window is involved."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        lengths = {len(self.scores), len(self.class_ids), len(self.window_ids)}
        if self.boxes.shape != (count, 4) or lengths != {count}:
            raise ValueError(
                "expected boxes (N, 4) and scores, class_ids, window_ids (N,), got "
                f"{self.boxes.shape}, {self.scores.shape}, {self.class_ids.shape}, "
                f"{self.window_ids.shape}"
            )

    def __repr__(self) -> str:
        if not len(self):
            return "<Detections: none>"
        low, high = self.scores.min(), self.scores.max()
        return f"<Detections: {counted(len(self), 'box', 'boxes')}, scores {low:.2f} to {high:.2f}>"

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.boxes)

    @classmethod
    def empty(cls) -> Self:
        """No detections."""
        return cls.of(np.zeros((0, 4)), np.zeros(0), np.zeros(0))

    @classmethod
    def of(
        cls,
        boxes: NDArray[np.generic],
        scores: NDArray[np.generic],
        class_ids: NDArray[np.generic],
        window_id: int = -1,
    ) -> Self:
        """Detections of one window, from arrays of any numeric type."""
        return cls(
            boxes.astype(np.float64).reshape(-1, 4),
            scores.astype(np.float32),
            class_ids.astype(np.int64),
            np.full(len(boxes), window_id, dtype=np.int64),
        )

    @classmethod
    def concat(cls, parts: Sequence["Detections"]) -> "Detections":
        """All detections of `parts`, in their order."""
        if not parts:
            return cls.empty()
        return Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.class_ids for part in parts]),
            np.concatenate([part.window_ids for part in parts]),
        )

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """The detections at a mask or at positions."""
        return Detections(
            self.boxes[index], self.scores[index], self.class_ids[index], self.window_ids[index]
        )

    def shift(self, *, x: float, y: float) -> "Detections":
        """The same detections with boxes moved by `x` and `y` pixels."""
        return replace(self, boxes=box_arrays.shift(self.boxes, x=x, y=y))

    def scale(self, *, x: float, y: float) -> "Detections":
        """The same detections with box coordinates multiplied by `x` and `y`."""
        return replace(self, boxes=box_arrays.scale(self.boxes, x=x, y=y))

    def of_window(self, window_id: int) -> "Detections":
        """The same detections, all seen by one window."""
        return replace(self, window_ids=np.full(len(self), window_id, dtype=np.int64))
