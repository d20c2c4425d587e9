"""Rasters that may be labelled in part, though nothing says which part was searched."""

from collections.abc import Mapping
from pathlib import Path

from geo_retina.labels.labels import LabelledRaster
from geo_retina.space import boxes as box_arrays
from geo_retina.wording import listed

_LEAST_LABELS = 20
"""The rectangle around so many labels covers four fifths of where they are strewn."""
_LEAST_SHARE = 0.5


def labelled_share(item: LabelledRaster, *, width: int, height: int) -> float | None:
    """Share of a raster inside the rectangle around its labels.

    None where that tells nothing: an area says what was searched, or there are few labels.

    Args:
        item: Its labels, finite boxes in pixels of the raster.
        width: Columns of the raster.
        height: Rows of the raster.
    """
    if item.area is not None or len(item.labels) < _LEAST_LABELS:
        return None
    boxes = box_arrays.clip(item.labels.boxes, width=width, height=height)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return float((high - low).prod() / (width * height))


def doubt_about_part(shares: Mapping[str, float]) -> str:
    """What to do where labels keep to a small part of their rasters; empty where they do not.

    Args:
        shares: Of `labelled_share`, by the rasters' paths.
    """
    small = {path: share for path, share in shares.items() if share < _LEAST_SHARE}
    if not small:
        return ""
    told = listed(f"{Path(path).name} ({share:.0%})" for path, share in small.items())
    return (
        f"all labels lie within a small part of {told}; what is outside counts as searched and "
        "empty: where nobody looked there, state what was searched: --area (area in a recipe)"
    )
