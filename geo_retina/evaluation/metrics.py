"""Precision, recall and average precision of matched detections.

Two definitions of average precision are in use, and both are given:

* `average_precision`: the whole area under the interpolated precision-recall curve (PASCAL VOC
  2010 and later; DeepForest's benchmark figures).
* `coco_average_precision`: the mean of the interpolated precision at the recalls 0, 0.01, ... 1
  (COCO; equals `pycocotools` to 1e-12).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.evaluation.match import Matches

COCO_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds 0.50, 0.55, ... 0.95 whose mean is AP50:95."""

_COCO_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision and recall if all detections down to each one are kept. N may be 0."""

    scores: NDArray[np.float64]
    """(N,) falling."""
    hits: NDArray[np.int64]
    """(N,) detections so far that found an object."""
    labels: int
    """Objects there are to find."""

    @property
    def precision(self) -> NDArray[np.float64]:
        """(N,) share of the detections so far that found an object."""
        shares: NDArray[np.float64] = self.hits / np.arange(1, len(self.hits) + 1)
        return shares

    @property
    def recall(self) -> NDArray[np.float64]:
        """(N,) share of the objects found so far; all NaN where there are none."""
        if not self.labels:
            return np.full(len(self.hits), np.nan)
        shares: NDArray[np.float64] = self.hits / self.labels
        return shares

    @property
    def interpolated(self) -> NDArray[np.float64]:
        """(N,) highest precision at this recall or any higher one."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    @property
    def cuts(self) -> NDArray[np.int64]:
        """(T,) position of the last detection of each score: equal scores are kept or cut together.

        So these are the only thresholds that a user can set.
        """
        return np.flatnonzero(np.diff(self.scores, append=-np.inf))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one gets with all detections of at least some score."""

    score: float
    """Least score; NaN where it is the best one and none gives a hit."""
    detections: int
    hits: int
    """Detections that found an object."""
    labels: int

    @property
    def precision(self) -> float:
        """Share of the detections that found an object; NaN without detections."""
        return self.hits / self.detections if self.detections else float("nan")

    @property
    def recall(self) -> float:
        """Share of the objects that were found; NaN without objects."""
        return self.hits / self.labels if self.labels else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN with neither detections nor objects."""
        both = self.detections + self.labels
        return 2 * self.hits / both if both else float("nan")


def precision_recall(matches: Matches) -> PrecisionRecall:
    """Precision-recall curve of the detections that count, equal scores in their order."""
    counted = ~matches.ignored
    scores, hits = matches.scores[counted], matches.hits[counted]
    order = np.argsort(-scores, kind="stable")
    return PrecisionRecall(scores[order], np.cumsum(hits[order]), matches.counted_labels)


def average_precision(curve: PrecisionRecall) -> float:
    """Area under the interpolated precision-recall curve; NaN without labels."""
    if not curve.labels:
        return float("nan")
    steps = np.diff(curve.recall, prepend=0.0)
    return float((steps * curve.interpolated).sum())


def coco_average_precision(curve: PrecisionRecall) -> float:
    """Mean interpolated precision at 101 recalls, 0 beyond the last one; NaN without labels."""
    if not curve.labels:
        return float("nan")
    reached = np.searchsorted(curve.recall, _COCO_RECALLS, side="left")
    return float(np.append(curve.interpolated, 0.0)[reached].mean())


def as_detected(score: float) -> float:
    """A score as detections have it, in float32: 0.7 there is less than 0.7."""
    return float(np.float32(score))


def at_score(curve: PrecisionRecall, score: float) -> OperatingPoint:
    """Keep the detections of at least `score`."""
    kept = int(np.searchsorted(-curve.scores, -score, side="right"))
    return OperatingPoint(score, kept, int(curve.hits[kept - 1]) if kept else 0, curve.labels)


def best_f1(curve: PrecisionRecall) -> OperatingPoint:
    """The threshold with the highest F1, the higher of equally good ones; NaN where none hits."""
    if not curve.hits.any():
        return OperatingPoint(float("nan"), 0, 0, curve.labels)
    cuts = curve.cuts
    f1 = 2 * curve.hits[cuts] / (cuts + 1 + curve.labels)
    return at_score(curve, float(curve.scores[cuts[np.argmax(f1)]]))
