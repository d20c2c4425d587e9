"""The outcome of a check of labels, in numbers and in words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from geo_retina.labels.cleaning import Changes
from geo_retina.labels.labelled_part import doubt_about_part
from geo_retina.labels.outlines import SuspectBox
from geo_retina.labels.registration import Shift
from geo_retina.wording import counted, listed

_MOST_EMPTY = 0.5
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RasterProblems:
    """What is wrong with the labels of one raster."""

    raster: str
    labels: int
    changes: Changes
    """What `clean_labels` would do to them."""
    note: str = ""
    """A suspicion in words: the raster cannot be opened or shows nothing, the labels belong to
    another frame."""
    suspects: tuple[SuspectBox, ...] = ()
    """Labels that are large for an object."""

    def __str__(self) -> str:
        """Raster and problems."""
        number = counted(len(self.suspects), "suspect box", "suspect boxes")
        suspects = f"{number}: {listed(self.suspects)}" if self.suspects else ""
        parts = (str(self.changes), suspects, self.note)
        return f"{self.raster}: {', '.join(filter(None, parts))}"


def doubt_about_empty(unsearched: int, rasters: int) -> str:
    """What to do where most rasters are without objects; empty where most have some.

    Args:
        unsearched: Rasters without any object of which no area says what was searched.
        rasters: All of them.
    """
    if unsearched <= _MOST_EMPTY * rasters:
        return ""
    return (
        f"{unsearched:,} of {counted(rasters, 'raster')} without any object; where nobody looked "
        "for objects, take the other rasters only: --only (names, only in a recipe), or state what "
        "was searched: --area (area in a recipe)"
    )


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
    alike_names: tuple[tuple[str, ...], ...] = ()
    """Class names that differ by nothing but case, blanks, hyphens and underscores."""
    unlike: tuple[str, ...] = ()
    """Which rasters have other bands or another data type than most, in words."""
    unlike_gsd: str = ""
    """Which rasters have another GSD than most, in words; no fault."""
    unsearched: int = 0
    """Rasters without any object of which no area says what was searched."""
    labelled_shares: Mapping[str, float] = field(default_factory=dict)
    """Of `labelled_share`, for each raster that has one."""

    @property
    def is_clean(self) -> bool:
        """True where there is nothing to mend; a shift suspected on one raster is no fault yet."""
        faults = any(shift.is_fault for _, shift in self.shifts)
        return not (self.problems or faults or self.alike_names or self.unlike)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"is_clean": self.is_clean}

    def to_text(self) -> str:
        """Describe the outcome in some lines of plain text."""
        count = f"{counted(self.labels, 'label')} on {counted(self.rasters, 'raster')}"
        classes = ", ".join(f"{name!r} {count}" for name, count in self.per_class)
        lines = [
            f"{count}, {self.empty_rasters:,} without objects",
            f"classes: {classes or 'none'}",
            "side of a box: 5 % under {:.0f}, half under {:.0f}, 95 % under {:.0f} px".format(
                *self.side_px
            ),
            "to mend: " + self._to_mend(),
        ]
        lines += [f"  {item}" for item in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {counted(len(self.problems) - _SHOWN, 'more raster')}")
        lines += [
            f"  class names that look alike: {', '.join(map(repr, names))}; if they are one class, "
            "call it by one name"
            for names in self.alike_names
        ]
        lines += [f"  rasters of different kinds: {text}" for text in self.unlike]
        lines += [_shift_line(site, shift) for site, shift in self.shifts if shift.is_suspect]
        return "\n".join([*lines, *self._warnings()])

    def _warnings(self) -> list[str]:
        """What may be as it should."""
        lines = []
        if self.unlike_gsd:
            lines.append(f"warning: rasters of different GSD: {self.unlike_gsd}")
        doubts = (
            doubt_about_empty(self.unsearched, self.rasters),
            doubt_about_part(self.labelled_shares),
        )
        return [*lines, *(f"warning: {text}" for text in doubts if text)]

    def _to_mend(self) -> str:
        """All that `is_clean` is about, in one line."""
        noted = sum(bool(item.note) for item in self.problems)
        suspects = sum(len(item.suspects) for item in self.problems)
        faults = sum(shift.is_fault for _, shift in self.shifts)
        parts = (
            str(replace(self.totals, clipped=0)),
            counted(suspects, "suspect box", "suspect boxes") if suspects else "",
            f"what is noted below of {counted(noted, 'raster')}" if noted else "",
            "class names, see below" if self.alike_names else "",
            "rasters of different kinds, see below" if self.unlike else "",
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
