"""Whether two programs found the same boxes, away from the seams of windows."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.pairs import overlapping_pairs, pair_iou
from geo_retina.space.windows import WindowPlan

MARGIN_PX = 8
"""A box nearer than this to the edge of a window may have been treated as cut."""
LEAST_IOU = 0.9
"""DeepForest cuts coordinates down to whole pixels, so boxes agree to about a pixel."""
SCORE_STEP = 0.01


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Rows `x_min, y_min, x_max, y_max, score` that a run kept: (N, 5)."""
    return np.array(json.loads(path.read_text()), dtype=np.float64).reshape(-1, 5)


def interior(boxes: NDArray[np.float64], plan: WindowPlan) -> NDArray[np.float64]:
    """Those that lie in the part of a window that no other one sees."""
    low_x, low_y, high_x, high_y = boxes[:, :4].T
    alone = _alone(low_x, high_x, plan.col_offs, plan) & _alone(low_y, high_y, plan.row_offs, plan)
    return boxes[alone]


def agreement(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], plan: WindowPlan
) -> dict[str, float]:
    """Numbers of interior boxes of both, and the share of either that the other one has too."""
    ours, theirs = interior(ours, plan), interior(theirs, plan)
    return {
        "ours": len(ours),
        "theirs": len(theirs),
        "share_of_ours": round(_share_found(ours, theirs), 4),
        "share_of_theirs": round(_share_found(theirs, ours), 4),
    }


def _alone(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    offsets: NDArray[np.int64],
    plan: WindowPlan,
) -> NDArray[np.bool_]:
    """Which intervals touch neither an overlap of two windows nor its margin."""
    starts, ends = offsets[1:] - MARGIN_PX, offsets[:-1] + plan.chip_px + MARGIN_PX
    touching = (high[:, None] >= starts) & (low[:, None] <= ends)
    return np.asarray(~touching.any(axis=1))


def _share_found(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Share of boxes with a counterpart of about the same place and score."""
    if len(some) == 0:
        return 1.0
    boxes = some[:, :4], others[:, :4]
    pairs = overlapping_pairs(*boxes)
    same = pair_iou(*boxes, pairs) >= LEAST_IOU
    same &= np.abs(some[pairs.first, 4] - others[pairs.second, 4]) < SCORE_STEP
    return len(np.unique(pairs.first[same])) / len(some)
