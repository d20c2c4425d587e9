"""Why the numbers of an evaluation may mislead, as far as labels and detections tell."""

from collections.abc import Sequence

from geo_retina.evaluation.pairs import Pair
from geo_retina.wording import counted

_MOST_BESIDE = 0.2
"""Largest share of detections on rasters without labels that is not told: on searched ground
without objects a detector finds little."""


def missing_entries(pairs: Sequence[Pair]) -> list[str]:
    """A sentence on labelled rasters that the detections do not name; none where there are none."""
    lacking = [pair for pair in pairs if not pair.has_entry and pair.labels.counted.any()]
    if not lacking:
        return []
    have = "has" if len(lacking) == 1 else "have"
    rasters = f"{len(lacking)} of {counted(len(pairs), 'raster')}"
    return [f"{rasters} {have} no entry in the detections: all their labels count as missed."]


def unlabelled_rasters(pairs: Sequence[Pair]) -> list[str]:
    """A sentence on rasters without labels that hold many of the detections; else none."""
    bare = [pair for pair in pairs if not len(pair.labels) and pair.area is None]
    beside = sum(len(pair.detections) for pair in bare)
    share = beside / max(sum(len(pair.detections) for pair in pairs), 1)
    if share <= _MOST_BESIDE:
        return []
    have = "has" if len(bare) == 1 else "have"
    rasters = f"{len(bare)} of {counted(len(pairs), 'raster')}"
    what = f"{rasters} {have} no label, but {share:.0%} of the detections, which all count as false"
    advice = "leave the rasters out (--only), or state what was searched (--area)"
    return [f"{what}: where nobody looked for objects, {advice}."]
