import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import turn_plots


@pytest.mark.parametrize("view", turn_plots.VIEWS)
def test_boxes_turn_with_the_pixels(view: str) -> None:
    width, height = 11, 7
    boxes = np.array([[1.0, 2, 4, 3], [5, 0, 11, 7]])
    for box in boxes:
        pixels = np.zeros((1, height, width), np.uint8)
        x_min, y_min, x_max, y_max = box.astype(int)
        pixels[:, y_min:y_max, x_min:x_max] = 1
        seen = turn_plots.VIEWS[view](pixels)
        _, rows, columns = np.nonzero(seen)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found = turn_plots.turned_boxes(box[None], view, width=width, height=height)
        assert found.tolist() == [expected]
