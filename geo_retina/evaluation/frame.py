"""Signs that detections of another program are in other units, or of other rasters."""

import logging
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from geo_retina.labels.cleaning import look_like_sizes, mostly_outside, ordered_corners
from geo_retina.space.grid import Grid
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

_LEAST_OUTSIDE, _MANY_OUTSIDE = 3, 0.2
"""So many detections, and this share, lie off their rasters by mistake, not at the edges."""


def warn_of_other_frame(found: Iterable[tuple[NDArray[np.float64], Grid]]) -> None:
    """Warn of detections that were made for other rasters, or in other units.

    Args:
        found: Boxes (N, 4) as they stand in the file, and the grid of their raster.
    """
    every, extents, outside = [np.zeros((0, 4))], [np.zeros((0, 2))], 0
    for boxes, grid in found:
        every.append(boxes)
        extents.append(np.tile([grid.width, grid.height], (len(boxes), 1)))
        off = mostly_outside(ordered_corners(boxes), width=grid.width, height=grid.height)
        outside += int(off.sum())
    stated = np.concatenate(every)
    if not len(stated):
        return
    if look_like_sizes(stated, np.concatenate(extents)):
        _log.warning(
            "the detections look like x, y, width, height, and are read as two corners: write "
            "xmax = xmin + width, ymax = ymin + height"
        )
    elif 0 < stated.max() <= 1:
        _log.warning(
            "no coordinate of the detections is over 1: they look like shares of the image, and "
            "are read as pixels: multiply them by its width and height"
        )
    elif outside >= max(_LEAST_OUTSIDE, _MANY_OUTSIDE * len(stated)):
        _log.warning(
            "left out %d of %s, which lie off their rasters: were they made for others, are x and "
            "y exchanged?",
            outside,
            counted(len(stated), "detection"),
        )
