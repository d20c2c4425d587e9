"""Compiled loops over overlapping boxes. Importing this module loads numba: see `_buckets`.

All take boxes (N, 4) float64 in rank order and groups (N,) int64 in 0..G-1, both contiguous.
"""

import numpy as np
from numpy.typing import NDArray

from geo_retina.space._buckets import (
    IOU,
    KEPT,
    SUPPRESSED,
    UNKNOWN,
    build,
    compiled,
    overlap_of,
    rivals,
    store,
)

Boxes = NDArray[np.float64]
Integers = NDArray[np.int64]

_FEW_CROSS = 0.3  # sectors pay while at most this share of the boxes may meet boxes of another one


@compiled
def settle(
    boxes: Boxes, groups: Integers, may_change: NDArray[np.bool_], threshold: float, measure: int
) -> tuple[NDArray[np.int8], Integers]:
    """Greedy NMS: state of each box and position of the box that suppressed it, or -1."""
    buckets = build(boxes, groups)
    states = np.zeros(len(boxes), np.int8)
    suppressors = np.full(len(boxes), -1, np.int64)
    found = np.empty(len(boxes), np.int32)
    for i in range(len(boxes)):
        states[i] = UNKNOWN if may_change[i] else KEPT
        count = rivals(buckets, i, threshold, measure, states, found)
        if count > 0:
            last = found[count - 1]
            states[i] = UNKNOWN
            if states[last] == KEPT:
                states[i] = SUPPRESSED
                suppressors[i] = last
        if states[i] != SUPPRESSED:
            store(buckets, i)
    return states, suppressors


@compiled
def _sectors(
    boxes: Boxes, threshold: float, measure: int, per_axis: int
) -> tuple[Integers, NDArray[np.bool_]]:
    """Divide the plane into equal rectangles by the boxes' upper-left corners.

    Returns:
        The sector of each box, and whether a box of another sector may overlap it too much. One
        that does starts at most `reach` side lengths further left (or up) than this box: it is at
        most 1 / t times as long (t the threshold on IoU), and shares t times its own length.
    """
    low, high, longest = np.full(2, np.inf), np.full(2, -np.inf), np.zeros(2)
    far = 0.0
    for i in range(len(boxes)):
        for axis in range(2):
            low[axis] = min(low[axis], boxes[i, axis])
            high[axis] = max(high[axis], boxes[i, axis])
            longest[axis] = max(longest[axis], boxes[i, axis + 2] - boxes[i, axis])
            far = max(far, abs(boxes[i, axis]), abs(boxes[i, axis + 2]))
    slack = far * 2.0**-48
    by_side = measure == IOU and threshold > 0
    reach = 1 / threshold - 1 + 1e-6 if by_side else 0.0
    sectors, crossing = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.bool_)
    for axis in range(2):
        edge = max((high[axis] - low[axis]) / per_axis, 1e-300)
        for i in range(len(boxes)):
            start, end = boxes[i, axis], boxes[i, axis + 2]
            cell = min(int((start - low[axis]) / edge), per_axis - 1)
            least = start - ((end - start) * reach if by_side else longest[axis])
            if cell > 0 and least < low[axis] + cell * edge + slack:
                crossing[i] = True
            if cell < per_axis - 1 and end > low[axis] + (cell + 1) * edge - slack:
                crossing[i] = True
            sectors[i] = sectors[i] * per_axis + cell
    return sectors, crossing


@compiled
def settle_sectors(  # noqa: PLR0917  compiled functions take no keywords
    boxes: Boxes,
    groups: Integers,
    may_change: NDArray[np.bool_],
    threshold: float,
    measure: int,
    per_axis: int,
) -> tuple[NDArray[np.int8], Integers]:
    """Like `settle`, but one sector after the other.

    What depends on several of the `per_axis` squared sectors stays UNKNOWN.
    """
    sectors, crossing = _sectors(boxes, threshold, measure, per_axis)
    if crossing.sum() > _FEW_CROSS * len(boxes):
        return settle(boxes, groups, may_change, threshold, measure)
    crossing |= may_change
    ends = np.cumsum(np.bincount(sectors, minlength=per_axis * per_axis))
    members = np.empty(len(boxes), np.int64)
    for i in range(len(boxes) - 1, -1, -1):
        ends[sectors[i]] -= 1
        members[ends[sectors[i]]] = i
    states = np.empty(len(boxes), np.int8)
    suppressors = np.full(len(boxes), -1, np.int64)
    for sector in range(len(ends)):
        end = ends[sector + 1] if sector + 1 < len(ends) else len(boxes)
        part = members[ends[sector] : end]
        if len(part) > 0:
            found, by = settle(boxes[part], groups[part], crossing[part], threshold, measure)
            for i in range(len(part)):
                states[part[i]] = found[i]
                suppressors[part[i]] = part[by[i]] if by[i] >= 0 else -1
    return states, suppressors


@compiled
def pairs(boxes: Boxes, groups: Integers, threshold: float, measure: int) -> Integers:
    """All pairs of one group that overlap by more than the threshold, (P, 2), later one first."""
    buckets = build(boxes, groups)
    states = np.full(len(boxes), UNKNOWN, np.int8)
    found = np.empty(len(boxes), np.int32)
    linked = np.empty((max(len(boxes), 1), 2), np.int64)
    total = 0
    for i in range(len(boxes)):
        count = rivals(buckets, i, threshold, measure, states, found)
        if total + count > len(linked):
            grown = np.empty((2 * (total + count), 2), np.int64)
            grown[:total] = linked[:total]
            linked = grown
        for j in found[:count]:
            linked[total, 0], linked[total, 1] = i, j
            total += 1
        store(buckets, i)
    return linked[:total].copy()


@compiled
def _root(parents: Integers, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def components(boxes: Boxes, groups: Integers, threshold: float, measure: int) -> Integers:
    """First member of each box's connected component, (N,)."""
    buckets = build(boxes, groups)
    states = np.full(len(boxes), UNKNOWN, np.int8)
    found = np.empty(len(boxes), np.int32)
    parents = np.arange(len(boxes))
    for i in range(len(boxes)):
        count = rivals(buckets, i, threshold, measure, states, found)
        for j in found[:count]:
            a, b = _root(parents, i), _root(parents, j)
            parents[max(a, b)] = min(a, b)
        store(buckets, i)
    for i in range(len(boxes)):
        parents[i] = _root(parents, i)
    return parents


@compiled
def decay(
    boxes: Boxes, scores: NDArray[np.float64], starts: Integers, threshold: float, floor: float
) -> tuple[NDArray[np.float64], Integers]:
    """Linear soft-NMS (arXiv 1704.04503, eq. 3) inside each component.

    Args:
        boxes: (N, 4) component by component, each in rank order.
        scores: (N,)
        starts: (C + 1,) component c is `starts[c]:starts[c + 1]`.
        threshold: IoU above which a score decays.
        floor: Boxes whose score falls under it are dropped.

    Returns:
        Decayed scores (N,), and the box that decayed each last, or -1.
    """
    scores = scores.copy()
    decayed_by = np.full(len(boxes), -1, np.int64)
    waiting = np.empty(len(boxes), np.int64)
    for c in range(len(starts) - 1):
        count = starts[c + 1] - starts[c]
        for i in range(count):
            waiting[i] = starts[c] + i
        while count > 0:
            at = 0
            for i in range(1, count):
                best, other = scores[waiting[at]], scores[waiting[i]]
                if other > best or (other == best and waiting[i] < waiting[at]):
                    at = i
            top = waiting[at]
            if scores[top] < floor:
                break
            count -= 1
            waiting[at] = waiting[count]
            for other in waiting[:count]:
                overlap = overlap_of(boxes, top, other, IOU)
                if overlap > threshold:
                    scores[other] *= 1 - overlap
                    decayed_by[other] = top
    return scores, decayed_by


@compiled
def fuse(
    boxes: Boxes, scores: NDArray[np.float64], starts: Integers, threshold: float
) -> tuple[Boxes, NDArray[np.float64], Integers]:
    """Weighted box fusion (arXiv 1910.13302, section 3) inside each component.

    Takes what `decay` takes. Returns for the first member of each cluster the fused box and score,
    and for every box the first member of its cluster.
    """
    n = len(boxes)
    fused, total, weight = boxes.copy(), boxes.copy(), scores.copy()
    members = np.ones(n, np.int64)
    leaders = np.arange(n)
    clusters = np.empty(n, np.int64)
    for i in range(n):
        total[i] = boxes[i] * scores[i]
    both = np.empty((2, 4))
    for c in range(len(starts) - 1):
        count = 0
        for i in range(starts[c], starts[c + 1]):
            best, best_overlap = -1, threshold
            both[0] = boxes[i]
            for leader in clusters[:count]:
                both[1] = fused[leader]
                overlap = overlap_of(both, 0, 1, IOU)
                if overlap > best_overlap:
                    best, best_overlap = leader, overlap
            if best < 0:
                clusters[count] = i
                count += 1
                continue
            leaders[i] = best
            members[best] += 1
            weight[best] += scores[i]
            total[best] += total[i]
            if weight[best] > 0:
                fused[best] = total[best] / weight[best]
    return fused, weight / members, leaders
