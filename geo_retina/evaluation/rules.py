"""When a detection may be said to have found a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.cleaning import Changes
from geo_retina.labels.ground import pixel_to_ground
from geo_retina.space import boxes as box_arrays
from geo_retina.space.grid import Grid
from geo_retina.space.pairs import Pairs, near_pairs, overlapping_pairs, pair_intersection, pair_iou

COCO_BOUNDS_PX = (32.0, 96.0)
"""Where COCO's small objects end and its large ones begin: square root of the area, pixels."""
COCO_NAMES = ("small", "medium", "large")

_LARGEST = 1e5
_NEAR_IOU = 0.1
"""From here up to the IoU of a match a detection counts as badly placed rather than as a false
alarm (TIDE, arXiv 2008.08115, section 2.2)."""
_NEAR_FACTOR = 2.0
"""Up to this many times the distance of a match a detection counts as badly placed."""
_JUST_UNDER_ONE = 1 - 1e-10
"""Largest threshold, as in COCO: an IoU of 1 must not fail by rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs of a detection and a label of one raster that may belong together."""

    pairs: Pairs
    """Detection (first) and label (second), sorted by detection."""
    closeness: NDArray[np.float64]
    """(P,) the higher the closer: IoU, or minus the distance in metres."""


@dataclass(frozen=True, slots=True)
class IouRule:
    """A detection may match the labels that it overlaps enough."""

    iou: float
    """Least intersection over union."""

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise LabelError(f"the IoU of a match must be over 0 and at most 1, got {self.iou}")

    @property
    def threshold(self) -> float:
        """Least closeness of a match."""
        return min(self.iou, _JUST_UNDER_ONE)

    @property
    def near_threshold(self) -> float:
        """Least closeness of a near miss."""
        return min(_NEAR_IOU, self.threshold)

    def candidates(self, pair: Pair) -> Candidates:
        """Every overlapping pair. For ignored labels, the share of the detection that lies in it.

        The latter is what COCO does for crowd regions.
        """
        found, known = pair.detections.boxes, pair.labels.boxes
        pairs = overlapping_pairs(found, known)
        overlap = pair_iou(found, known, pairs)
        in_ignored = ~pair.labels.counted[pairs.second]
        if in_ignored.any():
            inside = pair_intersection(found, known, pairs) / box_arrays.area(found)[pairs.first]
            overlap = np.where(in_ignored, inside, overlap)
        return Candidates(pairs, overlap)

    def __str__(self) -> str:
        return f"IoU {self.iou:g}"


@dataclass(frozen=True, slots=True)
class DistanceRule:
    """A detection may match the labels whose centre is near its own: for labels that are points."""

    distance_m: float
    """Largest distance of the centres, metres on the ground."""

    def __post_init__(self) -> None:
        if not self.distance_m > 0:
            raise LabelError(f"the distance of a match must be over 0 m, got {self.distance_m}")

    @property
    def threshold(self) -> float:
        """Least closeness of a match."""
        return -self.distance_m

    @property
    def near_threshold(self) -> float:
        """Least closeness of a near miss."""
        return -self.distance_m * _NEAR_FACTOR

    def candidates(self, pair: Pair) -> Candidates:
        """Every pair of near centres, and of an ignored label with a centre inside it.

        Raises:
            LabelError: The raster's ground sampling distance is unknown.
        """
        if pair.grid is None or pair.grid.crs is None:
            raise LabelError(
                f"{pair.name}: distances in metres need a georeferenced raster; match by IoU"
            )
        to_ground = pixel_to_ground(pair.grid)
        found = box_arrays.centres(pair.detections.boxes) @ to_ground.T
        known = box_arrays.centres(pair.labels.boxes) @ to_ground.T
        pairs = near_pairs(found, known, distance=-self.near_threshold)
        away = np.hypot(*(found[pairs.first] - known[pairs.second]).T)
        inside = _centres_in_ignored(pair)
        outside = pair.labels.counted[pairs.second]  # an ignored label is met from inside alone
        first = np.concatenate([pairs.first[outside], inside.first])
        second = np.concatenate([pairs.second[outside], inside.second])
        closeness = np.concatenate([-away[outside], np.zeros(len(inside))])
        order = np.lexsort([second, first])
        return Candidates(Pairs(first[order], second[order]), closeness[order])

    def __str__(self) -> str:
        return f"{self.distance_m:g} m between centres"


def _centres_in_ignored(pair: Pair) -> Pairs:
    """Detections and the ignored labels that their centres lie in."""
    ignored = np.flatnonzero(~pair.labels.counted)
    known = pair.labels.boxes[ignored]
    pairs = overlapping_pairs(pair.detections.boxes, known)
    centres = box_arrays.centres(pair.detections.boxes)[pairs.first]
    low, high = known[pairs.second, :2], known[pairs.second, 2:]
    inside = np.asarray(((centres >= low) & (centres <= high)).all(axis=1), np.bool_)
    pairs = pairs.select(inside)
    return Pairs(pairs.first, ignored[pairs.second])


MatchRule = IouRule | DistanceRule


def ready_pairs(pairs: Sequence[Pair], rule: MatchRule) -> tuple[list[Pair], Changes]:
    """Pairs as they are compared: labels mended, nothing outside the labelled area.

    Returns:
        The pairs, and what was done to their labels.
    """
    mended = [pair.mended(points=isinstance(rule, DistanceRule)) for pair in pairs]
    changes = sum((done for _, done in mended), Changes())
    return [pair.inside_area() for pair, _ in mended], changes


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Objects of some sizes; the others count neither for nor against, as in COCO."""

    name: str
    low_px: float
    """Least square root of the area, pixels of the raster."""
    high_px: float
    """Largest square root of the area, pixels of the raster."""

    def contains(self, boxes: box_arrays.Boxes, grid: Grid | None) -> NDArray[np.bool_]:  # noqa: ARG002
        """(N,) True for boxes of the range, both ends included."""
        area = box_arrays.area(boxes)
        return (area >= self.low_px**2) & (area <= self.high_px**2)


@dataclass(frozen=True, slots=True)
class GroundSizeRange:
    """Objects of some sizes on the ground; the others count neither for nor against."""

    name: str
    low_m: float
    """Least square root of the area, metres."""
    high_m: float
    """Largest square root of the area, metres."""

    def contains(self, boxes: box_arrays.Boxes, grid: Grid | None) -> NDArray[np.bool_]:
        """(N,) True for boxes of the range, both ends included.

        Args:
            boxes: (N, 4) pixel edges.
            grid: Of their raster.

        Raises:
            LabelError: The raster's ground sampling distance is unknown.
        """
        if grid is None or grid.crs is None:
            raise LabelError(
                "sizes in metres need georeferenced rasters; state them in pixels (--sizes-px)"
            )
        pixel_m2 = float(abs(np.linalg.det(pixel_to_ground(grid))))
        area = box_arrays.area(boxes) * pixel_m2
        return (area >= self.low_m**2) & (area <= self.high_m**2)


Sizes = SizeRange | GroundSizeRange


def size_ranges(bounds_px: Sequence[float]) -> tuple[SizeRange, ...]:
    """Ranges between bounds in pixels, from 0 up; both ends belong to a range, as in COCO."""
    return tuple(SizeRange(*row) for row in _ranges(bounds_px, "px"))


def ground_size_ranges(bounds_m: Sequence[float]) -> tuple[GroundSizeRange, ...]:
    """Ranges between bounds in metres, from 0 up; both ends belong to a range."""
    return tuple(GroundSizeRange(*row) for row in _ranges(bounds_m, "m"))


def _ranges(bounds: Sequence[float], unit: str) -> list[tuple[str, float, float]]:
    if not bounds or min(bounds) <= 0 or list(bounds) != sorted(set(bounds)):
        given = ", ".join(f"{bound:g}" for bound in bounds) or "nothing"
        raise LabelError(f"bounds of sizes must rise from over 0, such as 32,96; got {given}")
    coco = tuple(bounds) == COCO_BOUNDS_PX and unit == "px"
    edges = (0.0, *bounds, _LARGEST)
    names = (
        COCO_NAMES
        if coco
        else [f"under {bounds[0]:g} {unit}"]
        + [f"{low:g} to {high:g} {unit}" for low, high in pairwise(bounds)]
        + [f"over {bounds[-1]:g} {unit}"]
    )
    return [(name, *ends) for name, ends in zip(names, pairwise(edges), strict=True)]
