"""Mend labels: swapped corners, boxes off the raster, nothing left of them, doubles."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.labels.labels import Labels
from geo_retina.space import boxes as box_arrays
from geo_retina.space.pairs import overlapping_pairs, pair_iou

_LEAST_VISIBLE = 0.1
"""Share of a box's area that must lie on the raster."""
_LEAST_SIDE_PX = 1.0
"""Width and height of a box after cutting, pixels."""
_SAME_IOU = 0.9
"""Of two boxes of one class that overlap more than this, the later is left out."""
_LEAST_BOXES = 10
_MOST, _NEARLY_ALL = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class Changes:
    """How many labels were changed (the first two) or left out (the others), by reason."""

    swapped: int = 0
    """Corners that stood the wrong way round: put right."""
    clipped: int = 0
    """Reached over the raster's edge: cut there."""
    not_finite: int = 0
    """Coordinates that are no numbers: left out."""
    outside: int = 0
    """Showed less than the wanted share inside the raster: left out."""
    too_small: int = 0
    """A side under the least one: left out."""
    duplicates: int = 0
    """Same class and place as an earlier label: left out."""

    def __bool__(self) -> bool:
        """Tell whether anything was changed."""
        return any(asdict(self).values())

    def __add__(self, other: "Changes") -> "Changes":
        """Sum what was done to both."""
        mine, theirs = asdict(self), asdict(other)
        return Changes(**{key: mine[key] + theirs[key] for key in mine})

    def __str__(self) -> str:
        """Tell what was done, such as `3 swapped, 1 duplicate`."""
        return ", ".join(
            f"{count:,} {(name.removesuffix('s') if count == 1 else name).replace('_', ' ')}"
            for name, count in asdict(self).items()
            if count
        )


@dataclass(frozen=True, slots=True, eq=False)
class CleanedLabels:
    """Labels after cleaning, and what was done to them."""

    labels: Labels
    changes: Changes


def clean_labels(
    labels: Labels,
    *,
    width: int,
    height: int,
) -> CleanedLabels:
    """Mend what can be mended, leave out the rest, and count both.

    Args:
        labels: In the raster's frame; not changed.
        width: Columns of the raster.
        height: Rows of the raster.
    """
    finite = np.asarray(np.isfinite(labels.boxes).all(axis=1))
    kept = labels.select(finite)
    boxes = ordered_corners(kept.boxes)
    swapped = (boxes != kept.boxes).any(axis=1)
    cut = box_arrays.clip(boxes, width=width, height=height).astype(np.float64)
    outside = mostly_outside(boxes, width=width, height=height)
    small = ((cut[:, 2:] - cut[:, :2]) < _LEAST_SIDE_PX).any(axis=1) & ~outside
    usable = ~outside & ~small
    twice = np.zeros(len(kept), np.bool_)
    rank = np.flatnonzero(usable)
    rank = rank[np.argsort(~kept.counted[rank], kind="stable")]  # ignored ones give way
    twice[rank] = duplicates(cut[rank], kept.class_ids[rank], iou=_SAME_IOU)
    usable &= ~twice
    changes = Changes(
        swapped=int((swapped & usable).sum()),
        clipped=int(((cut != boxes).any(axis=1) & usable).sum()),
        not_finite=int((~finite).sum()),
        outside=int(outside.sum()),
        too_small=int(small.sum()),
        duplicates=int(twice.sum()),
    )
    return CleanedLabels(kept.with_boxes(cut).select(usable), changes)


def mostly_outside(boxes: NDArray[np.float64], *, width: int, height: int) -> NDArray[np.bool_]:
    """Mark the boxes of which less than a tenth lies on a raster of `width` x `height` pixels.

    Args:
        boxes: (N, 4) in the raster's frame, corners in order.
        width: Columns of the raster.
        height: Rows of the raster.
    """
    cut = box_arrays.clip(boxes, width=width, height=height)
    beyond = (boxes[:, :2] >= [width, height]).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    marked: NDArray[np.bool_] = beyond | (
        box_arrays.area(cut) < _LEAST_VISIBLE * box_arrays.area(boxes)
    )
    return marked


def ordered_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes with each minimum before its maximum; (N, 4), a new array."""
    return np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
    )


def look_like_sizes(boxes: NDArray[np.float64], extents: NDArray[np.float64]) -> bool:
    """Whether boxes are x, y, width, height instead of two corners.

    Then most corners stand the wrong way round, and still nearly all boxes fit their rasters if
    they are read so; of boxes with corners that are only swapped about a quarter does.

    Args:
        boxes: (N, 4) as they stand in the file.
        extents: (N, 2) width and height of the raster of each, pixels.
    """
    if len(boxes) < _LEAST_BOXES or not (boxes[:, 2:] > 0).all():
        return False
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    fits = (boxes[:, :2] + boxes[:, 2:] <= extents + 1).all(axis=1)
    return bool(swapped.mean() > _MOST and fits.mean() > _NEARLY_ALL)


def duplicates(
    boxes: NDArray[np.float64], class_ids: NDArray[np.int64], *, iou: float
) -> NDArray[np.bool_]:
    """Mark the boxes that overlap an earlier, unmarked one of their class by more than `iou`."""
    pairs = overlapping_pairs(boxes, boxes)
    pairs = pairs.select(
        (pairs.first > pairs.second) & (class_ids[pairs.first] == class_ids[pairs.second])
    )
    pairs = pairs.select(pair_iou(boxes, boxes, pairs) > iou)
    marked = np.zeros(len(boxes), np.bool_)
    for later, earlier in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        marked[later] |= not marked[earlier]
    return marked
