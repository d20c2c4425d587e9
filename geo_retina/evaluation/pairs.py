"""Detections beside the labels of the same raster: what an evaluation compares."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.evaluation.frame import warn_of_other_frame
from geo_retina.labels.cleaning import Changes, clean_labels, mostly_outside, ordered_corners
from geo_retina.labels.image_paths import same_file_key
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject
from geo_retina.wording import counted, listed

_log = logging.getLogger(__name__)

_M2_PER_HA = 10_000.0
ONE_CLASS_HINT = "or count all labels and all detections as one class: --class-agnostic"
"""What to do about classes that do not fit each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """What was found on one whole raster and what is there, both in the raster's pixels."""

    name: str
    """Path or name of the raster."""
    detections: Detections
    """All of them, down to the lowest score that was kept: metrics choose their own thresholds."""
    labels: Labels
    site: str = ""
    grid: Grid | None = None
    """Needed for distances in metres and for counts per hectare."""
    area: Polygon | MultiPolygon | None = None
    """The part that was labelled, in pixels; objects with their centre elsewhere do not count."""
    has_entry: bool = True
    """False where a file of detections does not name the raster at all."""

    def __post_init__(self) -> None:
        known = len(self.labels.class_names)
        ids = self.detections.class_ids
        if len(ids) and not 0 <= ids.min() <= ids.max() < known:
            raise LabelError(
                f"{self.name}: class ids of detections must be in 0..{known - 1} "
                f"({', '.join(self.labels.class_names)}), got {np.unique(ids).tolist()}"
            )

    def inside_area(self) -> "Pair":
        """The same pair without the objects whose centre lies outside `area`."""
        if self.area is None:
            return self
        found = self.detections.select(_contains(self.area, self.detections.boxes))
        known = self.labels.select(_contains(self.area, self.labels.boxes))
        return replace(self, detections=found, labels=known)

    def mended(self, *, points: bool) -> tuple["Pair", Changes]:
        """The same pair with labels as a training has them, and what was done; see `clean_labels`.

        Detections are cut at the raster's edge or left out beyond it as labels are: a file may hold
        those of more ground.

        Args:
            points: Boxes stand for points: those whose centre lies on the raster stay as they are,
                however small, cut by its edge or near each other.
        """
        if self.grid is None:
            return self, Changes()
        width, height = self.grid.width, self.grid.height
        if not points:
            clean = clean_labels(self.labels, width=width, height=height)
            cut = box_arrays.clip(self.detections.boxes, width=width, height=height)
            outside = mostly_outside(self.detections.boxes, width=width, height=height)
            found = replace(self.detections, boxes=cut).select(~outside)
            return replace(self, detections=found, labels=clean.labels), clean.changes
        boxes = ordered_corners(self.labels.boxes)
        finite = np.asarray(np.isfinite(boxes).all(axis=1))
        inside = _centres_on(self.grid, boxes)
        found = self.detections.select(_centres_on(self.grid, self.detections.boxes))
        swapped = (boxes != self.labels.boxes).any(axis=1) & finite & inside
        changes = Changes(
            swapped=int(swapped.sum()),
            not_finite=int((~finite).sum()),
            outside=int((finite & ~inside).sum()),
        )
        known = self.labels.with_boxes(boxes).select(finite & inside)
        return replace(self, detections=found, labels=known), changes

    def labelled_px(self) -> float | None:
        """Pixels of the raster that were labelled; None without its grid."""
        if self.area is not None:
            return float(self.area.area)
        return None if self.grid is None else float(self.grid.width * self.grid.height)

    def hectares(self) -> float | None:
        """Ground that was labelled; None where nobody knows where on the Earth the raster lies."""
        if self.grid is None or self.grid.crs is None:
            return None
        try:
            corners = reproject(self.grid.corners, source=self.grid.crs, target=WGS84)
        except GeoreferenceError:
            return None
        square_metres, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*corners.T)
        share = 1.0
        if self.area is not None:
            share = self.area.area / (self.grid.width * self.grid.height)
        return abs(square_metres) * share / _M2_PER_HA


def detection_boxes(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """(N, 4) boxes of all detections, one raster after the other as in `Matches`."""
    return np.concatenate([np.zeros((0, 4)), *(pair.detections.boxes for pair in pairs)])


def label_boxes(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """(M, 4) boxes of all labels, one raster after the other as in `Matches`."""
    return np.concatenate([np.zeros((0, 4)), *(pair.labels.boxes for pair in pairs)])


def rasters_of_sites(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """Positions of the pairs of each site, in alphabetical order."""
    members: dict[str, list[int]] = {site: [] for site in sorted({pair.site for pair in pairs})}
    for index, pair in enumerate(pairs):
        members[pair.site].append(index)
    return members


def found_as_one_class(found: Detections) -> Detections:
    """The same detections, all of one class."""
    return replace(found, class_ids=np.zeros_like(found.class_ids))


def pair_up(
    labelled: Sequence[LabelledRaster],
    found: Sequence[LabelledRaster],
    *,
    grid_of: Callable[[str], Grid] | None = None,
) -> list[Pair]:
    """Put detections that were read from files beside labels of the same raster.

    Args:
        labelled: Labels; the result has one pair for each, in their order.
        found: Detections as the label readers give them, with scores; see `raster_of`. A raster
            without an entry has no detections.
        grid_of: Such as `geo_retina.labels.files.read_grid`, to measure in metres; None where no
            raster shall be opened.

    Raises:
        LabelError: Detections have no scores, lie on a raster without labels, or have a class that
            the labels do not know.
    """
    places = raster_of([item.raster for item in found], [item.raster for item in labelled])
    lost = [
        Path(item.raster).name
        for item, place in zip(found, places, strict=True)
        if place is None and len(item.labels)
    ]
    if lost:
        raise LabelError(
            f"detections lie on {counted(len(lost), 'raster')} without labels: "
            f"{listed(sorted(lost))}; evaluate on rasters that were labelled, if only "
            "as empty"
        )
    boxes = np.concatenate([np.zeros((0, 4)), *(item.labels.boxes for item in found)])
    swapped = int((boxes[:, 2:] < boxes[:, :2]).any(axis=1).sum())
    if swapped:
        _log.warning("put the corners of %s in order", counted(swapped, "detection"))
    entries = dict(zip(places, found, strict=True))
    pairs = [
        Pair(
            item.raster,
            _detections(
                entries[number].labels if number in entries else None,
                item.labels.class_names,
                Path(item.raster).name,
            ),
            item.labels,
            item.site,
            None if grid_of is None else grid_of(item.raster),
            item.area,
            has_entry=number in entries,
        )
        for number, item in enumerate(labelled)
    ]
    warn_of_other_frame(
        (entries[number].labels.boxes, pair.grid)
        for number, pair in enumerate(pairs)
        if number in entries and pair.grid is not None
    )
    return pairs


def raster_of(found: Sequence[str], labelled: Sequence[str]) -> list[int | None]:
    """Which labelled raster each raster of a file of detections is: by path, else by file name.

    Args:
        found: Paths that detections name.
        labelled: Paths that labels name.

    Returns:
        A position in `labelled` for each, None where there is none.

    Raises:
        LabelError: A name fits several labelled rasters, or several entries one of them.
    """
    by_path = {same_file_key(raster): number for number, raster in enumerate(labelled)}
    if len(by_path) < len(labelled):
        (twice, _), *_ = Counter(map(same_file_key, labelled)).most_common(1)
        raise LabelError(f"the labels name {twice} more than once; join its entries")
    places = [by_path.get(same_file_key(raster)) for raster in found]
    left: dict[str, list[int]] = {}  # by name, those that no path names
    for number, raster in enumerate(labelled):
        if number not in places:
            left.setdefault(Path(raster).name, []).append(number)
    for number, raster in enumerate(found):
        named = left.get(Path(raster).name, [])
        if places[number] is None and len(named) > 1:
            raise LabelError(
                f"the detections on {raster} may belong to "
                f"{listed(labelled[place] for place in named)}: name rasters with "
                "their folders"
            )
        if places[number] is None and named:
            places[number] = named[0]
    for place, count in Counter(place for place in places if place is not None).items():
        if count > 1:
            raise LabelError(f"detections name {labelled[place]} more than once; join its entries")
    return places


def _detections(found: Labels | None, class_names: tuple[str, ...], name: str) -> Detections:
    """Detections with the labels' class ids."""
    if found is None or not len(found):
        return Detections.empty()
    if found.scores is None or not np.isfinite(found.scores).all():
        raise LabelError(
            f"{name}: detections need a score each; state the column of a vector file with "
            "--score-column, or give the file scores"
        )
    boxes = ordered_corners(found.boxes)
    if len(found.class_names) == len(class_names) == 1:
        return Detections.of(boxes, found.scores, np.zeros(len(found)))
    strange = sorted(set(found.class_names) - set(class_names))
    if strange and not class_names:
        raise LabelError(
            f"{name}: the labels hold no object, so they name no class; name those of the "
            f"detections: --classes {','.join(found.class_names)}, {ONE_CLASS_HINT}"
        )
    if strange:
        raise LabelError(
            f"{name}: expected detections of the labels' classes {', '.join(class_names)}, got "
            f"also {', '.join(strange)}; rename them, name the column of their classes "
            f"(--detections-class-column), {ONE_CLASS_HINT}"
        )
    new_id = np.array([class_names.index(known) for known in found.class_names])
    return Detections.of(boxes, found.scores, new_id[found.class_ids])


def _centres_on(grid: Grid, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether the centres of boxes lie on a raster."""
    centres = box_arrays.centres(boxes)
    return np.asarray(((centres >= 0) & (centres <= [grid.width, grid.height])).all(axis=1))


def _contains(area: Polygon | MultiPolygon, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y = box_arrays.centres(boxes).T
    return np.asarray(shapely.contains_xy(area, x, y), np.bool_)
