import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geo_retina.space import boxes as box_arrays
from geo_retina.space.pairs import near_pairs, overlapping_pairs, pair_intersection, pair_iou

numbers = st.integers(-20, 20).map(float)
sets_of_boxes = st.integers(0, 10).flatmap(
    lambda count: arrays(np.float64, (count, 4), elements=numbers).map(
        lambda raw: np.concatenate(
            [np.minimum(raw[:, :2], raw[:, 2:]), np.maximum(raw[:, :2], raw[:, 2:])], axis=1
        )
    )
)
sets_of_points = st.integers(0, 10).flatmap(
    lambda count: arrays(np.float64, (count, 2), elements=numbers)
)


@given(sets_of_boxes, sets_of_boxes)
def test_pairs_are_those_of_the_whole_matrix(first: np.ndarray, second: np.ndarray) -> None:
    pairs = overlapping_pairs(first, second)
    shared = box_arrays.intersection(first, second)
    rows, columns = np.nonzero(shared > 0)
    assert pairs.first.tolist() == rows.tolist()
    assert pairs.second.tolist() == columns.tolist()
    np.testing.assert_array_equal(pair_intersection(first, second, pairs), shared[rows, columns])
    overlap = box_arrays.iou(first, second)[rows, columns]
    np.testing.assert_array_equal(pair_iou(first, second, pairs), overlap)


@given(sets_of_points, sets_of_points, st.integers(0, 30))
def test_near_points_are_those_of_the_whole_matrix(
    first: np.ndarray, second: np.ndarray, distance: int
) -> None:
    pairs = near_pairs(first, second, distance=distance)
    gaps = first[:, None] - second[None]
    rows, columns = np.nonzero((gaps**2).sum(axis=2) <= distance**2)
    assert pairs.first.tolist() == rows.tolist()
    assert pairs.second.tolist() == columns.tolist()
