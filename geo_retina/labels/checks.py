"""What is wrong with labels, counted and named, before anything is trained or measured on them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from geo_retina.errors import GeoRetinaError
from geo_retina.imagery.raster import open_raster
from geo_retina.labels.check_report import LabelReport, RasterProblems
from geo_retina.labels.cleaning import Changes, clean_labels, look_like_sizes
from geo_retina.labels.labelled_part import labelled_share
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.outlines import median_sides, sides_of, suspect_boxes
from geo_retina.labels.raster_kinds import RasterKind, blank_note, unlike_gsd, unlike_rasters
from geo_retina.labels.registration import Shift, estimate_shift

if TYPE_CHECKING:
    from geo_retina.space.grid import Grid

_LIKELY_FRAME_MISTAKE = 0.2
_LEAST_OUTSIDE = 3
_JOINTS = re.compile(r"[\s_-]+")


def check_labels(labelled: Sequence[LabelledRaster]) -> LabelReport:
    """Count swapped, empty, outside and double labels; suspect wrong frames and misregistration.

    Suspect are also boxes that are large for an object, class names that look alike, rasters that
    are unlike the others, and rasters that show nothing under their labels.

    Nothing is changed and nothing stops the check: rasters that cannot be read are reported.
    """
    problems: list[RasterProblems] = []
    unreadable: list[str] = []
    usable, changes = [], []
    kinds: dict[str, RasterKind] = {}
    shares: dict[str, float] = {}
    opened: list[tuple[LabelledRaster, Grid, str]] = []

    def refuse(item: LabelledRaster, error: GeoRetinaError) -> None:
        unreadable.append(item.raster)
        problems.append(RasterProblems(item.raster, len(item.labels), Changes(), str(error)))

    for item in labelled:
        try:
            with open_raster(item.raster) as raster:
                grid = raster.grid
                blank = blank_note(raster, item.labels.boxes)
                kinds[item.raster] = RasterKind.of(raster)
        except GeoRetinaError as error:
            refuse(item, error)
            continue
        opened.append((item, grid, blank))
    gsds = _known_gsds(kinds)
    medians = median_sides([item for item, _, _ in opened], gsds)
    for item, grid, blank in opened:
        width, height = grid.width, grid.height
        cleaned = clean_labels(item.labels, width=width, height=height)
        done = cleaned.changes
        if item.labels.fids is not None:  # placed by their ground: the rest is on a neighbour
            done = replace(done, clipped=done.clipped + done.outside, outside=0)
        frame = _frame_note(item, done, width=width, height=height)
        note = ", ".join(filter(None, (blank, frame)))
        in_pixels = {name: side / gsds.get(item.raster, 1.0) for name, side in medians.items()}
        suspects = suspect_boxes(item.labels, width=width, height=height, medians=in_pixels)
        changes.append(done)
        usable.append(LabelledRaster(item.raster, cleaned.labels, item.site))
        known = replace(item, labels=cleaned.labels)
        share = labelled_share(known, width=width, height=height)
        if share is not None:
            shares[item.raster] = share
        if replace(done, clipped=0) or note or suspects:
            problems.append(RasterProblems(item.raster, len(item.labels), done, note, suspects))
    shifts = _shifts(usable, refuse)
    problems.sort(key=lambda item: -sum(asdict(item.changes).values()) - len(item.suspects))
    per_class = _class_counts(labelled)
    return LabelReport(
        rasters=len(labelled),
        empty_rasters=sum(not len(item.labels) for item in labelled),
        labels=sum(len(item.labels) for item in labelled),
        per_class=per_class,
        side_px=_sides(labelled),
        totals=sum(changes, Changes()),
        problems=tuple(problems),
        shifts=shifts,
        unreadable=tuple(unreadable),
        alike_names=_alike(name for name, _ in per_class),
        unlike=unlike_rasters(kinds),
        unlike_gsd=unlike_gsd(kinds),
        unsearched=sum(not len(item.labels) and item.area is None for item in labelled),
        labelled_shares=shares,
    )


def _known_gsds(kinds: Mapping[str, RasterKind]) -> dict[str, float]:
    """Metres per pixel of each raster; none where one of them is unknown: then pixels must do."""
    gsds = {raster: kind.gsd_m for raster, kind in kinds.items() if kind.gsd_m is not None}
    return gsds if len(gsds) == len(kinds) else {}


def _frame_note(item: LabelledRaster, changes: Changes, *, width: int, height: int) -> str:
    """Suspect labels that were made for another raster or in other units."""
    boxes = item.labels.boxes[np.isfinite(item.labels.boxes).all(axis=1)]
    if len(boxes) and 0 < boxes.max() <= 1:
        return "all coordinates are at most 1: shares of the image (YOLO) instead of pixels?"
    if look_like_sizes(boxes, np.array([[width, height]])):
        return "x, y, width, height instead of two corners?"
    if changes.outside < max(_LEAST_OUTSIDE, _LIKELY_FRAME_MISTAKE * len(item.labels)):
        return ""
    reach = boxes[:, 2:].max(axis=0)
    swapped = (boxes[:, [3, 2]] <= [width, height]).all() and width != height
    why = (
        "x and y look swapped"
        if swapped
        else f"labels reach x {reach[0]:.0f}, y {reach[1]:.0f} on {width} x {height} px: made for "
        "another raster, at another resolution, or in world coordinates"
    )
    return f"{changes.outside} labels off the raster; {why}"


def _shifts(
    labelled: Sequence[LabelledRaster], refuse: Callable[[LabelledRaster, GeoRetinaError], None]
) -> tuple[tuple[str, Shift], ...]:
    by_site: dict[str, list[LabelledRaster]] = {}
    for item in labelled:
        by_site.setdefault(item.site, []).append(item)
    return tuple(
        (site, estimate_shift(items, on_error=refuse))
        for site, items in sorted(by_site.items())
        if any(len(item.labels) for item in items)
    )


def _class_counts(labelled: Sequence[LabelledRaster]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for item in labelled:
        for class_id, name in enumerate(item.labels.class_names):
            counts[name] = counts.get(name, 0) + int((item.labels.class_ids == class_id).sum())
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _alike(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of names that differ by nothing but case, blanks, hyphens and underscores."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_JOINTS.sub("", name).casefold(), []).append(name)
    return tuple(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _sides(labelled: Sequence[LabelledRaster]) -> tuple[float, float, float]:
    sides = np.concatenate([np.zeros(0), *(sides_of(item.labels) for item in labelled)])
    sides = sides[np.isfinite(sides)]
    if not len(sides):
        return 0.0, 0.0, 0.0
    low, middle, high = np.quantile(sides, [0.05, 0.5, 0.95]).tolist()
    return low, middle, high
