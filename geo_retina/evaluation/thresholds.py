"""Which score to cut at, and how sure one can be of it: bootstrap over rasters or blocks.

Objects of one raster are alike (light, season, species), so single objects are no independent
draws: whole rasters, or whole blocks of one large raster, are drawn with replacement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.evaluation.match import Matches
from geo_retina.evaluation.metrics import (
    OperatingPoint,
    best_f1,
    precision_recall,
)
from geo_retina.evaluation.pairs import Pair, detection_boxes, label_boxes
from geo_retina.space import boxes as box_arrays
from geo_retina.wording import counted

_TAILS = (0.025, 0.975)
_LEAST_GROUPS = 2
_ENOUGH_RASTERS = 10
_BLOCKS = 50
_LEAST_OBJECTS = 5
_AP = 2
"""Where the average precision stands in what a draw is measured by."""
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95 % of the bootstrap; NaN where there are fewer than two groups to draw."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score with the best F1 for one class, and how far it can be trusted."""

    name: str
    """Class, or `all`."""
    best: OperatingPoint
    score: Interval
    """Of the best score."""
    f1: Interval
    """Of the F1 at the score chosen here, on redrawn groups: the threshold is not redrawn."""
    ap: Interval
    """Of the area under the interpolated precision-recall curve; of `all`, of its mean over the
    classes that have labels, each draw's own."""
    groups: int
    """Rasters or blocks that were drawn from."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """What is drawn together: one number for each detection and label."""

    of_detections: NDArray[np.int64]
    """(N,) in 0..count-1."""
    of_labels: NDArray[np.int64]
    """(M,) in 0..count-1."""
    count: int
    what: str
    """Such as `31 rasters` or `48 blocks of 250 px`."""

    def of_class(self, matches: Matches, class_id: int) -> "Groups":
        """The groups of `matches.of_class(class_id)`."""
        return Groups(
            self.of_detections[matches.class_ids == class_id],
            self.of_labels[matches.label_class_ids == class_id],
            self.count,
            self.what,
        )


def choose_groups(pairs: Sequence[Pair], matches: Matches, *, block_px: float | None) -> Groups:
    """Draw blocks of `block_px`; if that is None, whole rasters where there are ten or more.

    What was labelled of fewer rasters is cut into about fifty blocks, none smaller than five
    objects in a row: with smaller ones neighbours that are alike would count as independent.

    Args:
        pairs: The rasters of `matches`, in the same order, with their grids.
        matches: All classes.
        block_px: Side of a block, pixels; None chooses.
    """
    if block_px is not None:
        return block_groups(pairs, matches, block_px=block_px)
    areas = [area for pair in pairs if (area := pair.labelled_px()) is not None]
    if len(pairs) >= _ENOUGH_RASTERS or len(areas) < len(pairs):
        return raster_groups(matches, rasters=len(pairs))
    known = label_boxes(pairs)
    object_px = float(np.sqrt(np.median(box_arrays.area(known)))) if len(known) else 0.0
    chosen = max((sum(areas) / _BLOCKS) ** 0.5, _LEAST_OBJECTS * object_px, 1.0)
    return block_groups(pairs, matches, block_px=float(np.ceil(chosen)))


def raster_groups(matches: Matches, *, rasters: int) -> Groups:
    """Draw whole rasters, those without objects included."""
    return Groups(matches.raster_ids, matches.label_raster_ids, rasters, counted(rasters, "raster"))


def block_groups(pairs: Sequence[Pair], matches: Matches, *, block_px: float) -> Groups:
    """Draw square blocks of the rasters; a match belongs to the block of its label's centre.

    Args:
        pairs: The rasters of `matches`, in the same order.
        matches: All classes.
        block_px: Side of a block, pixels; well over the size of what makes neighbours alike.
    """
    found_cells = np.floor(box_arrays.centres(detection_boxes(pairs)) / block_px)
    known_cells = np.floor(box_arrays.centres(label_boxes(pairs)) / block_px)
    cells = np.concatenate(
        [
            np.column_stack([matches.raster_ids, found_cells]),
            np.column_stack([matches.label_raster_ids, known_cells]),
        ]
    )
    numbers = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    of_found, of_known = numbers[: len(found_cells)], numbers[len(found_cells) :]
    if len(of_known):
        of_found = np.where(matches.label_of >= 0, of_known[matches.label_of], of_found)
    count = int(numbers.max(initial=-1)) + 1
    return Groups(of_found, of_known, count, f"{counted(count, 'block')} of {block_px:g} px")


def best_thresholds(
    matches: Matches, groups: Groups, *, samples: int, seed: int = 0
) -> tuple[Threshold, ...]:
    """Best threshold of all classes together; if there are several, also of each with labels.

    Each draw is one for all: the average precision of `all` is the mean over the classes that have
    labels in it, as `Quality.ap` is.

    Args:
        matches: All classes.
        groups: What to draw; of `matches`.
        samples: Bootstrap samples.
        seed: The same seed gives the same intervals.
    """
    parts = [_Part.of("all", matches, groups)]
    if len(matches.class_names) > 1:
        known = np.unique(matches.label_class_ids).tolist()
        parts += [
            _Part.of(
                matches.class_names[class_id],
                matches.of_class(class_id),
                groups.of_class(matches, class_id),
            )
            for class_id in known
        ]
    if groups.count < _LEAST_GROUPS or not samples:
        return tuple(part.threshold(None) for part in parts)
    rng = np.random.default_rng(seed)
    even = np.full(groups.count, 1 / groups.count)
    draws = np.array([_measure(parts, rng.multinomial(groups.count, even)) for _ in range(samples)])
    return tuple(part.threshold(draws[:, index]) for index, part in enumerate(parts))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """All classes, or one of them: what each draw is measured by."""

    name: str
    best: OperatingPoint
    draw: "_Draw"
    groups: int

    @classmethod
    def of(cls, name: str, matches: Matches, groups: Groups) -> "_Part":
        curve = precision_recall(matches)
        counted = ~matches.ignored
        order = np.argsort(-matches.scores[counted], kind="stable")
        labels = groups.of_labels[~matches.label_ignored]
        draw = _Draw(
            scores=curve.scores,
            hits=matches.hits[counted][order],
            of_detections=groups.of_detections[counted][order],
            labels=np.bincount(labels, minlength=groups.count),
        )
        return cls(name, best_f1(curve), draw, groups.count)

    def threshold(self, draws: NDArray[np.float64] | None) -> Threshold:
        """The threshold with the intervals of (samples, 3) draws; None = there are none."""
        if draws is None or not len(self.draw.scores):
            unknown = Interval(_NAN, _NAN)
            return Threshold(self.name, self.best, unknown, unknown, unknown, self.groups)
        score, f1, ap = (_interval(column) for column in draws.T)
        return Threshold(self.name, self.best, score, f1, ap, self.groups)


def _measure(parts: Sequence[_Part], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(parts, 3) best score, F1 and average precision of one draw; the first part is `all`."""
    rows = np.array([part.draw.measure(weights, part.best.score) for part in parts])
    of_classes = rows[1:, _AP]
    known = of_classes[np.isfinite(of_classes)]  # a class without labels here has none
    if len(known):
        rows[0, _AP] = known.mean()
    return rows


def _interval(values: NDArray[np.float64]) -> Interval:
    """Of the draws that define it: without labels there is no F1, without hits no best score."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, _TAILS) if len(known) else (_NAN, _NAN)
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True, eq=False)
class _Draw:
    """Detections by falling score, to be measured with other weights of their groups."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    of_detections: NDArray[np.int64]
    labels: NDArray[np.int64]
    """Labels of each group."""

    def measure(self, weights: NDArray[np.int64], score: float) -> tuple[float, float, float]:
        """Best score, F1 at `score` and average precision if each group counts `weights` times."""
        times = weights[self.of_detections]
        kept = np.cumsum(times)
        hits = np.cumsum(times * self.hits)
        labels = int(weights @ self.labels)
        if not labels:
            return _NAN, _NAN, _NAN
        if not hits.any():
            return _NAN, 0.0, 0.0
        f1 = 2 * hits / (kept + labels)
        ends = np.diff(self.scores, append=-np.inf) != 0
        best = float(self.scores[ends][np.argmax(f1[ends])])
        cut = int(np.searchsorted(-self.scores, -score, side="right"))
        here = float(f1[cut - 1]) if cut else 0.0
        return best, here, _weighted_ap(hits, kept, labels)


def _weighted_ap(hits: NDArray[np.int64], kept: NDArray[np.int64], labels: int) -> float:
    """Area under the interpolated precision-recall curve."""
    precision = np.divide(hits, kept, out=np.zeros(len(hits)), where=kept > 0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(hits, prepend=0) * envelope).sum() / labels)
