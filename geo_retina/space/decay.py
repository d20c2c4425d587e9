"""Scores that give way to better boxes nearby: soft-NMS without dropping a box."""

import heapq

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import nms
from geo_retina.space.box_checks import check_scores, checked_boxes, groups_of
from geo_retina.space.boxes import Overlap
from geo_retina.space.pairs import Pairs, pair_iou
from geo_retina.space.sweep import Sweep

_MOST_ROUNDS = 32  # of a thousand crowded trees some ten take


def decayed_scores(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    threshold: float,
    class_ids: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Lower the score of each box that overlaps a better one (arXiv 1704.04503, equation 3).

    The best box keeps its score; those that overlap it by more than the threshold have theirs
    multiplied by 1 - IoU; then the best of the rest goes on. What a box with a low score does is
    seen in none above it, so that dropping low scores first or last comes to the same.

    Args:
        boxes: (N, 4) pixel edges.
        scores: (N,) in [0, 1].
        threshold: IoU above which a score decays, in [0, 1].
        class_ids: (N,) only boxes of one class act on each other; None = all do.

    Returns:
        (N,) in the order of the boxes.

    Raises:
        ValueError: Boxes are NaN or infinite, scores are NaN, or the threshold is not in [0, 1].
    """
    exact = checked_boxes(boxes, threshold)
    check_scores(scores, len(boxes))
    groups = groups_of(class_ids, len(boxes))
    order = nms.rank(exact, scores, class_ids=groups)
    ranked = exact[order]
    sweep = Sweep.of(ranked, threshold=threshold, overlap=Overlap.IOU)
    found = sweep.pairs(ranked, groups[order])
    values = scores[order].astype(np.float64)
    _decay(values, found, 1 - pair_iou(ranked, ranked, Pairs(found[:, 0], found[:, 1])))
    result = np.empty_like(values)
    result[order] = values
    return result


def _decay(
    values: NDArray[np.float64], pairs: NDArray[np.int64], factors: NDArray[np.float64]
) -> None:
    """Lower `values`, in place, best first; equal ones in the order in which they stand.

    In rounds: a box that is better than all it overlaps and that have not had their turn has its
    turn next as far as these are concerned, wherever the best of all boxes may lie.
    """
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T  # each pair from both sides
    factors = np.tile(factors, 2)
    for _ in range(_MOST_ROUNDS):
        if not len(one):
            return
        behind = (values[one] < values[other]) | ((values[one] == values[other]) & (one > other))
        waits = np.zeros(len(values), np.bool_)
        waits[one[behind]] = True
        acts = np.flatnonzero(~waits[one])
        acts = acts[np.lexsort([one[acts], -values[one[acts]]])]
        np.multiply.at(values, other[acts], factors[acts])
        left = waits[one] & waits[other]
        one, other, factors = one[left], other[left], factors[left]
    _decay_one_by_one(values, one, other, factors)


def _decay_one_by_one(
    values: NDArray[np.float64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    factors: NDArray[np.float64],
) -> None:
    """The same for pairs, given from both sides, that would take many rounds."""
    beside: dict[int, list[tuple[int, float]]] = {}
    for actor, target, factor in zip(one.tolist(), other.tolist(), factors.tolist(), strict=True):
        beside.setdefault(actor, []).append((target, factor))
    now = values.tolist()
    waiting = [(-now[i], i) for i in beside]
    heapq.heapify(waiting)
    while waiting:
        value, best = heapq.heappop(waiting)
        if best not in beside or -value != now[best]:
            continue  # had its turn, or lowered since
        for target, factor in beside.pop(best):
            if target in beside:
                now[target] *= factor
                heapq.heappush(waiting, (-now[target], target))
    values[:] = now
