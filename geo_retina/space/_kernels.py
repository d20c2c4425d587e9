"""Compiled search for overlapping boxes of any size: loose quadtrees kept in one hash table.

Boxes of one group (class) and about one aspect ratio form a family. Each family has a quadtree
whose cells have the family's aspect ratio. A box is listed in the one cell that holds its
upper-left corner, at the depth where cells are just larger than the box, and that cell and all
above it are marked. A search visits the marked cells that can list an overlapping box, at the
depths where boxes are of a size to overlap enough. So small boxes do not crowd the cells of large
ones, and a large box does not walk through all the small cells that it covers.

Cells are hashed into one table. A collision costs time and changes nothing, because each box knows
its cell.

Importing this module loads numba, which takes about a second: import it where it is used. It is one
module on purpose: the machine code that numba keeps on disk is renewed when the file that holds a
function changes, but not when another file does that the function calls.

All loops take boxes (N, 4) float64 in rank order and groups (N,) int64 in 0..G-1, contiguous.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from geo_retina.space.boxes import Overlap

Boxes = NDArray[np.float64]
Integers = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

IOU = int(Overlap.IOU)
KEPT, SUPPRESSED, UNKNOWN = 0, 1, 2

_ASPECTS = 8  # aspect ratios from 4^-8 to 4^8 are told apart, in steps of 4
_PER_GROUP = 2 * _ASPECTS + 1
_ROOT = 9  # cells at depth 0 are 2^9 times the largest box, wide enough for any aspect
_DEPTHS = 63
_ROW_HASH = 0x9E3779B1  # odd: rows of cells fall far apart in the table, cells of a row stay close
_DEPTH_HASH = 0x85EBCA6B
_MORE, _LESS = 1 + 1e-9, 1 - 1e-9  # the search may not miss a pair that rounding favours
_STACK = 256  # 9 cells at the first depth, and 3 more for each depth
_MANY = 2**31
_NO_BOX, _NO_CELL = -1, -2


def compiled(function: _Function) -> _Function:
    """Compile with numba on the first call; keep the machine code on disk where that is allowed."""
    try:
        kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kernel = numba.njit(nogil=True)(function)
    return cast("_Function", kernel)


class Buckets(NamedTuple):
    """N boxes, what counts as too much overlap, and the quadtrees of the boxes stored so far."""

    boxes: Boxes
    """(N, 4) pixel edges."""
    groups: Integers
    """(N,) in 0..G-1; only boxes of the same group are compared."""
    threshold: float
    """Overlap above which boxes are found, in [0, 1]."""
    measure: int
    """An `Overlap`."""
    shared: float
    """Least part of each of its sides that a box shares with one that overlaps it too much."""
    reach: float
    """Most that the aspects of two such boxes differ, as a base-2 logarithm."""
    families: NDArray[np.int32]
    """(G * _PER_GROUP,) number of the family of a group and aspect, or -1."""
    scales: NDArray[np.float64]
    """(F, 2) cells at depth 0 per pixel, along x and y, of each family."""
    depths: NDArray[np.int64]
    """(F, 3) deepest allowed, shallowest in use and deepest in use, of each family."""
    frame: NDArray[np.float64]
    """(3,) least x, least y, and the rounding error to allow for, in pixels."""
    heads: NDArray[np.int32]
    """(T,) newest box listed in each bucket, `_NO_BOX`, or `_NO_CELL` where none of its cells is
    marked; T is a power of two."""
    marks: NDArray[np.int64]
    """(T, 2) the cell of each bucket that was marked last; -1 for none."""
    older: NDArray[np.int32]
    """(N,) next older box of the same bucket, or `_NO_BOX`."""
    homes: NDArray[np.int64]
    """(N, 2) cell that lists the box, written like `marks`."""
    ranges: NDArray[np.int64]
    """(_DEPTHS, 4) scratch: first and last cell along x and along y, at each depth."""
    stack: NDArray[np.int64]
    """(_STACK, 3) scratch: depth and cell numbers along x and y of the cells still to visit."""


@compiled
def _aspect(log_ratio: float) -> int:
    """Step of aspect, from the base-2 logarithm of width over height."""
    return max(-_ASPECTS, min(_ASPECTS, math.floor(0.5 * log_ratio + 0.5)))


@compiled
def _depth(size: float) -> int:
    """Depth at which a cell is just larger than `size`, in cells at depth 0."""
    exponent = int(np.float64(size).view(np.int64) >> 52) - 1022  # as math.frexp, but inline
    return max(0, min(_DEPTHS - 1, -exponent))


@compiled
def _bucket(buckets: Buckets, level: int, cell_x: int, cell_y: int) -> int:
    mixed = cell_x + cell_y * _ROW_HASH + level * _DEPTH_HASH
    return mixed & (len(buckets.heads) - 1)


@compiled
def _families(boxes: Boxes, groups: Integers) -> NDArray[np.int32]:
    """Number the families that occur, (G * _PER_GROUP,)."""
    num_groups = 0
    for group in groups:
        num_groups = max(num_groups, group + 1)
    families = np.full(num_groups * _PER_GROUP, -1, np.int32)
    count = 0
    for i in range(len(boxes)):
        width, height = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
        if width > 0 and height > 0:
            slot = groups[i] * _PER_GROUP + _ASPECTS + _aspect(math.log2(width / height))
            if families[slot] < 0:
                families[slot] = count
                count += 1
    return families


@compiled
def _quadtrees(
    families: NDArray[np.int32], unit: float, extent: float, slack: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`scales` and `depths` of empty quadtrees; `unit` is a square root cell's edge in pixels."""
    count = families.max() + 1 if len(families) else 0
    scales, depths = np.empty((count, 2)), np.empty((count, 3), np.int64)
    for slot in range(len(families)):
        family = families[slot]
        if family < 0:
            continue
        stretch = 2.0 ** (slot % _PER_GROUP - _ASPECTS)
        scales[family, 0], scales[family, 1] = 1 / (unit * stretch), stretch / unit
        cells = extent * max(scales[family, 0], scales[family, 1])
        deepest = 0
        # cell numbers must fit in 31 bits, and few cells lie within the rounding error
        while deepest < _DEPTHS - 1 and cells < 2.0**29 and extent > 2 * slack * cells:
            cells *= 2
            deepest += 1
        depths[family, 0], depths[family, 1], depths[family, 2] = deepest, _DEPTHS, -1
    return scales, depths


@compiled
def build(boxes: Boxes, groups: Integers, threshold: float, measure: int) -> Buckets:
    """Prepare the search among boxes (N, 4) of groups (N,) in 0..G-1; nothing is stored yet."""
    shared, reach = 0.0, np.inf
    if measure == IOU and threshold > 0:
        # IoU > t leaves each side a factor of 1 / t, and the aspect ((1 / t + 1) / 2) squared
        # (two boxes that cross differ most).
        shared = threshold * _LESS
        reach = 2 * math.log2((1 / shared + 1) / 2)
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    longest = 0.0
    for i in range(len(boxes)):
        low_x, low_y = min(low_x, boxes[i, 0]), min(low_y, boxes[i, 1])
        high_x, high_y = max(high_x, boxes[i, 2]), max(high_y, boxes[i, 3])
        longest = max(longest, boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1])
    extent = max(high_x - low_x, high_y - low_y)
    far = max(abs(low_x), abs(high_x), abs(low_y), abs(high_y))
    families = _families(boxes, groups)
    unit = max(longest, extent * 2.0**-18) * 2.0**_ROOT * _MORE
    scales, depths = _quadtrees(families, unit, extent, far * 2.0**-48)
    size = 256
    while size < 4 * len(boxes):
        size *= 2
    return Buckets(
        boxes=boxes,
        groups=groups,
        threshold=threshold,
        measure=measure,
        shared=shared,
        reach=reach,
        families=families,
        scales=scales,
        depths=depths,
        frame=np.array([low_x, low_y, far * 2.0**-48]),
        heads=np.full(size, _NO_CELL, np.int32),
        marks=np.full((size, 2), -1, np.int64),
        older=np.empty(len(boxes), np.int32),
        homes=np.empty((len(boxes), 2), np.int64),
        ranges=np.empty((_DEPTHS, 4), np.int64),
        stack=np.empty((_STACK, 3), np.int64),
    )


@compiled
def store(buckets: Buckets, i: int) -> None:
    """Let box `i` be found from now on. A box without area overlaps nothing and is left out."""
    boxes, frame = buckets.boxes, buckets.frame
    width, height = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
    if not (width > 0 and height > 0):
        return
    aspect = _aspect(math.log2(width / height))
    family = buckets.families[buckets.groups[i] * _PER_GROUP + _ASPECTS + aspect]
    scale_x, scale_y = buckets.scales[family, 0], buckets.scales[family, 1]
    depth = min(_depth(max(width * scale_x, height * scale_y)), buckets.depths[family, 0])
    cell_x = math.floor((boxes[i, 0] - frame[0]) * scale_x * (1 << depth))
    cell_y = math.floor((boxes[i, 1] - frame[1]) * scale_y * (1 << depth))
    level = family * _DEPTHS + depth
    bucket = _bucket(buckets, level, cell_x, cell_y)
    buckets.older[i] = max(buckets.heads[bucket], _NO_BOX)
    buckets.heads[bucket] = i
    buckets.homes[i, 0], buckets.homes[i, 1] = level, (cell_x << 32) + cell_y
    buckets.depths[family, 1] = min(buckets.depths[family, 1], depth)
    buckets.depths[family, 2] = max(buckets.depths[family, 2], depth)
    _mark(buckets, level, cell_x, cell_y)


@compiled
def _mark(buckets: Buckets, level: int, cell_x: int, cell_y: int) -> None:
    """Mark a cell and those above it, up to one whose mark shows that the rest is done."""
    marks = buckets.marks
    for _ in range(level % _DEPTHS + 1):
        bucket = _bucket(buckets, level, cell_x, cell_y)
        cell = (cell_x << 32) + cell_y
        if marks[bucket, 0] == level and marks[bucket, 1] == cell:
            return
        marks[bucket, 0], marks[bucket, 1] = level, cell
        buckets.heads[bucket] = max(buckets.heads[bucket], _NO_BOX)
        level, cell_x, cell_y = level - 1, cell_x >> 1, cell_y >> 1


@compiled
def overlap_of(boxes: Boxes, i: int, j: int, measure: int) -> float:
    """Overlap of two boxes, with the arithmetic of `boxes.iou` and `boxes.ios` bit for bit."""
    width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
    height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
    if not (width > 0 and height > 0):
        return 0.0
    shared = width * height
    first = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
    second = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
    whole = first + second - shared if measure == IOU else min(first, second)
    return shared / whole if whole > 0 else 0.0


@compiled
def _set_ranges(buckets: Buckets, i: int, family: int, start: int, end: int) -> None:
    """Write which cells of a family can list a box that overlaps box `i`, at each depth.

    A box listed at a depth, or below it, is smaller than a cell of that depth.
    """
    boxes, frame, ranges = buckets.boxes, buckets.frame, buckets.ranges
    scale_x, scale_y = buckets.scales[family, 0], buckets.scales[family, 1]
    x = buckets.shared * (boxes[i, 2] - boxes[i, 0]) - frame[2]
    y = buckets.shared * (boxes[i, 3] - boxes[i, 1]) - frame[2]
    low_x, high_x = boxes[i, 0] + x - frame[0], boxes[i, 2] - x - frame[0]
    low_y, high_y = boxes[i, 1] + y - frame[1], boxes[i, 3] - y - frame[1]
    for depth in range(start, end + 1):
        per_x, per_y = scale_x * (1 << depth), scale_y * (1 << depth)
        ranges[depth, 0] = max(0, math.floor(low_x * per_x - 1))
        ranges[depth, 1] = math.floor(high_x * per_x)
        ranges[depth, 2] = max(0, math.floor(low_y * per_y - 1))
        ranges[depth, 3] = math.floor(high_y * per_y)


@compiled
def _push(buckets: Buckets, top: int, depth: int, corner: tuple[int, int, int, int]) -> int:
    """Put the cells first x .. last x, first y .. last y on the stack, if they are in range."""
    ranges, stack = buckets.ranges, buckets.stack
    for y in range(max(corner[2], ranges[depth, 2]), min(corner[3], ranges[depth, 3]) + 1):
        for x in range(max(corner[0], ranges[depth, 0]), min(corner[1], ranges[depth, 1]) + 1):
            stack[top, 0], stack[top, 1], stack[top, 2] = depth, x, y
            top += 1
    return top


@compiled
def rivals(  # noqa: C901  one loop of the search, compiled as a whole
    buckets: Buckets, i: int, states: NDArray[np.int8], found: NDArray[np.int32]
) -> int:
    """Find the stored boxes of its group that overlap box `i` by more than the threshold.

    Stops at the first one whose state is KEPT: that one comes last.

    Args:
        buckets: The boxes and those stored so far.
        i: A box that is not stored yet.
        states: (N,) state of each stored box.
        found: (N,) receives the positions of the boxes found.

    Returns:
        How many were found.
    """
    boxes, stack = buckets.boxes, buckets.stack
    width, height = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
    if not (width > 0 and height > 0):
        return 0
    first_aspect, last_aspect = -_ASPECTS, _ASPECTS
    if buckets.reach < np.inf:
        aspect = math.log2(width / height)
        first_aspect, last_aspect = _aspect(aspect - buckets.reach), _aspect(aspect + buckets.reach)
    count = 0
    slot = buckets.groups[i] * _PER_GROUP + _ASPECTS
    for family_slot in range(slot + first_aspect, slot + last_aspect + 1):
        family = buckets.families[family_slot]
        if family < 0 or buckets.depths[family, 2] < 0:
            continue
        size = max(width * buckets.scales[family, 0], height * buckets.scales[family, 1])
        start, end = min(_depth(size), buckets.depths[family, 1]), buckets.depths[family, 2]
        if buckets.shared > 0:
            deepest = buckets.depths[family, 0]  # smaller boxes are listed there, too
            start = max(start, min(_depth(size / buckets.shared), deepest))
            end = min(end, _depth(size * buckets.shared))
        if start > end:
            continue
        _set_ranges(buckets, i, family, start, end)
        top = _push(buckets, 0, start, (0, _MANY, 0, _MANY))
        while top > 0:
            top -= 1
            depth, x, y = stack[top, 0], stack[top, 1], stack[top, 2]
            level = family * _DEPTHS + depth
            j = buckets.heads[_bucket(buckets, level, x, y)]
            if j == _NO_CELL:
                continue
            while j >= 0:
                if (
                    overlap_of(boxes, i, j, buckets.measure) > buckets.threshold
                    and buckets.homes[j, 0] == level
                    and buckets.homes[j, 1] == (x << 32) + y
                ):
                    found[count] = j
                    count += 1
                    if states[j] == KEPT:
                        return count
                j = buckets.older[j]
            if depth < end:
                top = _push(buckets, top, depth + 1, (2 * x, 2 * x + 1, 2 * y, 2 * y + 1))
    return count


@compiled
def settle(
    boxes: Boxes, groups: Integers, may_change: NDArray[np.bool_], threshold: float, measure: int
) -> tuple[NDArray[np.int8], Integers]:
    """Greedy NMS: state of each box and position of the box that suppressed it, or -1."""
    buckets = build(boxes, groups, threshold, measure)
    states = np.zeros(len(boxes), np.int8)
    suppressors = np.full(len(boxes), -1, np.int64)
    found = np.empty(len(boxes), np.int32)
    for i in range(len(boxes)):
        states[i] = UNKNOWN if may_change[i] else KEPT
        count = rivals(buckets, i, states, found)
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
def sectors_of(
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
def by_sector(sectors: Integers, count: int) -> tuple[Integers, Integers]:
    """Positions (N,) of the boxes, sector by sector and in rank order, and (count + 1,) bounds."""
    bounds = np.zeros(count + 1, np.int64)
    for sector in sectors:
        bounds[sector + 1] += 1
    bounds = np.cumsum(bounds)
    members, free = np.empty(len(sectors), np.int64), bounds[:-1].copy()
    for i in range(len(sectors)):
        members[free[sectors[i]]] = i
        free[sectors[i]] += 1
    return members, bounds


@compiled
def settle_parts(  # noqa: PLR0917  compiled functions take no keywords
    boxes: Boxes,
    groups: Integers,
    may_change: NDArray[np.bool_],
    threshold: float,
    measure: int,
    where: tuple[Integers, Integers, int, int],
    into: tuple[NDArray[np.int8], Integers],
) -> None:
    """`settle` each of some sectors on its own.

    Args:
        boxes: See `settle`.
        groups: See `settle`.
        may_change: (N,) True too where boxes of another sector may overlap this one.
        threshold: See `settle`.
        measure: See `settle`.
        where: What `by_sector` returns, the first sector and the one after the last.
        into: States and suppressors (N,), of which those of these sectors are written.
    """
    members, bounds, first, last = where
    states, suppressors = into
    for sector in range(first, last):
        part = members[bounds[sector] : bounds[sector + 1]]
        if len(part) > 0:
            found, by = settle(boxes[part], groups[part], may_change[part], threshold, measure)
            for i in range(len(part)):
                states[part[i]] = found[i]
                suppressors[part[i]] = part[by[i]] if by[i] >= 0 else -1


@compiled
def pairs(boxes: Boxes, groups: Integers, threshold: float, measure: int) -> Integers:
    """All pairs of one group that overlap by more than the threshold, (P, 2), later one first."""
    buckets = build(boxes, groups, threshold, measure)
    states = np.full(len(boxes), UNKNOWN, np.int8)
    found = np.empty(len(boxes), np.int32)
    linked = np.empty((max(len(boxes), 1), 2), np.int64)
    total = 0
    for i in range(len(boxes)):
        count = rivals(buckets, i, states, found)
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
    buckets = build(boxes, groups, threshold, measure)
    states = np.full(len(boxes), UNKNOWN, np.int8)
    found = np.empty(len(boxes), np.int32)
    parents = np.arange(len(boxes))
    for i in range(len(boxes)):
        count = rivals(buckets, i, states, found)
        for j in found[:count]:
            a, b = _root(parents, i), _root(parents, j)
            parents[max(a, b)] = min(a, b)
        store(buckets, i)
    for i in range(len(boxes)):
        parents[i] = _root(parents, i)
    return parents


@compiled
def _reopen(buckets: Buckets, states: NDArray[np.int8], turns: Integers) -> None:
    """Make UNKNOWN what had its turn before an unknown box that it overlaps, and so on."""
    all_rivals = np.full(len(states), UNKNOWN, np.int8)
    found = np.empty(len(states), np.int32)
    unknown = np.flatnonzero(states == UNKNOWN)
    waiting = [unknown[at] for at in range(len(unknown))]
    while len(waiting) > 0:
        i = waiting.pop()
        for j in found[: rivals(buckets, i, all_rivals, found)]:
            if states[j] == KEPT and turns[j] < turns[i]:
                states[j] = UNKNOWN
                waiting.append(np.int64(j))


@compiled
def decay(  # noqa: PLR0917  compiled functions take no keywords
    boxes: Boxes,
    groups: Integers,
    scores: NDArray[np.float64],
    may_change: NDArray[np.bool_],
    threshold: float,
    floor: float,
) -> tuple[NDArray[np.float64], NDArray[np.int8], Integers]:
    """Linear soft-NMS (arXiv 1704.04503, eq. 3), as far as unread boxes allow.

    Scores only fall. So a box has its turn at the highest score that it can still have, and one
    that is in doubt puts in doubt what comes after it.

    Args:
        boxes: (N, 4) in rank order.
        groups: (N,) only boxes of one group lower each other's scores.
        scores: (N,)
        may_change: (N,) True where unread boxes may overlap this one.
        threshold: IoU above which a score decays.
        floor: Boxes whose score falls under it are dropped.

    Returns:
        Scores (N,), exact for the boxes that are KEPT; states (N,), UNKNOWN also for boxes that
        lower the score of an unknown one; and the box that decayed each last, or -1.
    """
    buckets = build(boxes, groups, threshold, IOU)
    for i in range(len(boxes)):
        store(buckets, i)
    scores, doubtful = scores.copy(), may_change.copy()
    turns = np.full(len(boxes), len(boxes))
    decayed_by = np.full(len(boxes), -1, np.int64)
    all_rivals = np.full(len(boxes), UNKNOWN, np.int8)
    found = np.empty(len(boxes), np.int32)
    waiting = [(-scores[i], i) for i in range(len(boxes))]  # in rank order, and so a heap
    turn = 0
    while len(waiting) > 0:
        negative, i = heapq.heappop(waiting)
        if scores[i] < floor:
            continue
        if scores[i] != -negative:  # lowered since
            heapq.heappush(waiting, (-scores[i], i))
            continue
        turns[i] = turn
        turn += 1
        for j in found[: rivals(buckets, i, all_rivals, found)]:
            if turns[j] < turn:
                continue
            if doubtful[i]:
                doubtful[j] = True
            else:
                scores[j] *= 1 - overlap_of(boxes, i, j, IOU)
                decayed_by[j] = i
    states = np.full(len(boxes), SUPPRESSED, np.int8)
    for i in range(len(boxes)):
        if turns[i] < turn:
            states[i] = UNKNOWN if doubtful[i] else KEPT
    _reopen(buckets, states, turns)
    return scores, states, decayed_by


@compiled
def fuse(
    boxes: Boxes, scores: NDArray[np.float64], starts: Integers, threshold: float
) -> tuple[Boxes, NDArray[np.float64], Integers]:
    """Weighted box fusion (arXiv 1910.13302, section 3) inside each component.

    Args:
        boxes: (N, 4) component by component, each in rank order.
        scores: (N,)
        starts: (C + 1,) component c is `starts[c]:starts[c + 1]`.
        threshold: IoU with the fused box above which a box joins a cluster.

    Returns:
        For the first member of each cluster the fused box and score, and for every box the first
        member of its cluster.
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
