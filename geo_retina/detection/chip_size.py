"""How large chips of a raster are: as large as pays, since what overlaps is computed twice."""

import math

from geo_retina.model.settings import CHIP_MULTIPLE_PX
from geo_retina.space.windows import WindowPlan

LARGEST_GROWTH = 3
"""Most times that a model's chip grows along each side: a network takes memory by the pixel."""

LARGE_PX = 1536
"""A chip that is larger than this grows to twice the model's at most."""


def fitting_chip_px(width: int, height: int, *, model_chip_px: int, overlap_px: int) -> int:
    """Edge of the chip that covers a raster with the fewest computed pixels.

    Networks here are convolutional: a larger chip costs as much a pixel, and fewer pixels lie in
    two windows. At an overlap of 128 px a large raster costs 1.78 times its pixels in chips of
    512 px, 1.31 times in chips of 1,024, and 1.19 times in chips of 1,536. The last windows of a
    row end at the raster's edge and so overlap their neighbours by more; a somewhat smaller chip
    often covers it with as many.

    The choice depends on the raster's size and the model alone, neither on memory nor on the
    backend, so that a run gives the same on every machine.

    Args:
        width: Columns of the raster, at the model's GSD.
        height: Rows.
        model_chip_px: The model's own chip, which is the least.
        overlap_px: Least overlap of neighbouring windows.

    Returns:
        A multiple of `CHIP_MULTIPLE_PX`, or `model_chip_px`.
    """
    first = -(-model_chip_px // CHIP_MULTIPLE_PX) * CHIP_MULTIPLE_PX
    largest = min(LARGEST_GROWTH * model_chip_px, max(LARGE_PX, 2 * model_chip_px))
    grown = range(first, largest + 1, CHIP_MULTIPLE_PX)
    sizes: list[int] = [model_chip_px, *grown]
    plans = [WindowPlan(width, height, size, overlap_px) for size in sizes]
    work = [(_computed_px(plan), len(plan)) for plan in plans]  # and of equal ones, fewer seams
    return sizes[work.index(min(work))]


def _computed_px(plan: WindowPlan) -> int:
    """Pixels of all windows, as the network is given them: padded."""
    window = plan.window(0)
    columns = math.ceil(window.width / CHIP_MULTIPLE_PX)
    rows = math.ceil(window.height / CHIP_MULTIPLE_PX)
    return int(len(plan) * columns * rows * CHIP_MULTIPLE_PX**2)
