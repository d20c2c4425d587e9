"""Numbers, times and lists in messages."""

import math
from collections.abc import Iterable, Mapping

_SHOWN = 5
_LONGEST = 60


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 raster`, `2 rasters`; `plural` where an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def shown(value: object) -> str:
    """A wrong value: as it would be written, or its type where that is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST and "\n" not in text else f"a {type(value).__name__}"


def listed(values: Iterable[object], *, shown: int = _SHOWN) -> str:
    """The first values and the number of the others: `a, b and 3 more`."""
    texts = [str(value) for value in values]
    more = len(texts) - shown
    return ", ".join(texts[:shown]) + (f" and {more:,} more" if more > 0 else "")


def fid_list(fids: Iterable[object]) -> str:
    """Features by their number in the file: `fid 2, 5`."""
    return f"fid {listed(fids)}"


def scores_text(score: float, class_scores: Mapping[str, float]) -> str:
    """The least score of all classes, and of those that have their own: `0.300, of boat 0.120`."""
    others = (f"of {name} {own:.3f}" for name, own in class_scores.items())
    return ", ".join([f"{score:.3f}", *others])


def three_digits(value: float) -> str:
    """A number to three digits, as many before the point as it has: `0.182`, `20`, `1365`."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def duration(seconds: float) -> str:
    """Time in the unit that fits."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:,.1f} h"  # noqa: PLR2004
