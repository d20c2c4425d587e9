"""From which score on detections are counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Cut:
    """A least score for all classes, or one for each."""

    score: float
    """Of all classes that `of_class` does not tell."""
    of_class: tuple[float, ...] | None = None
    """(K,) of each class id; None = `score` holds for all."""

    def keeps(
        self, scores: NDArray[np.floating], class_ids: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """(N,) True for the detections that reach the score of their class.

        Args:
            scores: (N,)
            class_ids: (N,) in 0..K-1.
        """
        if self.of_class is None:
            return np.asarray(scores >= self.score)
        return np.asarray(scores >= np.array(self.of_class)[class_ids])

    def of(self, class_id: int) -> float:
        """The least score of one class."""
        return self.score if self.of_class is None else self.of_class[class_id]
