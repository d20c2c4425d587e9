"""Ways to make one detection of the several that windows give for one object.

A way is a small frozen value with a method `settle`, which tells final detections from those that
unread ones may still change. With nothing unread, it merges all there is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import ConfigError
from geo_retina.space import nms
from geo_retina.space.box_checks import check_scores, checked_boxes, groups_of
from geo_retina.space.boxes import Overlap
from geo_retina.space.detections import Detections
from geo_retina.space.links import components

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What is certain about N detections, and what is not."""

    final: Detections
    """F detections that nothing unread can change."""
    sources: Integers
    """(F,) for each of `final` the one of the N that it is, or that leads those it was made of."""
    pending: Integers
    """(P,) which of the N have to be settled again, together with those still unread."""
    absorbed: Integers
    """(A, 2) which of the N are gone for good, and which one each of them gave way to."""


class Merging(Protocol):
    """A way to merge detections."""

    def settle(self, found: Detections, *, unread_from: float = np.inf) -> Settled:
        """Merge detections as far as the unread ones allow.

        Settling part by part, each time together with what was pending, gives the same final
        detections as settling all at once.

        Args:
            found: Detections in one pixel frame, in any order.
            unread_from: y in pixels above which no unread detection reaches (their least `y_min`).

        Raises:
            ValueError: Boxes are NaN or infinite, or scores are NaN.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyNms:
    """Keep the best, drop those of its class that overlap it: see `nms`."""

    threshold: float
    """Overlap above which the lower-ranked box goes, in [0, 1]."""
    overlap: Overlap = Overlap.IOU
    """How overlap is measured. IOS also drops pieces of an object that a window cut."""

    def settle(self, found: Detections, *, unread_from: float = np.inf) -> Settled:
        """See `Merging.settle`."""
        result = nms.settle(
            found.boxes,
            found.scores,
            threshold=self.threshold,
            overlap=self.overlap,
            class_ids=found.class_ids,
            window_ids=found.window_ids,
            may_change=found.boxes[:, 3] > unread_from,
        )
        absorbed = np.stack([result.suppressed, result.suppressors], axis=1)
        return Settled(found.select(result.kept), result.kept, result.unknown, absorbed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftNms:
    """Lower the scores of boxes that overlap a better one: soft-NMS, arXiv 1704.04503.

    The linear form (equation 3): a score is multiplied by 1 - IoU for each better box that overlaps
    by more than the threshold. The Gaussian form (equation 4) lets all boxes that touch act on each
    other; in a closed canopy nothing would then be final before the last strip.
    """

    threshold: float
    """IoU above which scores decay, in [0, 1]."""
    score_floor: float = 0.001
    """Boxes whose score falls under it go; 0.001 is the paper's."""

    def settle(self, found: Detections, *, unread_from: float = np.inf) -> Settled:
        """See `Merging.settle`."""
        order = _rank(found)
        boxes = np.ascontiguousarray(checked_boxes(found.boxes, self.threshold)[order])
        from geo_retina.space import _kernels

        scores, states, decayed_by = _kernels.decay(
            boxes,
            groups_of(found.class_ids, len(found))[order],
            found.scores[order].astype(np.float64),
            boxes[:, 3] > unread_from,
            float(self.threshold),
            float(self.score_floor),
        )
        keep, lost = states == nms.KEPT, (states == nms.SUPPRESSED) & (decayed_by >= 0)
        sources = order[keep]
        final = replace(found.select(sources), scores=scores[keep].astype(np.float32))
        absorbed = np.stack([order[lost], order[decayed_by[lost]]], axis=1)
        return Settled(final, sources, order[states == nms.UNKNOWN], absorbed)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFusion:
    """Average boxes, weighted by their scores: weighted box fusion, arXiv 1910.13302, section 3.

    Clusters form inside each connected component of boxes that overlap by more than the threshold,
    so that a component can be final before all boxes are known. The score of a cluster is the mean
    of its members'. The paper's last step, which lowers clusters that few of the models saw, is
    left out: windows are not models, and most objects lie in one window only.
    """

    threshold: float
    """IoU with the fused box above which a box joins a cluster, in [0, 1]."""

    def settle(self, found: Detections, *, unread_from: float = np.inf) -> Settled:
        """See `Merging.settle`."""
        parts = _components(found, threshold=self.threshold, unread_from=unread_from)
        from geo_retina.space import _kernels

        boxes, scores, leaders = _kernels.fuse(
            found.boxes[parts.members],
            found.scores[parts.members].astype(np.float64),
            parts.starts,
            float(self.threshold),
        )
        leads = leaders == np.arange(len(leaders))
        sources = parts.members[leads]
        final = replace(
            found.select(sources), boxes=boxes[leads], scores=scores[leads].astype(np.float32)
        )
        absorbed = np.stack([parts.members[~leads], parts.members[leaders[~leads]]], axis=1)
        return Settled(final, sources, parts.pending, absorbed)


@dataclass(frozen=True, slots=True)
class AcrossClasses:
    """Merge boxes of different classes too; what is left keeps the class of the best."""

    merging: Merging

    def settle(self, found: Detections, *, unread_from: float = np.inf) -> Settled:
        """See `Merging.settle`."""
        order = _rank(found)  # by class too, which the merging below does not see
        ranked = found.select(order)
        one_class = replace(ranked, class_ids=np.zeros_like(ranked.class_ids))
        settled = self.merging.settle(one_class, unread_from=unread_from)
        return Settled(
            replace(settled.final, class_ids=ranked.class_ids[settled.sources]),
            order[settled.sources],
            order[settled.pending],
            order[settled.absorbed],
        )


METHODS: dict[str, Callable[[float, float], Merging]] = {
    "nms": lambda iou, _score: GreedyNms(threshold=iou),
    "nms-ios": lambda iou, _score: GreedyNms(threshold=iou, overlap=Overlap.IOS),
    "soft-nms": lambda iou, score: SoftNms(threshold=iou, score_floor=score),
    "wbf": lambda iou, _score: BoxFusion(threshold=iou),
}
"""The ways by the names that users type, of the overlap that merges and the least score."""


def build_merging(name: str, *, threshold: float, score: float) -> Merging:
    """Make the way called `name`.

    Args:
        name: A key of `METHODS`.
        threshold: Overlap above which boxes are merged, in [0, 1].
        score: Least score of a result, for ways that lower scores.

    Raises:
        ConfigError: There is none of that name, or the threshold is not in [0, 1].
    """
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}")
    if not 0 <= threshold <= 1:
        raise ConfigError(f"expected an overlap threshold in [0, 1], got {threshold}")
    return METHODS[name](threshold, score)


@dataclass(frozen=True, slots=True, eq=False)
class _Components:
    """The connected components that nothing unread can touch."""

    members: Integers
    """(M,) positions, component by component, each in rank order."""
    starts: Integers
    """(C + 1,) component c is `members[starts[c]:starts[c + 1]]`."""
    pending: Integers
    """Positions of all others."""


def _components(found: Detections, *, threshold: float, unread_from: float) -> _Components:
    order = _rank(found)
    boxes = found.boxes[order]
    first = components(boxes, threshold=threshold, class_ids=found.class_ids[order])
    open_ = np.zeros(len(order), np.bool_)
    open_[first[boxes[:, 3] > unread_from]] = True
    closed = np.flatnonzero(~open_[first])
    closed = closed[np.argsort(first[closed], kind="stable")]
    _, starts = np.unique(first[closed], return_index=True)
    return _Components(
        order[closed], np.append(starts, len(closed)).astype(np.int64), order[open_[first]]
    )


def _rank(found: Detections) -> Integers:
    check_scores(found.scores, len(found))
    return nms.rank(
        found.boxes, found.scores, class_ids=found.class_ids, window_ids=found.window_ids
    )
