from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geo_retina.labels.cleaning import Changes, clean_labels, look_like_sizes
from geo_retina.labels.labels import Labels

WIDTH, HEIGHT = 100, 80


def cleaned(boxes: list[list[float]], class_ids: list[int] | None = None) -> tuple[object, Changes]:
    labels = Labels.of(boxes, class_ids or [0] * len(boxes), ["a", "b"])
    result = clean_labels(labels, width=WIDTH, height=HEIGHT)
    return result.labels.boxes.tolist(), result.changes


def test_good_labels_are_untouched() -> None:
    boxes, changes = cleaned([[0, 0, 10, 10], [90, 70, 100, 80]])
    assert boxes == [[0, 0, 10, 10], [90, 70, 100, 80]]
    assert not changes


def test_each_fault_is_mended_or_left_out_and_counted() -> None:
    boxes, changes = cleaned(
        [
            [10, 10, 0, 0],  # swapped
            [95, 20, 105, 30],  # over the edge
            [200, 20, 210, 30],  # outside
            [99.5, 40, 120, 60],  # 2 % visible
            [50, 50, 50, 60],  # no area
            [np.nan, 0, 1, 1],
            [95, 20, 105, 30],  # again
        ]
    )
    assert boxes == [[0, 0, 10, 10], [95, 20, 100, 30]]
    assert changes == Changes(
        swapped=1, clipped=1, not_finite=1, outside=2, too_small=1, duplicates=1
    )


def test_a_side_of_one_pixel_is_enough() -> None:
    boxes, changes = cleaned([[10, 10, 11, 11], [20, 20, 20.9, 30]])
    assert boxes == [[10, 10, 11, 11]]
    assert str(changes) == "1 too small"


def test_what_was_done_is_told_in_words() -> None:
    assert str(Changes(swapped=3, duplicates=1)) == "3 swapped, 1 duplicate"
    assert str(Changes(not_finite=1200, duplicates=2)) == "1,200 not finite, 2 duplicates"
    assert str(Changes()) == ""


def test_same_place_of_another_class_is_no_duplicate() -> None:
    boxes, changes = cleaned([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 1])
    assert len(boxes) == 2  # type: ignore[arg-type]
    assert changes.duplicates == 0


@given(arrays(np.float64, st.tuples(st.integers(0, 8), st.just(4)), elements=st.floats(-30, 130)))
def test_clean_labels_lie_inside_and_cleaning_again_changes_nothing(boxes: np.ndarray) -> None:
    labels = Labels.of(boxes, np.zeros(len(boxes)), ["a"])
    once = clean_labels(labels, width=WIDTH, height=HEIGHT)
    kept = once.labels.boxes
    assert ((kept[:, 2:] - kept[:, :2]) >= 1).all()
    assert (kept >= 0).all()
    assert (kept <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    dropped = once.changes
    lost = dropped.not_finite + dropped.outside + dropped.too_small + dropped.duplicates
    assert len(kept) + lost == len(boxes)
    assert not clean_labels(once.labels, width=WIDTH, height=HEIGHT).changes


def test_a_double_of_a_double_is_judged_by_what_stays() -> None:
    boxes, changes = cleaned([[0, 0, 100, 10], [6, 0, 100, 10], [12, 0, 100, 10]])
    assert boxes == [[0, 0, 100, 10], [12, 0, 100, 10]], "the third overlaps only the one that went"
    assert changes.duplicates == 1


def test_of_two_in_one_place_the_one_that_counts_stays() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    for ignored in ([True, False], [False, True]):
        labels = replace(Labels.of(boxes, [0, 0], ["a"]), ignored=np.array(ignored))
        (counted,) = clean_labels(labels, width=WIDTH, height=HEIGHT).labels.counted
        assert counted


@pytest.mark.parametrize("extent", [100.0, 1000.0])
def test_widths_and_heights_are_told_from_corners(extent: float) -> None:
    random = np.random.default_rng(3)
    starts = random.uniform(0, extent - 20, (60, 2))
    sizes = random.uniform(5, 20, (60, 2))
    extents = np.full((60, 2), extent)
    corners = np.concatenate([starts, starts + sizes], axis=1)
    assert look_like_sizes(np.concatenate([starts, sizes], axis=1), extents)
    late = starts[(2 * starts > extents + 3).any(axis=1)]
    for beyond, told in ((1, True), (3, False)):  # a width may be rounded up
        to_the_edge = np.concatenate([late, extent - late + beyond], axis=1)
        assert look_like_sizes(to_the_edge, extents[: len(late)]) == told
    assert not look_like_sizes(corners, extents)
    assert not look_like_sizes(corners[:, [2, 3, 0, 1]], extents), "corners that are only swapped"
    assert not look_like_sizes(corners[:, [0, 3, 2, 1]], extents), "y that runs up"
    assert not look_like_sizes(np.zeros((0, 4)), np.zeros((0, 2)))
