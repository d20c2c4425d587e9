"""Detections beside the labels of the same raster: what an evaluation compares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.evaluation.words import counted
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject

_M2_PER_HA = 10_000.0
_LISTED = 5
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

    def hectares(self) -> float | None:
        """Ground that was labelled; None where nobody knows where on the Earth the raster lies."""
        if self.grid is None or self.grid.crs is None:
            return None
        whole = np.array([[0.0, 0.0, self.grid.width, self.grid.height]])
        try:
            corners = reproject(self.grid.box_corners(whole)[0], source=self.grid.crs, target=WGS84)
        except GeoreferenceError:
            return None
        square_metres, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*corners.T)
        share = 1.0
        if self.area is not None:
            share = self.area.area / (self.grid.width * self.grid.height)
        return abs(square_metres) * share / _M2_PER_HA


def found_as_one_class(found: Detections) -> Detections:
    """The same detections, all of one class."""
    return replace(found, class_ids=np.zeros_like(found.class_ids))


def pair_up(
    labelled: Sequence[LabelledRaster],
    found: Sequence[LabelledRaster],
    *,
    grid_of: Callable[[str], Grid] | None = None,
) -> list[Pair]:
    """Put detections that were read from files beside labels, by the file name of the raster.

    Args:
        labelled: Labels; the result has one pair for each, in their order.
        found: Detections as the label readers give them, with scores. A raster without an entry
            has no detections.
        grid_of: Such as `geo_retina.labels.files.read_grid`, to measure in metres; None where no
            raster shall be opened.

    Raises:
        LabelError: Detections have no scores, lie on a raster without labels, or have a class that
            the labels do not know.
    """
    names = [Path(item.raster).name for item in labelled]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabelError(f"several labelled rasters are called {', '.join(twice[:_LISTED])}")
    by_name = {Path(item.raster).name: item.labels for item in found if len(item.labels)}
    lost = sorted(by_name.keys() - set(names))
    if lost:
        raise LabelError(
            f"detections lie on {counted(len(lost), 'raster')} without labels: "
            f"{', '.join(lost[:_LISTED])}; evaluate on rasters that were labelled, if only as empty"
        )
    return [
        Pair(
            item.raster,
            _detections(by_name.get(name), item.labels.class_names, name),
            item.labels,
            item.site,
            None if grid_of is None else grid_of(item.raster),
            item.area,
        )
        for item, name in zip(labelled, names, strict=True)
    ]


def _detections(found: Labels | None, class_names: tuple[str, ...], name: str) -> Detections:
    """Detections with the labels' class ids."""
    if found is None or not len(found):
        return Detections.empty()
    if found.scores is None or not np.isfinite(found.scores).all():
        raise LabelError(f"{name}: detections need a score each; give the file a score column")
    if len(found.class_names) == len(class_names) == 1:
        return Detections.of(found.boxes, found.scores, np.zeros(len(found)))
    strange = sorted(set(found.class_names) - set(class_names))
    if strange:
        raise LabelError(
            f"{name}: expected detections of the labels' classes {', '.join(class_names)}, got "
            f"also {', '.join(strange)}; rename them, name the column of their classes "
            f"(--detections-class-column), {ONE_CLASS_HINT}"
        )
    new_id = np.array([class_names.index(known) for known in found.class_names])
    return Detections.of(found.boxes, found.scores, new_id[found.class_ids])


def _contains(area: Polygon | MultiPolygon, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y = box_arrays.centres(boxes).T
    return np.asarray(shapely.contains_xy(area, x, y), np.bool_)
