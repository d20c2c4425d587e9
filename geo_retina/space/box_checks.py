"""What the functions that compare boxes refuse, before they compare any."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_FARTHEST = 2.0**53  # beyond, float64 does not tell pixels apart
_DENSE_GROUPS = 4096


def checked_boxes(boxes: NDArray[np.floating], threshold: float) -> NDArray[np.float64]:
    """The boxes as float64.

    Raises:
        ValueError: They are not (N, 4) or not finite, or the threshold is not in [0, 1].
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:  # noqa: PLR2004
        raise ValueError(f"expected boxes of shape (N, 4), got {boxes.shape}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold in [0, 1], got {threshold}")
    if len(boxes) and not (boxes.min() >= -_FARTHEST and boxes.max() <= _FARTHEST):  # or NaN
        bad = np.flatnonzero(~(np.abs(boxes) <= _FARTHEST).all(axis=1))
        raise ValueError(
            f"expected finite coordinates within 2^53 px, got {len(bad)} other boxes, the first is "
            f"number {bad[0]}: {boxes[bad[0]]}; drop what the detector returns as NaN or infinity"
        )
    return boxes.astype(np.float64, copy=False)


def check_scores(scores: NDArray[np.floating], count: int) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: They are not (`count`,), or some are NaN.
    """
    if scores.shape != (count,):
        raise ValueError(f"expected one score for each of {count} boxes, got {scores.shape}")
    missing = int(np.isnan(scores).sum())
    if missing:
        raise ValueError(f"expected scores that can be ranked, got {missing} that are NaN")


def groups_of(class_ids: Integers | None, count: int) -> Integers:
    """Classes numbered 0..G-1 without large gaps, (N,); all 0 where there are none."""
    if class_ids is None or count == 0:
        return np.zeros(count, np.int64)
    if class_ids.shape != (count,):
        raise ValueError(f"expected one class id for each of {count} boxes, got {class_ids.shape}")
    low, high = int(class_ids.min()), int(class_ids.max())
    if high - low < _DENSE_GROUPS:
        return class_ids.astype(np.int64) - low
    return np.unique(class_ids, return_inverse=True)[1].astype(np.int64)
