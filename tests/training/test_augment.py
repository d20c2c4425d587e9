from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo_retina.imagery.radiometry import Radiometry
from geo_retina.training.augment import Augmenter, CutSquare
from geo_retina.training.settings import AugmentSettings

PLAIN = {
    "crop_px": 64, "zoom": (1, 1), "brightness": 0, "contrast": 0, "hue": 0, "saturation": 0,
    "coarser": 0, "haze": 0, "blur": 0, "least_side_px": 1,
}  # fmt: skip
ANYTHING = {
    "crop_px": 64, "brightness": 0.2, "contrast": 0.2, "coarser": 1, "haze": 1, "blur": 1,
}  # fmt: skip
BANDS = ("red", "green", "blue", "nir", "swir", "pan")


def _card(make_card: Callable[..., Any], bands: int, **changes: Any) -> Any:
    return make_card(bands=BANDS[:bands], mean=(0.5,) * bands, std=(0.2,) * bands, **changes)


def _square(card: Any, side: int, boxes: Any, *, value: float = 100) -> CutSquare:
    """Objects are bright (200) on a ground of `value`, which must be darker."""
    pixels = np.full((len(card.bands), side, side), value, card.dtype)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    for x_min, y_min, x_max, y_max in boxes.clip(0, side).astype(int).tolist():
        pixels[:, y_min:y_max, x_min:x_max] = 200
    return CutSquare(pixels, np.ones((side, side), bool), boxes, np.arange(len(boxes)) % 2)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_number_of_bands_and_any_type(
    bands: int, dtype: str, make_card: Callable[..., Any]
) -> None:
    card = _card(make_card, bands, dtype=dtype)
    change = Augmenter(AugmentSettings(**ANYTHING), card)
    chip = change(_square(card, 90, [(10, 10, 40, 30)]), seed=1)
    assert chip.pixels.shape == (bands, 64, 64)
    assert chip.pixels.dtype == np.dtype(dtype)
    assert len(np.unique(chip.pixels)) > 2


@given(
    corner=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    size=st.tuples(st.integers(4, 14), st.integers(4, 14)),
    side=st.sampled_from([64, 128]),
    seed=st.integers(0, 2**31 - 1),
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_boxes_stay_on_their_objects(
    corner: tuple[int, int],
    size: tuple[int, int],
    side: int,
    seed: int,
    make_card: Callable[..., Any],
) -> None:
    scale = side // 64
    box = np.array([*corner, corner[0] + size[0], corner[1] + size[1]]) * scale
    card = make_card()
    chip = Augmenter(AugmentSettings(**PLAIN), card)(_square(card, side, box), seed=seed)
    rows, cols = np.nonzero(chip.pixels[0] == 200)
    drawn = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(chip.boxes, [drawn], atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("symmetries", "views"), [("all", 8), ("mirror", 2), ("none", 1)])
def test_the_symmetries_that_are_asked_for_occur(
    symmetries: str, views: int, make_card: Callable[..., Any]
) -> None:
    card = make_card()
    change = Augmenter(AugmentSettings(**PLAIN, symmetries=symmetries), card)
    square = _square(card, 64, [(3, 10, 9, 40)])
    seen = {tuple(change(square, seed=seed).boxes[0].round()) for seed in range(80)}
    assert len(seen) == views
    assert (55, 10, 61, 40) in seen or symmetries == "none"
    assert symmetries == "all" or {box[1] for box in seen} == {10}, "up stays up"


def test_the_seed_alone_decides(make_card: Callable[..., Any]) -> None:
    card = make_card()
    change = Augmenter(AugmentSettings(**ANYTHING), card)
    square = _square(card, 80, [(10, 10, 40, 30)])
    first = change(square, seed=7)
    other = change(square, seed=8)
    again = change(square, seed=7)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_changes_are_drawn_independently(make_card: Callable[..., Any]) -> None:
    """Blur and haze at a probability of a half each come together a quarter of the time."""
    card = make_card(coarsest_gsd_m=0.1)
    options = PLAIN | {"haze": 0.5, "blur": 0.5}
    change = Augmenter(AugmentSettings(**options), card)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 100
    pixels = np.broadcast_to(checks, (3, 64, 64)).astype(np.uint8)
    square = CutSquare(pixels, np.ones((64, 64), bool), np.zeros((0, 4)), np.zeros(0, np.int64))
    found = []
    for seed in range(200):
        chip = change(square, seed=seed).pixels[0].astype(int)
        contrast = abs(np.diff(chip[20:40, 20:40], axis=1)).mean()
        found.append((chip.mean() > 55, contrast < 50))
    hazy, blurred = np.array(found).T
    assert 70 < hazy.sum() < 130
    assert 70 < blurred.sum() < 130
    assert 25 < (hazy & blurred).sum() < 80


def test_invalid_pixels_are_neutral_as_in_detection(make_card: Callable[..., Any]) -> None:
    card = make_card()
    square = _square(card, 64, [])
    square.valid[:, :20] = False
    chip = Augmenter(AugmentSettings(**ANYTHING), card)(square, seed=3)
    fill = np.array(Radiometry.of(card, None).fill)
    assert (~chip.valid).sum() == pytest.approx(64 * 20, rel=0.1)
    np.testing.assert_array_equal(
        chip.pixels[:, ~chip.valid], np.tile(fill[:, None], (~chip.valid).sum())
    )


def test_values_beyond_the_range_are_not_cut_off(make_card: Callable[..., Any]) -> None:
    card = make_card(dtype="uint16", value_range=(0, 1000))
    square = _square(card, 64, [], value=3000)
    chip = Augmenter(AugmentSettings(**PLAIN | {"blur": 1, "coarser": 1}), card)(square, seed=3)
    assert set(np.unique(chip.pixels)) == {3000}


def test_a_value_range_may_begin_anywhere(make_card: Callable[..., Any]) -> None:
    card = make_card(dtype="int16", value_range=(-1000, 3000))
    chip = Augmenter(AugmentSettings(**PLAIN), card)(_square(card, 64, [(9, 9, 20, 20)]), seed=3)
    assert set(np.unique(chip.pixels)) == {100, 200}


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_colours_change_where_the_bands_are_a_photographs(
    name: str, make_card: Callable[..., Any]
) -> None:
    rows = np.arange(64 * 64).reshape(64, 64) % 97
    pixels = np.stack([rows + 120, rows + 60, rows]).astype(np.uint8)
    square = CutSquare(pixels, np.ones((64, 64), bool), np.zeros((0, 4)), np.zeros(0, np.int64))
    options = AugmentSettings(**PLAIN | {name: 0.3, "symmetries": "none"})
    for bands, changes in ((("red", "green", "blue"), True), (("nir", "red", "green"), False)):
        change = Augmenter(options, make_card(bands=bands))
        chips = [change(square, seed=seed).pixels for seed in range(10)]
        assert any(not np.array_equal(chip, pixels) for chip in chips) == changes


def test_objects_that_show_too_little_are_no_labels(make_card: Callable[..., Any]) -> None:
    card = make_card()
    change = Augmenter(AugmentSettings(**PLAIN | {"least_visible": 0.3}), card)
    boxes = [(-8, 0, 2, 10), (-5, 20, 5, 30), (60, 60, 64, 64), (30, 30, 40, 40)]
    square = _square(card, 64, boxes)
    square.valid[25:42, 28:38] = False  # most of the last one
    chip = change(square, seed=0)
    sizes = sorted(np.prod(chip.boxes[:, 2:] - chip.boxes[:, :2], axis=1).round().tolist())
    assert sizes == [16, 50]
    tiny = Augmenter(AugmentSettings(**PLAIN | {"least_side_px": 5}), card)(square, seed=0)
    assert len(tiny.boxes) == 1


def test_what_an_edge_leaves_of_a_box_may_be_nothing_worth(make_card: Callable[..., Any]) -> None:
    card = make_card()
    change = Augmenter(AugmentSettings(**PLAIN | {"least_visible": 0}), card)
    chip = change(_square(card, 64, [(64 - 1e-6, 10, 80, 30), (10, 10, 20, 20)]), seed=0)
    assert len(chip.boxes) == 1


def test_coarser_chips_lose_detail(make_card: Callable[..., Any]) -> None:
    card = make_card(coarsest_gsd_m=0.4)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    pixels = np.broadcast_to(checks, (3, 64, 64)).astype(np.uint8)
    square = CutSquare(pixels, np.ones((64, 64), bool), np.zeros((0, 4)), np.zeros(0, np.int64))
    sharp = Augmenter(AugmentSettings(**PLAIN), card)(square, seed=3).pixels.std()
    coarse = Augmenter(AugmentSettings(**PLAIN | {"coarser": 1}), card)(square, seed=3).pixels.std()
    assert coarse < 0.7 * sharp
