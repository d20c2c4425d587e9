"""Exact non-maximum suppression of any number of boxes in near-linear time.

Greedy NMS goes through the boxes by rank and keeps each one that no kept box overlaps by more than
the threshold. The rank is a total order of what the boxes are (score, then coordinates, class and
window), so that the result does not depend on the order in which they come.

`settle` is the same for a part of the boxes: it tells which ones are decided whatever the rest may
hold. That makes stitching a stream, and it makes large inputs fast: first each sector of the plane
is settled on its own, in the processor's cache, then what is left is settled at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space.boxes import Overlap

Integers = NDArray[np.int64]

KEPT, SUPPRESSED, UNKNOWN = 0, 1, 2

_FEW = 500  # so many boxes are settled sooner than numba loads
_SECTOR = 8192  # boxes whose search fits in a core's cache
_FARTHEST = 2.0**53  # beyond, float64 does not tell pixels apart
_DENSE_GROUPS = 4096


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
    tied = np.append(same, False) | np.append(False, same)
    if tied.any():
        members = np.sort(order[tied])
        keys = [ids[members] for ids in (window_ids, class_ids) if ids is not None]
        keys += [boxes[members, axis] for axis in (3, 2, 1, 0)]
        order[tied] = members[np.lexsort([*keys, -scores[members]])]
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
        ValueError: The arrays do not fit each other, hold NaN or infinity, or the threshold is not
            in [0, 1].
    """
    return settle(
        boxes,
        scores,
        threshold=threshold,
        overlap=overlap,
        class_ids=class_ids,
        window_ids=window_ids,
    ).kept


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
    checked = checked_boxes(boxes, threshold)
    check_scores(scores, len(checked))
    order = rank(checked, scores, class_ids=class_ids, window_ids=window_ids)
    ranked = np.ascontiguousarray(checked[order])
    groups = groups_of(class_ids, len(order))[order]
    open_ = np.zeros(len(order), np.bool_) if may_change is None else may_change[order]
    states, suppressors = _settle(ranked, groups, open_, threshold, overlap)
    lost = states == SUPPRESSED
    return Settlement(
        order[states == KEPT],
        order[states == UNKNOWN],
        order[lost],
        order[suppressors[lost]],
    )


def checked_boxes(boxes: NDArray[np.floating], threshold: float) -> NDArray[np.float64]:
    """The boxes as float64.

    Raises:
        ValueError: They are not (N, 4) or not finite, or the threshold is not in [0, 1].
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:  # noqa: PLR2004
        raise ValueError(f"expected boxes of shape (N, 4), got {boxes.shape}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold in [0, 1], got {threshold}")
    if len(boxes) and not (boxes.min() >= -_FARTHEST and boxes.max() <= _FARTHEST):  # or NaN
        bad = np.flatnonzero(~(np.abs(boxes) <= _FARTHEST).all(axis=1))
        raise ValueError(
            f"expected finite coordinates within 2^53 px, got {len(bad)} other boxes, the first is "
            f"number {bad[0]}: {boxes[bad[0]]}; drop what the detector returns as NaN or infinity"
        )
    return boxes.astype(np.float64, copy=False)


def check_scores(scores: NDArray[np.floating], count: int) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: They are not (`count`,), or some are NaN.
    """
    if scores.shape != (count,):
        raise ValueError(f"expected one score for each of {count} boxes, got {scores.shape}")
    missing = int(np.isnan(scores).sum())
    if missing:
        raise ValueError(f"expected scores that can be ranked, got {missing} that are NaN")


def groups_of(class_ids: Integers | None, count: int) -> Integers:
    """Classes numbered 0..G-1 without large gaps, (N,); all 0 where there are none."""
    if class_ids is None or count == 0:
        return np.zeros(count, np.int64)
    if class_ids.shape != (count,):
        raise ValueError(f"expected one class id for each of {count} boxes, got {class_ids.shape}")
    low, high = int(class_ids.min()), int(class_ids.max())
    if high - low < _DENSE_GROUPS:
        return class_ids.astype(np.int64) - low
    return np.unique(class_ids, return_inverse=True)[1].astype(np.int64)


def too_much(
    boxes: NDArray[np.float64], groups: Integers, *, threshold: float, overlap: Overlap
) -> NDArray[np.bool_]:
    """Whether the boxes of every pair, (N, N), are of one group and overlap by more than that."""
    over = box_arrays.MEASURES[overlap](boxes, boxes) > threshold
    mask: NDArray[np.bool_] = over & (groups[:, None] == groups[None, :])
    return mask


def _settle(
    boxes: NDArray[np.float64],
    groups: Integers,
    may_change: NDArray[np.bool_],
    threshold: float,
    overlap: Overlap,
) -> tuple[NDArray[np.int8], Integers]:
    """State and suppressor (or -1) of boxes in rank order, by the way that suits their number."""
    if len(boxes) <= _FEW:
        return _settle_few(boxes, groups, may_change, threshold, overlap)
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

    arguments = boxes, groups, may_change, float(threshold), int(overlap)
    per_axis = int(np.sqrt(len(boxes) / sector))
    if per_axis < 2:  # noqa: PLR2004  one sector is all there is
        return *_kernels.settle(*arguments), True
    return _kernels.settle_sectors(*arguments, per_axis)


def _settle_few(
    boxes: NDArray[np.float64],
    groups: Integers,
    may_change: NDArray[np.bool_],
    threshold: float,
    overlap: Overlap,
) -> tuple[NDArray[np.int8], Integers]:
    """The same as the compiled `settle`, for a matrix of all pairs."""
    over = np.triu(too_much(boxes, groups, threshold=threshold, overlap=overlap), k=1)
    states = np.where(may_change, UNKNOWN, KEPT).astype(np.int8)
    suppressors = np.full(len(boxes), -1, np.int64)
    for i in np.flatnonzero(over.any(axis=1)).tolist():
        if states[i] == SUPPRESSED:
            continue
        losers = np.flatnonzero(over[i] & (states != SUPPRESSED))
        states[losers] = UNKNOWN
        if states[i] == KEPT:
            states[losers] = SUPPRESSED
            suppressors[losers] = i
    return states, suppressors
