"""Compiled search for overlapping boxes of any size: loose quadtrees kept in one hash table.

Boxes of one group (class) and about one aspect ratio form a family. Each family has a quadtree
whose cells have the family's aspect ratio. A box is listed in the one cell that holds its
upper-left corner, at the depth where cells are just larger than the box, and that cell and all
above it are marked. A search visits the marked cells that can list an overlapping box, at the
depths where boxes are of a size to overlap enough. So small boxes do not crowd the cells of large
ones, and a large box does not walk through all the small cells that it covers.

Cells are hashed into one table. A collision costs time and changes nothing, because each box knows
its cell. Importing this module loads numba, which takes about a second: import it where it is used.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from geo_retina.space.boxes import Overlap

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
_STACK = 4096


def compiled(function: _Function) -> _Function:
    """Compile with numba on the first call; keep the machine code on disk where that is allowed."""
    try:
        kernel = numba.njit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kernel = numba.njit(function)
    return cast("_Function", kernel)


class Buckets(NamedTuple):
    """N boxes and the quadtrees of those stored so far."""

    boxes: NDArray[np.float64]
    """(N, 4) pixel edges."""
    groups: NDArray[np.int64]
    """(N,) in 0..G-1; only boxes of the same group are compared."""
    families: NDArray[np.int32]
    """(G * _PER_GROUP,) number of the family of a group and aspect, or -1."""
    scales: NDArray[np.float64]
    """(F, 2) cells at depth 0 per pixel, along x and y, of each family."""
    depths: NDArray[np.int64]
    """(F, 3) deepest allowed, shallowest in use and deepest in use, of each family."""
    frame: NDArray[np.float64]
    """(3,) least x, least y, and the rounding error to allow for, in pixels."""
    heads: NDArray[np.int32]
    """(T,) newest box listed in each bucket, or -1; T is a power of two."""
    marks: NDArray[np.int64]
    """(T, 2) a cell of this bucket that lists a box or lies above one that does; -1 for none."""
    older: NDArray[np.int32]
    """(N,) next older box of the same bucket, or -1."""
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
    return max(0, min(_DEPTHS - 1, -math.frexp(size)[1]))


@compiled
def _bucket(buckets: Buckets, level: int, cell_x: int, cell_y: int) -> int:
    mixed = cell_x + cell_y * _ROW_HASH + level * _DEPTH_HASH
    return mixed & (len(buckets.heads) - 1)


@compiled
def _families(boxes: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int32]:
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
    families: NDArray[np.int32], unit: float, extent: float
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
        while deepest < _DEPTHS - 1 and cells < 2.0**29:  # cell numbers must fit in 31 bits
            cells *= 2
            deepest += 1
        depths[family, 0], depths[family, 1], depths[family, 2] = deepest, _DEPTHS, -1
    return scales, depths


@compiled
def build(boxes: NDArray[np.float64], groups: NDArray[np.int64]) -> Buckets:
    """Prepare the search among boxes (N, 4) of groups (N,) in 0..G-1; nothing is stored yet."""
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
    scales, depths = _quadtrees(families, unit, extent)
    size = 256
    while size < 4 * len(boxes):
        size *= 2
    return Buckets(
        boxes=boxes,
        groups=groups,
        families=families,
        scales=scales,
        depths=depths,
        frame=np.array([low_x, low_y, far * 2.0**-48]),
        heads=np.full(size, -1, np.int32),
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
    buckets.older[i] = buckets.heads[bucket]
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
        level, cell_x, cell_y = level - 1, cell_x >> 1, cell_y >> 1


@compiled
def overlap_of(boxes: NDArray[np.float64], i: int, j: int, measure: int) -> float:
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
def _set_ranges(  # noqa: PLR0917  compiled functions take no keywords
    buckets: Buckets, i: int, family: int, shared: float, start: int, end: int
) -> None:
    """Write which cells of a family can list a box that overlaps box `i`, at each depth.

    Overlapping boxes share at least the part `shared` of each side of box `i`. A box listed at a
    depth, or below it, is smaller than a cell of that depth.
    """
    box, frame, ranges = buckets.boxes[i], buckets.frame, buckets.ranges
    scale_x, scale_y = buckets.scales[family, 0], buckets.scales[family, 1]
    x, y = shared * (box[2] - box[0]) - frame[2], shared * (box[3] - box[1]) - frame[2]
    low_x, high_x = (box[0] + x - frame[0]) * scale_x, (box[2] - x - frame[0]) * scale_x
    low_y, high_y = (box[1] + y - frame[1]) * scale_y, (box[3] - y - frame[1]) * scale_y
    for depth in range(start, end + 1):
        cells = float(1 << depth)
        ranges[depth, 0] = max(0, math.floor(low_x * cells - 1))
        ranges[depth, 1] = math.floor(high_x * cells)
        ranges[depth, 2] = max(0, math.floor(low_y * cells - 1))
        ranges[depth, 3] = math.floor(high_y * cells)


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
def rivals(  # noqa: C901, PLR0917  one loop of the search, compiled as a whole
    buckets: Buckets,
    i: int,
    threshold: float,
    measure: int,
    states: NDArray[np.int8],
    found: NDArray[np.int32],
) -> int:
    """Find the stored boxes of its group that overlap box `i` by more than the threshold.

    Stops at the first one whose state is KEPT: that one comes last.

    Args:
        buckets: The boxes and those stored so far.
        i: A box that is not stored yet.
        threshold: In [0, 1].
        measure: An `Overlap`.
        states: (N,) state of each stored box.
        found: (N,) receives the positions of the boxes found.

    Returns:
        How many were found.
    """
    boxes = buckets.boxes
    width, height = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
    if not (width > 0 and height > 0):
        return 0
    shared, first_aspect, last_aspect = 0.0, -_ASPECTS, _ASPECTS
    if measure == IOU and threshold > 0:
        # IoU > t leaves each side a factor of 1 / t, and the aspect ((1 / t + 1) / 2) squared
        # (two boxes that cross differ most).
        shared = threshold * _LESS
        aspect, reach = math.log2(width / height), 2 * math.log2((1 / shared + 1) / 2)
        first_aspect, last_aspect = _aspect(aspect - reach), _aspect(aspect + reach)
    count = 0
    slot = buckets.groups[i] * _PER_GROUP + _ASPECTS
    for family in buckets.families[slot + first_aspect : slot + last_aspect + 1]:
        if family < 0 or buckets.depths[family, 2] < 0:
            continue
        size = max(width * buckets.scales[family, 0], height * buckets.scales[family, 1])
        start, end = min(_depth(size), buckets.depths[family, 1]), buckets.depths[family, 2]
        if shared > 0:
            start, end = max(start, _depth(size / shared)), min(end, _depth(size * shared))
        if start > end:
            continue
        _set_ranges(buckets, i, family, shared, start, end)
        ranges = buckets.ranges[start]
        top = _push(buckets, 0, start, (ranges[0], ranges[1], ranges[2], ranges[3]))
        while top > 0:
            top -= 1
            depth, x, y = buckets.stack[top, 0], buckets.stack[top, 1], buckets.stack[top, 2]
            level = family * _DEPTHS + depth
            bucket = _bucket(buckets, level, x, y)
            if buckets.marks[bucket, 0] < 0:
                continue
            j = buckets.heads[bucket]
            while j >= 0:
                if (
                    overlap_of(boxes, i, j, measure) > threshold
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
