import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.detection.chip_size import LARGEST_GROWTH, fitting_chip_px
from geo_retina.model.settings import CHIP_MULTIPLE_PX
from geo_retina.space.windows import WindowPlan


def _chip_px(width: int, height: int) -> int:
    return fitting_chip_px(width, height, model_chip_px=512, overlap_px=128)


def _computed(plan: WindowPlan) -> int:
    window = plan.window(0)
    padded = [-(-side // CHIP_MULTIPLE_PX) * CHIP_MULTIPLE_PX for side in window.box[2:]]
    return len(plan) * padded[0] * padded[1]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (400, 400, 512),  # one window, which is no larger than the raster
        (700, 700, 704),  # one window instead of four
        (4000, 4000, 1440),  # three windows along each side, as with 1,536, but smaller ones
        (100_000, 90_000, 1536),
    ],
)
def test_the_chip_fits_the_raster(width: int, height: int, expected: int) -> None:
    assert _chip_px(width, height) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_no_other_chip_is_less_work(width: int, height: int) -> None:
    chosen = _chip_px(width, height)
    assert 512 <= chosen <= LARGEST_GROWTH * 512
    least = _computed(WindowPlan(width, height, chosen, 128))
    assert all(
        _computed(WindowPlan(width, height, other, 128)) >= least
        for other in range(512, LARGEST_GROWTH * 512 + 1, CHIP_MULTIPLE_PX)
    )


def test_a_large_raster_is_computed_far_less_than_twice() -> None:
    plan = WindowPlan(30_000, 30_000, _chip_px(30_000, 30_000), 128)
    assert _computed(plan) < 1.25 * 30_000**2
    assert _computed(WindowPlan(30_000, 30_000, 512, 128)) > 1.75 * 30_000**2


def test_a_model_of_any_chip_keeps_it_where_nothing_is_gained() -> None:
    assert fitting_chip_px(50, 60, model_chip_px=96, overlap_px=16) == 96
    assert fitting_chip_px(250, 60, model_chip_px=160, overlap_px=16) in (160, 256)


@pytest.mark.parametrize(("model_chip_px", "largest"), [(400, 1200), (640, 1536), (1024, 2048)])
def test_a_large_chip_grows_less(model_chip_px: int, largest: int) -> None:
    chosen = fitting_chip_px(200_000, 200_000, model_chip_px=model_chip_px, overlap_px=128)
    assert 0.97 * largest < chosen <= largest
