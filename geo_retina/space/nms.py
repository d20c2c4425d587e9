"""Exact non-maximum suppression of any number of boxes in near-linear time.

Greedy NMS goes through the boxes by rank and keeps each one that no kept box overlaps by more than
the threshold. The rank is a total order of what the boxes are (score, then coordinates, class and
window), so that the result does not depend on the order in which they come.

`settle` is the same for a part of the boxes: it tells which ones are decided whatever the rest may
hold. That makes stitching a stream, and it makes large inputs fast: first each sector of the plane
is settled on its own, in the processor's cache, several of them side by side where there are cores
for that, then what is left is settled at once. What little work there is, such as the boxes of one
chip, is done in numpy: compiled code takes long to load.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.cores import usable_cores
from geo_retina.space import boxes as box_arrays
from geo_retina.space.box_checks import check_scores, checked_boxes, groups_of
from geo_retina.space.boxes import Overlap
from geo_retina.space.sweep import Sweep

Integers = NDArray[np.int64]

Choice = Callable[[NDArray[np.float64], float, Overlap], Sweep | None]
"""Gives the sweep of (N, 4) boxes for a threshold and a measure, or None where none pays."""

KEPT, SUPPRESSED, UNKNOWN = 0, 1, 2

_FEW = 64  # so many boxes are compared all with all
_MANY = 100_000  # sorting so many for a sweep costs more than it may save
_MOST_MEETINGS = 4_000_000  # of one sweep, which takes some 100 ns for each
_MOST_MEETINGS_COMPILED = 5_000  # the same, where compiled code is at hand
_PATIENCE = 6_000_000  # meetings of all sweeps together, which take as long as numba to load
_SECTOR = 8192  # boxes whose search fits in a core's cache
_FEW_CROSS = 0.3  # sectors pay while at most this share of the boxes may meet boxes of another one
_MOST_ROUNDS = 32  # of a thousand crowded trees some ten take
_PER_THREAD = 25_000  # boxes worth a thread of their own


@dataclass(frozen=True, slots=True, eq=False)
class Settlement:
    """What greedy NMS decides, as positions in the arrays it was given."""

    kept: Integers
    """(K,) boxes that stay, in rank order."""
    unknown: Integers
    """(U,) boxes that unread ones may still decide, in rank order."""
    suppressed: Integers
    """(S,) boxes that go, in rank order."""
    suppressors: Integers
    """(S,) for each of `suppressed` a kept box of higher rank that overlaps it too much."""


def rank(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    class_ids: Integers | None = None,
    window_ids: Integers | None = None,
) -> Integers:
    """Positions (N,) of boxes from the first to the last rank.

    The highest score comes first; ties are ordered by `x_min, y_min, x_max, y_max`, class and
    window, lowest first. Boxes that are equal in all of these keep their order.
    """
    order = np.argsort(-scores).astype(np.int64)
    ranked = scores[order]
    same = ranked[1:] == ranked[:-1]
    keys: list[NDArray[Any]] = [boxes[:, axis] for axis in range(4)]
    keys += [ids for ids in (class_ids, window_ids) if ids is not None]
    for key in [*keys, np.arange(len(order))]:  # few of those tied in one are tied in the next
        if not same.any():
            break
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        run = np.append(0, np.cumsum(~same))[tied]
        members = order[tied]
        order[tied] = members[np.lexsort([key[members], run])]
        values = key[order]
        same &= values[1:] == values[:-1]
    return order


def nms(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    threshold: float,
    overlap: Overlap = Overlap.IOU,
    class_ids: Integers | None = None,
    window_ids: Integers | None = None,
) -> Integers:
    """Keep the best of overlapping boxes.

    Args:
        boxes: (N, 4) pixel edges, in any order.
        scores: (N,)
        threshold: Of two boxes that overlap by more than this, the lower-ranked one goes.
        overlap: How overlap is measured.
        class_ids: (N,) only boxes of one class suppress each other; None compares all boxes.
        window_ids: (N,) last tie-break of the rank.

    Returns:
        (K,) positions of the boxes that stay, in rank order.

    Raises:
        ValueError: The arrays do not fit each other, boxes are NaN or infinite, scores are NaN, or
            the threshold is not in [0, 1].
    """
    ranked = _Ranked.of(boxes, scores, threshold, class_ids, window_ids)
    unread = np.zeros(len(ranked.order), np.bool_)
    # what is kept is the same either way; which box suppressed another one is not asked
    states, _ = _settle(ranked, unread, threshold, overlap, choose=_patience.sweep)
    kept: Integers = ranked.order[states == KEPT]
    return kept


def settle(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    threshold: float,
    overlap: Overlap = Overlap.IOU,
    class_ids: Integers | None = None,
    window_ids: Integers | None = None,
    may_change: NDArray[np.bool_] | None = None,
) -> Settlement:
    """Decide what greedy NMS over these and yet unread boxes will keep, as far as that is certain.

    A box is suppressed for good where a kept box of higher rank overlaps it. Otherwise it is
    unknown where an unknown box of higher rank overlaps it, or where unread boxes may overlap it.
    All others are kept for good. Only the unknown ones matter to the boxes still to come: a kept
    one cannot meet them, and a suppressed one suppresses nothing.

    Args:
        boxes: See `nms`.
        scores: See `nms`.
        threshold: See `nms`.
        overlap: See `nms`.
        class_ids: See `nms`.
        window_ids: See `nms`.
        may_change: (N,) True where boxes that are not among these may overlap this one; None where
            these are all boxes there are.

    Raises:
        ValueError: See `nms`.
    """
    ranked = _Ranked.of(boxes, scores, threshold, class_ids, window_ids)
    order = ranked.order
    open_ = np.zeros(len(order), np.bool_) if may_change is None else may_change[order]
    states, suppressors = _settle(ranked, open_, threshold, overlap, choose=little_sweep)
    lost = states == SUPPRESSED
    return Settlement(
        order[states == KEPT],
        order[states == UNKNOWN],
        order[lost],
        order[suppressors[lost]],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Boxes in rank order."""

    order: Integers
    """(N,) where each box stood."""
    boxes: NDArray[np.float64]
    """(N, 4), contiguous."""
    groups: Integers
    """(N,) in 0..G-1."""

    @classmethod
    def of(
        cls,
        boxes: NDArray[np.floating],
        scores: NDArray[np.floating],
        threshold: float,
        class_ids: Integers | None,
        window_ids: Integers | None,
    ) -> Self:
        """Check and rank boxes; raises what `nms` does."""
        checked = checked_boxes(boxes, threshold)
        check_scores(scores, len(checked))
        order = rank(checked, scores, class_ids=class_ids, window_ids=window_ids)
        groups = groups_of(class_ids, len(order))[order]
        return cls(order, np.ascontiguousarray(checked[order]), groups)


def little_sweep(boxes: NDArray[np.float64], threshold: float, overlap: Overlap) -> Sweep | None:
    """The sweep of (N, 4) boxes if it is little work, whatever is loaded; else None."""
    return _sweep(boxes, threshold, overlap, most_boxes=_MANY, most_meetings=_MOST_MEETINGS)


def _sweep(
    boxes: NDArray[np.float64],
    threshold: float,
    overlap: Overlap,
    *,
    most_boxes: int,
    most_meetings: int,
) -> Sweep | None:
    if len(boxes) > most_boxes:
        return None
    sweep = Sweep.of(boxes, threshold=threshold, overlap=overlap)
    return sweep if sweep.meetings <= most_meetings else None


class _Patience:
    """Does without numba until that has cost as much as loading it, and then with it."""

    def __init__(self) -> None:
        self._left = _PATIENCE

    def sweep(self, boxes: NDArray[np.float64], threshold: float, overlap: Overlap) -> Sweep | None:
        """The sweep of (N, 4) boxes if it shall be made; counts what is swept."""
        if "geo_retina.space._kernels" in sys.modules:
            few = min(_MOST_MEETINGS_COMPILED, _MOST_MEETINGS)
            return _sweep(boxes, threshold, overlap, most_boxes=few, most_meetings=few)
        sweep = little_sweep(boxes, threshold, overlap)
        if sweep is not None:
            self._left -= sweep.meetings
        return sweep if self._left >= 0 else None


_patience = _Patience()


def pairs_of_few(
    boxes: NDArray[np.float64],
    groups: Integers,
    *,
    threshold: float,
    overlap: Overlap,
    choose: Choice = little_sweep,
) -> Integers | None:
    """Pairs of one group that overlap by more than the threshold, where they are soon found.

    Args:
        boxes: (N, 4) pixel edges.
        groups: (N,) in 0..G-1.
        threshold: In [0, 1].
        overlap: How overlap is measured.
        choose: The sweep of boxes, or None where they are better left to the compiled search.

    Returns:
        (P, 2) positions, the smaller one first, in no order; None where `choose` says so.
    """
    if len(boxes) <= _FEW:
        over = box_arrays.MEASURES[overlap](boxes, boxes) > threshold
        over &= groups[:, None] == groups[None, :]
        return np.argwhere(np.triu(over, k=1)).astype(np.int64)
    sweep = choose(boxes, threshold, overlap)
    return None if sweep is None else sweep.pairs(boxes, groups)


def _settle(
    ranked: _Ranked,
    may_change: NDArray[np.bool_],
    threshold: float,
    overlap: Overlap,
    *,
    choose: Choice,
) -> tuple[NDArray[np.int8], Integers]:
    """State and suppressor (or -1) of ranked boxes, by the way that suits their number."""
    boxes, groups = ranked.boxes, ranked.groups
    pairs = pairs_of_few(boxes, groups, threshold=threshold, overlap=overlap, choose=choose)
    if pairs is not None:
        return _settle_pairs(pairs, may_change)
    states, suppressors, certain = _settle_round(
        boxes, groups, may_change, threshold, overlap, sector=_SECTOR
    )
    before = 2 * len(boxes)
    while not certain:
        left = np.flatnonzero(states == UNKNOWN)
        found, by, certain = _settle_round(
            boxes[left],
            groups[left],
            may_change[left],
            threshold,
            overlap,
            # where sectors decide less than half, the rest depends on too much for them
            sector=_SECTOR if 2 * len(left) <= before else len(left),
        )
        states[left], suppressors[left] = found, np.where(by >= 0, left[by], -1)
        before = len(left)
    return states, suppressors


def _settle_round(
    boxes: NDArray[np.float64],
    groups: Integers,
    may_change: NDArray[np.bool_],
    threshold: float,
    overlap: Overlap,
    *,
    sector: float,
) -> tuple[NDArray[np.int8], Integers, bool]:
    """States, suppressors, and whether all is said that can be said.

    Where there are boxes for several sectors of about `sector` boxes each, what depends on more
    than one sector may still be UNKNOWN.
    """
    from geo_retina.space import _kernels

    rule = float(threshold), int(overlap)
    per_axis = int(np.sqrt(len(boxes) / sector))
    if per_axis < 2:  # noqa: PLR2004  one sector is all there is
        return *_kernels.settle(boxes, groups, may_change, *rule), True
    sectors, crossing = _kernels.sectors_of(boxes, *rule, per_axis)
    if crossing.sum() > _FEW_CROSS * len(boxes):
        return *_kernels.settle(boxes, groups, may_change, *rule), True
    crossing |= may_change
    members, bounds = _kernels.by_sector(sectors, per_axis * per_axis)
    states = np.empty(len(boxes), np.int8)
    suppressors = np.empty(len(boxes), np.int64)

    def settle_parts(first: int, last: int) -> None:
        """Write states and suppressors of the boxes of sectors first .. last - 1."""
        where = members, bounds, first, last
        _kernels.settle_parts(boxes, groups, crossing, *rule, where, (states, suppressors))

    threads = max(min(usable_cores(), len(boxes) // _PER_THREAD), 1)
    inner = np.linspace(0, len(boxes), threads + 1)[1:-1]  # about as many boxes for each thread
    shares = [0, *np.searchsorted(bounds, inner).tolist(), len(bounds) - 1]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(settle_parts, shares[:-1], shares[1:]))
    return states, suppressors, False


def _settle_pairs(
    pairs: Integers, may_change: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], Integers]:
    """The same as the compiled `settle`, from all pairs of `pairs_of_few`.

    In rounds: what no box of higher rank contests any more is kept, what that overlaps goes. Where
    each box contests the next one that takes as many rounds as there are boxes: box by box, then.
    """
    states = np.full(len(may_change), UNKNOWN, np.int8)
    better, worse = np.ascontiguousarray(pairs.T)
    for _ in range(_MOST_ROUNDS):
        contested = may_change.copy()
        contested[worse] = True
        states[(states == UNKNOWN) & ~contested] = KEPT
        states[worse[states[better] == KEPT]] = SUPPRESSED
        open_ = (states[better] == UNKNOWN) & (states[worse] == UNKNOWN)
        if open_.all():
            break
        better, worse = better[open_], worse[open_]
    else:
        _settle_one_by_one(states, better, worse, may_change)
    suppressors = np.full(len(may_change), len(may_change), np.int64)
    by_kept = pairs[states[pairs[:, 0]] == KEPT]
    np.minimum.at(suppressors, by_kept[:, 1], by_kept[:, 0])
    suppressors[suppressors == len(may_change)] = -1
    return states, suppressors


def _settle_one_by_one(
    states: NDArray[np.int8], better: Integers, worse: Integers, may_change: NDArray[np.bool_]
) -> None:
    """Finish `states`, in place, from the pairs that are open."""
    doubtful = may_change.copy()
    rising = np.argsort(better, kind="stable")
    better, worse = better[rising], worse[rising]
    first, starts, counts = np.unique(better, return_index=True, return_counts=True)
    for i, start, count in zip(first.tolist(), starts.tolist(), counts.tolist(), strict=True):
        if states[i] == SUPPRESSED:
            continue
        beaten = worse[start : start + count]
        if doubtful[i]:
            doubtful[beaten] = True
        else:
            states[beaten] = SUPPRESSED
    states[(states == UNKNOWN) & ~doubtful] = KEPT
