from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from torch.utils.data import DataLoader

from geo_retina.training.dataset import EpochSampler, RandomChips, collate
from geo_retina.training.draw import SquareDraw
from geo_retina.training.pixels import PixelReader, Square
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.settings import AugmentSettings
from geo_retina.training.sources import Reading


def raster_of(path: object = "x.tif", boxes: Any = (), **changes: Any) -> TrainingRaster:
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    values: dict[str, Any] = {
        "path": str(path), "reading": Reading(), "width": 100, "height": 80, "boxes": found,
        "class_ids": np.zeros(len(found), np.int64), "ignored": np.zeros(len(found), bool),
        "area": None, "weight": 1.0,
    }  # fmt: skip
    return TrainingRaster(**(values | changes))


def _fractions(rasters: list[TrainingRaster], **options: Any) -> dict[str, float]:
    draw = SquareDraw(rasters, AugmentSettings(crop_px=32, **options))
    random = np.random.default_rng(0)
    paths = [draw.draw(random)[0].path for _ in range(600)]
    return {item.path: paths.count(item.path) / 600 for item in rasters}


def test_rasters_are_drawn_by_size_and_weight() -> None:
    rasters = [
        raster_of("small"),
        raster_of("large", width=200, height=160),
        raster_of("heavy", weight=3.0),
    ]
    found = _fractions(rasters, around_objects=0)
    assert found["small"] == pytest.approx(1 / 8, abs=0.05)
    assert found["large"] == pytest.approx(4 / 8, abs=0.07)
    assert found["heavy"] == pytest.approx(3 / 8, abs=0.07)


def test_objects_are_drawn_one_by_one() -> None:
    many, few = [(10, 10, 20, 20)] * 3, [(10, 10, 20, 20)]
    rasters = [raster_of("many", many), raster_of("few", few), raster_of("none")]
    found = _fractions(rasters, around_objects=1)
    assert found["many"] == pytest.approx(3 / 4, abs=0.07)
    assert found["none"] == 0


def test_squares_lie_on_the_raster_or_around_it(random: np.random.Generator) -> None:
    draw = SquareDraw([raster_of()], AugmentSettings(crop_px=64, zoom=(0.5, 2), around_objects=0))
    sides = set()
    for _ in range(300):
        _, square = draw.draw(random)
        sides.add(square.side)
        for offset, length in ((square.col_off, 100), (square.row_off, 80)):
            low, high = sorted((0, length - square.side))
            assert low <= offset <= high
    assert min(sides) < 40
    assert max(sides) > 120


def test_squares_around_an_object_show_it(random: np.random.Generator) -> None:
    raster = raster_of(boxes=[(70, 60, 80, 66), (0, 0, 9, 9)], ignored=np.array([False, True]))
    draw = SquareDraw([raster], AugmentSettings(crop_px=32, zoom=(1, 1), around_objects=1))
    places = set()
    for _ in range(200):
        _, square = draw.draw(random)
        places.add((75 - square.col_off, 63 - square.row_off))
        assert 0 <= 75 - square.col_off <= 32
        assert 0 <= 63 - square.row_off <= 32
    assert len(places) > 100, "the object must not always stand in the middle"


def test_squares_of_an_area_lie_on_it(random: np.random.Generator) -> None:
    area = shapely.union_all([shapely.box(0, 0, 10, 10), shapely.box(80, 60, 100, 80)])
    draw = SquareDraw([raster_of(area=area)], AugmentSettings(crop_px=32, around_objects=0))
    for _ in range(100):
        _, square = draw.draw(random)
        shown = shapely.box(
            square.col_off, square.row_off, square.col_off + square.side,
            square.row_off + square.side,
        )  # fmt: skip
        assert shapely.intersection(shown, area).area > 0


@pytest.fixture
def picture(write_raster: Callable[..., Path], noise: Callable[..., Any]) -> tuple[Path, Any]:
    pixels = noise(3, 80, 100)
    return write_raster("p.tif", pixels), pixels


@pytest.mark.parametrize("cache_bytes", [2**30, 0], ids=["whole", "by window"])
def test_reading_a_square(
    cache_bytes: int, picture: tuple[Path, Any], make_card: Callable[..., Any]
) -> None:
    path, pixels = picture
    reader = PixelReader(make_card(), cache_bytes=cache_bytes)
    for square in (Square(10, 20, 30), Square(-8, 70, 30), Square(200, 0, 30)):
        found, valid = reader.read(raster_of(path), square)
        padded = np.pad(pixels, ((0, 0), (300, 300), (300, 300)))
        inside = np.pad(np.ones((80, 100), bool), 300)
        rows = slice(300 + square.row_off, 330 + square.row_off)
        cols = slice(300 + square.col_off, 330 + square.col_off)
        np.testing.assert_array_equal(valid, inside[rows, cols])
        np.testing.assert_array_equal(found[:, valid], padded[:, rows, cols][:, valid])
        assert (found[:, ~valid].T == [102, 128, 76]).all()
    reader.close()


def test_the_cache_is_bounded(
    write_raster: Callable[..., Path], noise: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    size = 80 * 100 * 4
    reader = PixelReader(make_card(), cache_bytes=16 * size)
    paths = [write_raster(f"{number}.tif", noise(3, 80, 100)) for number in range(20)]
    for path in paths:
        reader.read(raster_of(path), Square(0, 0, 32))
    assert len(reader._images) == 16
    assert reader._held_bytes == 16 * size
    assert paths[0].as_posix() not in {key[0] for key in reader._images}


def test_unlabelled_ground_and_ignored_objects_are_painted_over(
    picture: tuple[Path, Any], make_card: Callable[..., Any]
) -> None:
    raster = raster_of(
        picture[0],
        [(10, 10, 20, 20), (18, 10, 30, 20)],
        ignored=np.array([True, False]),
        area=shapely.box(0, 0, 50, 80),
    )
    pixels, valid = PixelReader(make_card()).read(raster, Square(0, 0, 80))
    expected = np.zeros((80, 80), bool)
    expected[:, :50] = True
    expected[10:20, 10:18] = False  # the other object stays whole
    np.testing.assert_array_equal(valid, expected)
    assert (pixels[:, 15, 12] == [102, 128, 76]).all()


def test_epochs_never_share_a_chip_and_processes_share_an_epoch() -> None:
    sampler = EpochSampler(7)
    numbers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)
        numbers += list(sampler)
    assert numbers == list(range(21))
    parts = [EpochSampler(7, process=process, processes=3) for process in range(3)]
    for part in parts:
        part.set_epoch(1)
        assert len(list(part)) == len(part)
    assert sorted(number for part in parts for number in part) == list(range(7, 14))


def test_a_chip_depends_on_its_number_alone(
    picture: tuple[Path, Any], make_card: Callable[..., Any]
) -> None:
    raster = raster_of(picture[0], [(10, 10, 30, 30), (60, 40, 70, 50)])
    chips, others = (
        RandomChips([raster], card=make_card(), augment=AugmentSettings(crop_px=64), seed=seed)
        for seed in (0, 1)
    )
    forwards = [chips[number] for number in range(4)]
    backwards = [chips[number] for number in reversed(range(4))][::-1]
    for one, two in zip(forwards, backwards, strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.targets.boxes, two.targets.boxes)
    assert not torch.equal(forwards[0].pixels, others[0].pixels)


def test_empty_chips_make_a_batch(picture: tuple[Path, Any], make_card: Callable[..., Any]) -> None:
    options = AugmentSettings(crop_px=64, around_objects=0)
    raster = raster_of(picture[0], [(0, 0, 1, 1)])
    chips = RandomChips([raster], card=make_card(), augment=options, seed=0)
    loader = DataLoader(chips, batch_size=3, sampler=EpochSampler(3), collate_fn=collate)
    (batch,) = loader
    assert batch.pixels.shape == (3, 3, 64, 64)
    assert [tuple(item.boxes.shape) for item in batch.targets] == [(0, 4)] * 3
    assert "p.tif at" in batch.to("cpu").origins[0]


def test_ignored_objects_are_no_targets(
    picture: tuple[Path, Any], make_card: Callable[..., Any]
) -> None:
    boxes = [(10, 10, 70, 70), (30, 30, 60, 60)]
    raster = raster_of(picture[0], boxes, ignored=np.array([False, True]))
    whole = AugmentSettings(crop_px=128, zoom=(1, 1), symmetries="none")
    chips = RandomChips([raster], card=make_card(), augment=whole, seed=0)
    assert [len(chips[n].targets.boxes) for n in range(4)] == [1] * 4


def test_weights_hold_for_objects_too() -> None:
    one = [(10, 10, 20, 20)]
    rasters = [raster_of("plain", one), raster_of("heavy", one, weight=3.0)]
    found = _fractions(rasters, around_objects=1)
    assert found["heavy"] == pytest.approx(3 / 4, abs=0.07)


def test_parts_of_an_area_are_drawn_by_their_size(random: np.random.Generator) -> None:
    area = shapely.union_all([shapely.box(0, 0, 10, 10), shapely.box(400, 400, 1000, 1000)])
    raster = raster_of(area=area, width=1000, height=1000)
    draw = SquareDraw([raster], AugmentSettings(crop_px=32, zoom=(1, 1), around_objects=0))
    small = sum(draw.draw(random)[1].col_off < 200 for _ in range(400))
    assert small < 40
