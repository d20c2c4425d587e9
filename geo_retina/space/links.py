"""Which boxes overlap: pairs, and the connected components that pairs form."""

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.box_checks import checked_boxes, groups_of
from geo_retina.space.boxes import Overlap
from geo_retina.space.nms import pairs_of_few


def pairs_within(
    boxes: NDArray[np.floating],
    *,
    threshold: float,
    overlap: Overlap = Overlap.IOU,
    class_ids: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Find all pairs of boxes of one class that overlap by more than a threshold.

    Args:
        boxes: (N, 4) pixel edges.
        threshold: In [0, 1].
        overlap: How overlap is measured.
        class_ids: (N,) only boxes of one class are paired; None pairs all boxes.

    Returns:
        (P, 2) positions, the smaller one first, in rising order.

    Raises:
        ValueError: The arrays do not fit each other, hold NaN or infinity, or the threshold is not
            in [0, 1].
    """
    checked = checked_boxes(boxes, threshold)
    groups = groups_of(class_ids, len(checked))
    found = pairs_of_few(checked, groups, threshold=threshold, overlap=overlap)
    if found is None:
        from geo_retina.space import _kernels

        rule = float(threshold), int(overlap)
        found = _kernels.pairs(np.ascontiguousarray(checked), groups, *rule)[:, ::-1]
    return found[np.lexsort([found[:, 1], found[:, 0]])]


def components(
    boxes: NDArray[np.floating],
    *,
    threshold: float,
    overlap: Overlap = Overlap.IOU,
    class_ids: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Number the connected components of the graph whose edges are `pairs_within`.

    Takes the same arguments and raises the same errors.

    Returns:
        (N,) for each box the smallest position in its component.
    """
    checked = checked_boxes(boxes, threshold)
    groups = groups_of(class_ids, len(checked))
    from geo_retina.space import _kernels

    return _kernels.components(
        np.ascontiguousarray(checked), groups, float(threshold), int(overlap)
    )
