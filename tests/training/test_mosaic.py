"""Four chips in one: pixels, validity and objects of each quadrant stay together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_retina.training.augment import CutSquare
from geo_retina.training.dataset import RandomChips
from geo_retina.training.mosaic import corner_of, mosaic
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.settings import AugmentSettings
from geo_retina.training.sources import Reading

SIDE = 32


def _chip(boxes: Any, *, value: int, class_id: int, side: int = SIDE) -> CutSquare:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return CutSquare(
        np.full((3, side, side), value, np.uint8),
        np.full((side, side), value % 2 == 0),
        boxes,
        np.full(len(boxes), class_id),
    )


def test_each_quadrant_is_that_of_its_chip() -> None:
    whole = [(0, 0, SIDE, SIDE)]
    chips = [_chip(whole, value=number, class_id=number) for number in range(4)]
    made = mosaic(chips, (20, 12), least_visible=0, least_side_px=0)
    expected = np.array([[0, 1], [2, 3]], np.uint8).repeat([12, 20], axis=0)
    expected = expected.repeat([20, 12], axis=1)
    np.testing.assert_array_equal(made.pixels, np.stack([expected] * 3))
    np.testing.assert_array_equal(made.valid, expected % 2 == 0)
    assert made.boxes.tolist() == [
        [0, 0, 20, 12], [20, 0, 32, 12], [0, 12, 20, 32], [20, 12, 32, 32]
    ]  # fmt: skip
    assert made.class_ids.tolist() == [0, 1, 2, 3]


def test_what_little_remains_of_an_object_is_no_label() -> None:
    boxes = [(2, 2, 12, 12), (13, 2, 23, 12), (9, 2, 19, 12), (24, 2, 31, 9), (14.5, 2, 16.5, 9)]
    chips = [_chip(boxes, value=0, class_id=0), *[_chip([], value=2, class_id=1)] * 3]
    made = mosaic(chips, (16, 16), least_visible=0.5, least_side_px=3)
    assert made.boxes.tolist() == [[2, 2, 12, 12], [9, 2, 16, 12]]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_boxes_keep_to_their_quadrants(seed: int, least_visible: float) -> None:
    random = np.random.default_rng(seed)
    x, y = corner = corner_of(SIDE, random)
    assert SIDE / 4 <= min(corner) <= max(corner) <= 3 * SIDE / 4
    chips = []
    for number in range(4):
        low = random.uniform(0, SIDE - 1, (6, 2))
        boxes = np.hstack([low, np.minimum(low + random.uniform(1, 20, (6, 2)), SIDE)])
        chips.append(_chip(boxes, value=number, class_id=number))
    made = mosaic(chips, corner, least_visible=least_visible, least_side_px=0)
    middles = (made.boxes[:, :2] + made.boxes[:, 2:]) / 2
    quadrants = (middles[:, 0] > x) + 2 * (middles[:, 1] > y)
    np.testing.assert_array_equal(quadrants, made.class_ids)
    inside = [
        ((chip.boxes[:, ::2] <= x).all(axis=1) if number % 2 == 0
         else (chip.boxes[:, ::2] >= x).all(axis=1))
        & ((chip.boxes[:, 1::2] <= y).all(axis=1) if number < 2
           else (chip.boxes[:, 1::2] >= y).all(axis=1))
        for number, chip in enumerate(chips)
    ]  # fmt: skip
    whole = [box for chip, rows in zip(chips, inside, strict=True) for box in chip.boxes[rows]]
    assert all((made.boxes == box).all(axis=1).any() for box in whole)


def test_training_chips_are_made_of_four(tmp_path: Path, make_card: Any) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 90, 100)).astype(np.uint8)
    path = tmp_path / "p.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100, height=90, count=3, dtype="uint8", crs="EPSG:32633",
        transform=rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000),
    ) as raster:  # fmt: skip
        raster.write(values)
    raster = TrainingRaster(
        path=str(path), reading=Reading(), width=100, height=90,
        boxes=np.array([[10.0, 10, 60, 60]]), class_ids=np.zeros(1, np.int64),
        ignored=np.zeros(1, bool), area=None, weight=1.0,
    )  # fmt: skip
    plain, half, always = (
        RandomChips([raster], card=make_card(), augment=AugmentSettings(crop_px=32, mosaic=share),
                    seed=3)
        for share in (0, 0.5, 1)
    )  # fmt: skip
    assert [len(always[number].origin.split("; ")) for number in range(5)] == [4] * 5
    made = [len(half[number].origin.split("; ")) == 4 for number in range(60)]
    assert sum(made) == pytest.approx(30, abs=12)
    kept = made.index(False)  # a chip that is no mosaic is the chip that it was
    assert bool((half[kept].pixels == plain[kept].pixels).all())
