"""Suspect boxes: too large for an object, such as the outline of a whole plot among the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geo_retina.labels.cleaning import ordered_corners
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space import boxes as box_arrays

_LARGEST = 8.0
"""Times the median side of its class that a box may have."""
_LARGEST_COVER = 0.25
"""Share of the raster that a box may cover."""
_MOST_INSIDE = 5
"""Centres of other labels of its class that a box may contain,"""
_LARGE = 3.0
"""unless it has no more than this many times the median side: so do boxes around crowded points."""


@dataclass(frozen=True, slots=True)
class SuspectBox:
    """A label that is large for an object."""

    number: int
    """Of the label, from 1 among those of its raster."""
    fid: int | None
    """Of its feature in a vector file."""
    box: tuple[float, float, float, float]
    """`x_min, y_min, x_max, y_max`, pixel edges of the raster."""
    why: str

    def __str__(self) -> str:
        """Number, place and reason."""
        name = f"label {self.number}" if self.fid is None else f"fid {self.fid}"
        x_min, y_min, x_max, y_max = self.box
        return f"{name} (x {x_min:.0f} to {x_max:.0f}, y {y_min:.0f} to {y_max:.0f} px: {self.why})"


def median_sides(
    labelled: Sequence[LabelledRaster], pixel_sides: Mapping[str, float]
) -> dict[str, float]:
    """Median side, square root of the area, of the boxes of each class that has any.

    Args:
        labelled: Rasters with their boxes.
        pixel_sides: Side of a pixel of each raster in the unit that is wanted; 1 where it is not
            told.
    """
    sides: dict[str, list[NDArray[np.float64]]] = {}
    for item in labelled:
        own = sides_of(item.labels) * pixel_sides.get(item.raster, 1.0)
        for class_id, name in enumerate(item.labels.class_names):
            sides.setdefault(name, []).append(own[item.labels.class_ids == class_id])
    joined = {name: np.concatenate(parts) for name, parts in sides.items()}
    known = {name: values[np.isfinite(values) & (values > 0)] for name, values in joined.items()}
    return {name: float(np.median(values)) for name, values in known.items() if len(values)}


def suspect_boxes(
    labels: Labels, *, width: int, height: int, medians: dict[str, float]
) -> tuple[SuspectBox, ...]:
    """Boxes over eight times the median side of their class, or with more of the raster than usual.

    Of those over three times the median side, suspect is also what covers over a quarter of the
    raster or contains the centres of more than five other labels of its class.

    Args:
        labels: As they were read.
        width: Columns of the raster.
        height: Rows of the raster.
        medians: Side of each class, pixels of this raster; see `median_sides`.
    """
    boxes = ordered_corners(labels.boxes)
    sides = sides_of(labels)
    usual = np.array([medians.get(name, np.nan) for name in labels.class_names])[labels.class_ids]
    finite = np.isfinite(boxes).all(axis=1)
    cover = box_arrays.area(box_arrays.clip(boxes, width=width, height=height)) / (width * height)
    times = sides / usual
    inside = np.where(times > _LARGE, _centres_inside(boxes, labels.class_ids), 0)
    covers = (cover > _LARGEST_COVER) & (times > _LARGE)  # chips may show one object each
    found = np.flatnonzero(
        finite & ((times > _LARGEST) | covers | (inside > _MOST_INSIDE))
    ).tolist()
    return tuple(
        SuspectBox(
            index + 1,
            None if labels.fids is None else int(labels.fids[index]),
            _corners(boxes[index]),
            _reasons(times[index], cover[index], int(inside[index])),
        )
        for index in found
    )


def _corners(box: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = box.tolist()
    return x_min, y_min, x_max, y_max


def _reasons(times: float, cover: float, inside: int) -> str:
    return ", ".join(
        text
        for applies, text in (
            (times > _LARGEST, f"{times:.0f} times the median side"),
            (cover > _LARGEST_COVER, f"covers {cover:.0%} of the raster"),
            (inside > _MOST_INSIDE, f"contains {inside} other labels"),
        )
        if applies
    )


def sides_of(labels: Labels) -> NDArray[np.float64]:
    """(N,) side of each box, the square root of its area, pixels; not finite where it is not."""
    edges = np.abs(labels.boxes[:, 2:] - labels.boxes[:, :2])
    sides: NDArray[np.float64] = np.sqrt(edges.prod(axis=1))
    return sides


def _centres_inside(boxes: NDArray[np.float64], class_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many centres of other boxes of its class each box contains, (N,)."""
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    shapes = shapely.box(*boxes[known].T)
    centres = np.asarray(shapely.points(box_arrays.centres(boxes[known])))
    tree = shapely.STRtree(centres)
    outer, inner = known[tree.query(shapes, predicate="contains")]
    others = (outer != inner) & (class_ids[outer] == class_ids[inner])
    return np.bincount(outer[others], minlength=len(boxes))
