import sys
from pathlib import Path

import numpy as np
import pytest

from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.labels import LabelledRaster, Labels

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from deepforest_csv import write_deepforest_csv


@pytest.mark.parametrize("scores", [None, np.array([0.125, 0.7])])
def test_what_is_written_is_read_back(tmp_path: Path, scores: np.ndarray | None) -> None:
    boxes = np.array([[1 / 3, 2, 30000.123456, 4], [5, 6, 7, 8]])
    full = Labels.of(boxes, [1, 0], ("Bush", "Tree"), scores=scores)
    items = [
        LabelledRaster("a,b.tif", full, "NIWO", "val"),
        LabelledRaster("/elsewhere/c.tif", Labels.empty(("Bush", "Tree")), split="train"),
    ]
    path = tmp_path / "labels.csv"
    write_deepforest_csv(items, path)
    first, second = read_deepforest_csv(path)
    assert (first.raster, first.site, first.split) == (str(tmp_path / "a,b.tif"), "NIWO", "val")
    np.testing.assert_allclose(first.labels.boxes, boxes, rtol=1e-11)
    assert first.labels.class_ids.tolist() == [1, 0]
    if scores is None:
        assert first.labels.scores is None
    else:
        np.testing.assert_array_equal(first.labels.scores, full.scores)
    assert (second.raster, second.split, len(second.labels)) == ("/elsewhere/c.tif", "train", 0)
