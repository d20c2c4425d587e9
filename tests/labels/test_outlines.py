import json
from dataclasses import replace

import numpy as np
import pytest

from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.outlines import SuspectBox, median_sides, suspect_boxes

SIDE = 400
CORNERS = np.stack(np.meshgrid(np.arange(0, 400, 20.0), np.arange(0, 400, 20.0)), -1).reshape(-1, 2)
CROWNS = np.concatenate([CORNERS, CORNERS + 10], axis=1)
"""400 boxes of 10 px, 20 px apart."""


def suspects(
    boxes: object, class_ids: object = None, *, width: int = SIDE, height: int = SIDE
) -> tuple[SuspectBox, ...]:
    array = np.asarray(boxes, dtype=np.float64)
    ids = np.zeros(len(array), np.int64) if class_ids is None else class_ids
    labels = replace(Labels.of(array, ids, ("crown", "plot")), fids=np.arange(len(array)) + 1)
    medians = median_sides([LabelledRaster("a.tif", labels)], {})
    return suspect_boxes(labels, width=width, height=height, medians=medians)


def test_crowns_are_not_suspect() -> None:
    assert suspects(CROWNS) == ()
    assert suspects([]) == ()
    broken = np.array([[np.nan, 0, 1, 1], [np.inf, 0, 1, 1], [5, 5, 5, 5]])
    assert suspects(np.concatenate([CROWNS, broken])) == ()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0, 0, 400, 400), "40 times the median side, covers 100% of the raster, contains 400"),
        ((-900, -900, 900, 900), "covers 100%"),
        ((400, 400, 0, 0), "covers 100%"),
        ((0, 0, 81, 81), "8 times the median side"),
        ((0, 0, 399, 101), "covers 25% of the raster"),
        ((0, 0, 50, 30), "contains 6 other labels"),
    ],
)
def test_a_large_box_says_why(box: tuple[float, ...], said: str) -> None:
    (found,) = suspects([*CROWNS, box])
    assert said in found.why
    assert (found.number, found.fid) == (401, 401)
    assert f"fid 401 (x {min(box[0], box[2])} to" in str(found)


def test_classes_have_sizes_of_their_own() -> None:
    plots = [[0.0, 0, 100, 100], [150, 0, 250, 100]]
    ids = np.concatenate([np.zeros(len(CROWNS)), [1, 1]]).astype(np.int64)
    assert suspects([*CROWNS, *plots], ids) == ()


def test_crowded_boxes_around_points_are_not_suspect() -> None:
    middles = np.random.default_rng(0).uniform(50, 90, (60, 2))
    assert suspects(np.concatenate([middles - 15, middles + 15], axis=1)) == ()


def test_a_label_without_feature_has_a_number() -> None:
    found = SuspectBox(3, None, (0.0, 0.0, 9.0, 9.0), "large")
    assert str(found) == "label 3 (x 0 to 9, y 0 to 9 px: large)"
    json.dumps(found.box)


def test_chips_that_show_one_object_each_are_not_suspect() -> None:
    cars = np.array([[14.0, 14, 50, 50]] * 6)
    assert suspects(cars, width=64, height=64) == ()


def test_sizes_that_spread_as_usual_are_not_suspect() -> None:
    random = np.random.default_rng(1)
    middles = random.uniform(0, 4000, (2000, 2))
    half = 10 * np.exp(random.normal(0, 0.3, (2000, 1)))
    boxes = np.concatenate([middles - half, middles + half], axis=1)
    assert suspects(boxes, width=4000, height=4000) == ()
