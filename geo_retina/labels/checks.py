"""What is wrong with labels, counted and named, before anything is trained or measured on them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from geo_retina.errors import GeoRetinaError
from geo_retina.labels.cleaning import Changes, clean_labels
from geo_retina.labels.files import read_grid
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.registration import Shift, estimate_shift

_LIKELY_FRAME_MISTAKE = 0.2
_LEAST_OUTSIDE = 3
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RasterProblems:
    """What is wrong with the labels of one raster."""

    raster: str
    labels: int
    changes: Changes
    """What `clean_labels` would do to them."""
    note: str = ""
    """A suspicion in words: the raster cannot be opened, the labels belong to another frame."""


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The outcome of `check_labels`."""

    rasters: int
    empty_rasters: int
    """Rasters without any object."""
    labels: int
    per_class: tuple[tuple[str, int], ...]
    """Objects of each class, most frequent first."""
    side_px: tuple[float, float, float]
    """5 %, 50 % and 95 % quantile of the square root of a box's area, pixels; 0 without boxes."""
    totals: Changes
    problems: tuple[RasterProblems, ...]
    """Rasters with something wrong, most changes first; boxes cut at the edge are not wrong."""
    shifts: tuple[tuple[str, Shift], ...]
    """Estimated misregistration of each site (one entry with an empty name without sites)."""
    unreadable: tuple[str, ...] = ()
    """Rasters that cannot be opened, or whose pixels cannot be read."""

    @property
    def is_clean(self) -> bool:
        """True where there is nothing to mend; a shift suspected on one raster is no fault yet."""
        return not self.problems and not any(shift.is_fault for _, shift in self.shifts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"is_clean": self.is_clean}

    def to_text(self) -> str:
        """Describe the outcome in some lines of plain text."""
        lines = [
            f"{self.labels} labels on {self.rasters} rasters, {self.empty_rasters} without objects",
            "classes: "
            + (", ".join(f"{name} {count}" for name, count in self.per_class) or "none"),
            "side of a box: 5 % under {:.0f}, half under {:.0f}, 95 % under {:.0f} px".format(
                *self.side_px
            ),
            "to mend: " + self._to_mend(),
        ]
        lines += [
            f"  {item.raster}: {', '.join(filter(None, (_described(item.changes), item.note)))}"
            for item in self.problems[:_SHOWN]
        ]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {len(self.problems) - _SHOWN} more rasters")
        lines += [_shift_line(site, shift) for site, shift in self.shifts if shift.is_suspect]
        return "\n".join(lines)

    def _to_mend(self) -> str:
        """All that `is_clean` is about, in one line."""
        noted = sum(bool(item.note) for item in self.problems)
        faults = sum(shift.is_fault for _, shift in self.shifts)
        parts = (
            _described(replace(self.totals, clipped=0)),
            f"what is noted below of {noted} {'raster' if noted == 1 else 'rasters'}"
            if noted
            else "",
            "the place of the labels, see below" if faults else "",
        )
        cut = f" ({self.totals.clipped} cut at the edge, no fault)" if self.totals.clipped else ""
        return (", ".join(filter(None, parts)) or "nothing") + cut


def _shift_line(site: str, shift: Shift) -> str:
    where = f" at {site}" if site else ""
    fault = f"misregistration{where}: several rasters agree that"
    return (
        f"{fault if shift.is_fault else f'warning: suspected misregistration{where}:'} the labels "
        f"fit better {shift.x_px:+d} px to the right and {shift.y_px:+d} px down ({shift.loss:.0%} "
        "of the edges there are missed where they are now)"
        + ("" if shift.is_fault else "; look at them, --sheet draws some")
    )


def check_labels(labelled: Sequence[LabelledRaster]) -> LabelReport:
    """Count swapped, empty, outside and double labels; suspect wrong frames and misregistration.

    Nothing is changed and nothing stops the check: rasters that cannot be read are reported.
    """
    problems: list[RasterProblems] = []
    unreadable: list[str] = []
    usable, changes = [], []

    def refuse(item: LabelledRaster, error: GeoRetinaError) -> None:
        unreadable.append(item.raster)
        problems.append(RasterProblems(item.raster, len(item.labels), Changes(), str(error)))

    for item in labelled:
        try:
            grid = read_grid(item.raster)
        except GeoRetinaError as error:
            refuse(item, error)
            continue
        cleaned = clean_labels(item.labels, width=grid.width, height=grid.height)
        note = _frame_note(item, cleaned.changes, width=grid.width, height=grid.height)
        changes.append(cleaned.changes)
        usable.append(LabelledRaster(item.raster, cleaned.labels, item.site))
        if replace(cleaned.changes, clipped=0) or note:
            problems.append(RasterProblems(item.raster, len(item.labels), cleaned.changes, note))
    shifts = _shifts(usable, refuse)
    problems.sort(key=lambda item: -sum(asdict(item.changes).values()))
    return LabelReport(
        rasters=len(labelled),
        empty_rasters=sum(not len(item.labels) for item in labelled),
        labels=sum(len(item.labels) for item in labelled),
        per_class=_class_counts(labelled),
        side_px=_sides(labelled),
        totals=_sum(changes),
        problems=tuple(problems),
        shifts=shifts,
        unreadable=tuple(unreadable),
    )


def _frame_note(item: LabelledRaster, changes: Changes, *, width: int, height: int) -> str:
    """Suspect labels that were made for another raster or in other units."""
    boxes = item.labels.boxes[np.isfinite(item.labels.boxes).all(axis=1)]
    if len(boxes) and 0 < boxes.max() <= 1:
        return "all coordinates are at most 1: shares of the image (YOLO) instead of pixels?"
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


def _sides(labelled: Sequence[LabelledRaster]) -> tuple[float, float, float]:
    parts = [np.zeros((0, 4)), *(item.labels.boxes for item in labelled)]
    boxes = np.concatenate(parts)
    sides = np.abs(boxes[:, 2:] - boxes[:, :2])
    areas = sides.prod(axis=1)
    areas = areas[np.isfinite(areas)]
    if not len(areas):
        return 0.0, 0.0, 0.0
    low, middle, high = np.quantile(np.sqrt(areas), [0.05, 0.5, 0.95]).tolist()
    return low, middle, high


def _sum(changes: Sequence[Changes]) -> Changes:
    return Changes(
        **{key: sum(getattr(item, key) for item in changes) for key in asdict(Changes())}
    )


def _described(changes: Changes) -> str:
    return ", ".join(
        f"{count} {key.replace('_', ' ')}" for key, count in asdict(changes).items() if count
    )
