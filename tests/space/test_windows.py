import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.space.windows import Window, WindowPlan

Box = NDArray[np.float64]


@st.composite
def plans(draw: st.DrawFn, max_size: int = 60) -> WindowPlan:
    chip = draw(st.integers(1, 20))
    return WindowPlan(
        width=draw(st.integers(1, max_size)),
        height=draw(st.integers(1, max_size)),
        chip_px=chip,
        overlap_px=draw(st.integers(0, chip - 1)),
    )


def windows_of(plan: WindowPlan) -> list[Window]:
    return [window for strip in plan.strips() for window in strip.windows]


def seen_part(box: Box, window: Window) -> Box | None:
    """What a window sees of a box, or None."""
    low, high = np.maximum(box[:2], window.box[:2]), np.minimum(box[2:], window.box[2:])
    return None if (low >= high).any() else np.concatenate([low, high])


@given(plans())
def test_windows_cover_every_pixel_and_none_lies_outside(plan: WindowPlan) -> None:
    seen = np.zeros((plan.height, plan.width), dtype=np.int64)
    for window in windows_of(plan):
        assert window.col_off >= 0
        assert window.row_off >= 0
        assert window.col_end <= plan.width
        assert window.row_end <= plan.height
        seen[window.row_off : window.row_end, window.col_off : window.col_end] += 1
    assert (seen > 0).all()


@given(plans())
def test_own_parts_of_windows_tile_the_raster(plan: WindowPlan) -> None:
    times = np.zeros((plan.height, plan.width), np.int64)
    for number in range(len(plan)):
        part, window = plan.own_part(number), plan.window(number)
        assert part.col_off == window.col_off
        assert part.row_off == window.row_off
        assert part.col_end <= window.col_end
        assert part.row_end <= window.row_end
        times[part.row_off : part.row_end, part.col_off : part.col_end] += 1
    assert (times == 1).all()


@given(plans())
def test_all_windows_have_one_size_and_neighbours_overlap_enough(plan: WindowPlan) -> None:
    size = min(plan.chip_px, plan.width), min(plan.chip_px, plan.height)
    assert {(window.width, window.height) for window in windows_of(plan)} == {size}
    for offsets, length in ((plan.col_offs, size[0]), (plan.row_offs, size[1])):
        steps = np.diff(offsets)
        assert (steps > 0).all()
        assert (length - steps >= plan.overlap_px).all()


@given(plans())
def test_ids_number_the_windows_row_by_row(plan: WindowPlan) -> None:
    strips = list(plan.strips())
    assert [strip.index for strip in strips] == list(range(len(plan.row_offs)))
    numbered = [
        (strip.first_window_id + i, window)
        for strip in strips
        for i, window in enumerate(strip.windows)
    ]
    assert [number for number, _ in numbered] == list(range(len(plan)))
    assert all(plan.window(number) == window for number, window in numbered)


def test_strips_can_start_further_down() -> None:
    plan = WindowPlan(width=10, height=40, chip_px=10, overlap_px=0)
    assert [strip.index for strip in plan.strips(2)] == [2, 3]


def test_a_raster_smaller_than_the_chip_is_one_window() -> None:
    plan = WindowPlan(width=3, height=5, chip_px=8, overlap_px=4)
    assert windows_of(plan) == [Window(0, 0, 3, 5)]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((0, 5, 4, 1), "at least one pixel"), ((5, 5, 4, 4), "overlap_px"), ((5, 5, 4, -1), "overl")],
)
def test_impossible_plans_are_refused(numbers: tuple[int, int, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WindowPlan(*numbers)
    with pytest.raises(ValueError, match="at least one pixel"):
        Window(0, 0, 0, 4)


@st.composite
def plans_with_an_object(draw: st.DrawFn) -> tuple[WindowPlan, Box]:
    plan = draw(plans())
    x_min, y_min = draw(st.floats(0, plan.width - 0.5)), draw(st.floats(0, plan.height - 0.5))
    width = draw(st.floats(0.25, plan.width))
    height = draw(st.floats(0.25, plan.height))
    x_max, y_max = min(x_min + width, plan.width), min(y_min + height, plan.height)
    return plan, np.array([x_min, y_min, x_max, y_max])


@given(plans_with_an_object(), st.floats(0, 6))
def test_of_the_windows_that_see_an_object_one_does_not_mark_it(
    plan_and_box: tuple[WindowPlan, Box], margin: float
) -> None:
    plan, box = plan_and_box
    parts = [(window, seen_part(box, window)) for window in windows_of(plan)]
    assert any(
        not plan.cut_and_seen_whole_by_neighbour(part[None], window, margin_px=margin)[0]
        for window, part in parts
        if part is not None
    )


@st.composite
def plans_with_a_small_object(draw: st.DrawFn) -> tuple[WindowPlan, float, Box]:
    """A plan, a margin, and an object that fits `overlap_px - 2 * margin`."""
    plan = draw(plans().filter(lambda plan: plan.overlap_px > 0))
    margin = draw(st.floats(0, plan.overlap_px * 0.45))
    largest = plan.overlap_px - 2 * margin
    width = draw(st.floats(0.05, min(largest, plan.width)))
    height = draw(st.floats(0.05, min(largest, plan.height)))
    x_min, y_min = draw(st.floats(0, plan.width - width)), draw(st.floats(0, plan.height - height))
    return plan, margin, np.array([x_min, y_min, x_min + width * 0.999, y_min + height * 0.999])


@given(plans_with_a_small_object())
def test_an_object_that_fits_the_overlap_is_whole_and_unmarked_somewhere(
    case: tuple[WindowPlan, float, Box],
) -> None:
    plan, margin, box = case
    assert any(
        np.array_equal(seen_part(box, window), box)
        and not plan.cut_and_seen_whole_by_neighbour(box[None], window, margin_px=margin)[0]
        for window in windows_of(plan)
        if seen_part(box, window) is not None
    )


@given(plans_with_a_small_object())
def test_every_piece_of_an_object_that_fits_the_overlap_is_marked(
    case: tuple[WindowPlan, float, Box],
) -> None:
    plan, margin, box = case
    assume(margin > 0.01)
    for window in windows_of(plan):
        part = seen_part(box, window)
        if part is not None and not np.array_equal(part, box):
            assert plan.cut_and_seen_whole_by_neighbour(part[None], window, margin_px=margin)[0]


@given(plans_with_an_object(), st.floats(0, 4))
def test_a_neighbour_sees_more_of_what_is_marked(
    plan_and_box: tuple[WindowPlan, Box], margin: float
) -> None:
    plan, box = plan_and_box
    columns = len(plan.col_offs)
    for number, window in enumerate(windows_of(plan)):
        part = seen_part(box, window)
        if part is None:
            continue
        sides = plan.cut_sides(part[None], window, margin_px=margin)[0]
        for side, step in zip(range(4), (-1, -columns, 1, columns), strict=True):
            if sides[side]:
                other = seen_part(box, plan.window(number + step))
                assert (other[:2] <= part[:2]).all()
                assert (other[2:] >= part[2:]).all()


def test_which_sides_cut() -> None:
    plan = WindowPlan(width=30, height=30, chip_px=10, overlap_px=5)
    window = plan.window(plan.col_offs.searchsorted(10) + len(plan.col_offs) * 2)
    assert window == Window(10, 10, 10, 10)
    boxes = {
        "left": [10, 14, 13, 16],
        "above": [14, 10.5, 16, 14],
        "right": [17, 14, 19.5, 16],
        "below": [14, 17, 16, 20],
        "whole": [12, 12, 18, 18],
        "longer than the overlap": [10, 14, 15, 16],
        "longer than the overlap, to the right": [15, 14, 20, 16],
        "longer than the overlap, upwards": [14, 10, 16, 15],
        "longer than the overlap, downwards": [14, 15.5, 16, 20],
    }
    sides = plan.cut_sides(np.array(list(boxes.values())), window, margin_px=1)
    assert sides[:4].astype(int).tolist() == np.eye(4, dtype=int).tolist()
    assert not sides[4:].any()


def test_the_edge_of_the_raster_cuts_nothing() -> None:
    plan = WindowPlan(width=20, height=20, chip_px=10, overlap_px=5)
    for col, row in itertools.product((0, 1), (0, 1)):
        window = plan.window(col * 2 + row * 2 * len(plan.col_offs))
        x = 0 if col == 0 else 17
        y = 0 if row == 0 else 17
        box = np.array([[x, y, x + 3, y + 3]], dtype=float)
        assert not plan.cut_and_seen_whole_by_neighbour(box, window, margin_px=2)[0]
