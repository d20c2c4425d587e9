"""One training chip from four: mosaic augmentation (YOLOv4, arXiv 2004.10934, section 3.4)."""

from collections.abc import Sequence

import numpy as np

from geo_retina.space import boxes as box_arrays
from geo_retina.training.augment import CutSquare

_EDGE = 0.25
"""The corner where the four meet keeps this share of the side from the chip's edges."""


def corner_of(side: int, random: np.random.Generator) -> tuple[int, int]:
    """Column and row where the four parts of a mosaic of `side` pixels meet."""
    low, high = round(_EDGE * side), round((1 - _EDGE) * side)
    x, y = random.integers(low, high + 1, 2).tolist()
    return x, y


def mosaic(
    chips: Sequence[CutSquare],
    corner: tuple[int, int],
    *,
    least_visible: float,
    least_side_px: float,
) -> CutSquare:
    """Put the quadrants of four chips together, each where it was in its own.

    Objects are cut where two chips meet, as at the edge of a chip.

    Args:
        chips: Upper left, upper right, lower left, lower right; of one size.
        corner: Column and row where the four meet.
        least_visible: An object is a label if this share of what its chip shows remains.
        least_side_px: And if both its sides have this length.
    """
    x, y = corner
    side = chips[0].valid.shape[0]
    pixels, valid = np.empty_like(chips[0].pixels), np.empty_like(chips[0].valid)
    boxes, class_ids = [], []
    parts = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
    for chip, (left, top, right, bottom) in zip(chips, parts, strict=True):
        part = slice(top, bottom), slice(left, right)
        pixels[:, *part], valid[part] = chip.pixels[:, *part], chip.valid[part]
        cut = chip.boxes.clip([left, top, left, top], [right, bottom, right, bottom])
        sides = cut[:, 2:] - cut[:, :2]
        kept = (sides > 0).all(axis=1) & (sides >= least_side_px).all(axis=1)
        kept &= box_arrays.area(cut) >= least_visible * box_arrays.area(chip.boxes)
        boxes.append(cut[kept])
        class_ids.append(chip.class_ids[kept])
    return CutSquare(pixels, valid, np.concatenate(boxes), np.concatenate(class_ids))
