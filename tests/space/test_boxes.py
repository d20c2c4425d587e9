import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays

coordinates = st.floats(-1e4, 1e4, width=32)


def arrays(count: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return hnp.arrays(np.float64, (count, 4), elements=coordinates)


some_boxes = st.integers(0, 8).flatmap(arrays)


def test_area_counts_an_inverted_box_as_empty() -> None:
    boxes = np.array([[0, 0, 2, 3], [2, 0, 0, 3], [1, 1, 1, 5]], dtype=np.float64)
    assert box_arrays.area(boxes).tolist() == [6, 0, 0]


def test_boxes_around_turned_boxes() -> None:
    box = [10.0, 20.0, 110.0, 40.0]
    turned = box_arrays.around_turned(np.array([box] * 5), np.array([0.0, 90, 180, 30, -30]))
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    x, y = (100 * cos + 20 * sin) / 2, (100 * sin + 20 * cos) / 2
    aslant = [60 - x, 30 - y, 60 + x, 30 + y]
    np.testing.assert_allclose(turned, [box, [50, -20, 70, 80], box, aslant, aslant])
    assert box_arrays.around_turned(np.zeros((0, 4)), np.zeros(0)).shape == (0, 4)


def test_clip_shift_scale_centres_of_one_box() -> None:
    boxes = np.array([[-1.0, 2.0, 9.0, 12.0]])
    assert box_arrays.clip(boxes, width=8, height=10).tolist() == [[0, 2, 8, 10]]
    assert box_arrays.shift(boxes, x=1, y=-2).tolist() == [[0, 0, 10, 10]]
    assert box_arrays.scale(boxes, x=2, y=0.5).tolist() == [[-2, 1, 18, 6]]
    assert box_arrays.centres(boxes).tolist() == [[4, 7]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_keep_the_precision_and_leave_their_argument_alone(
    dtype: type[np.floating],
) -> None:
    boxes = np.array([[-1, 2, 9, 12]], dtype=dtype)
    before = boxes.copy()
    results = [
        box_arrays.area(boxes),
        box_arrays.clip(boxes, width=5, height=5),
        box_arrays.shift(boxes, x=1, y=1),
        box_arrays.scale(boxes, x=2, y=2),
        box_arrays.centres(boxes),
        box_arrays.iou(boxes, boxes),
        box_arrays.ios(boxes, boxes),
    ]
    assert {result.dtype for result in results} == {np.dtype(dtype)}
    assert np.array_equal(boxes, before)


def test_iou_and_ios_of_known_boxes() -> None:
    first = np.array([[0.0, 0.0, 4.0, 4.0]])
    second = np.array(
        [[0, 0, 4, 4], [2, 0, 6, 4], [1, 1, 2, 2], [4, 0, 8, 4], [9, 9, 9, 9]], dtype=np.float64
    )
    assert box_arrays.iou(first, second)[0] == pytest.approx([1, 1 / 3, 1 / 16, 0, 0])
    assert box_arrays.ios(first, second)[0] == pytest.approx([1, 1 / 2, 1, 0, 0])


@given(some_boxes, some_boxes)
def test_overlaps_lie_in_0_to_1_are_symmetric_and_ios_is_the_larger(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    iou, ios = box_arrays.iou(first, second), box_arrays.ios(first, second)
    assert iou.shape == ios.shape == (len(first), len(second))
    assert ((iou >= 0) & (iou <= 1 + 1e-12) & (ios >= iou - 1e-12) & (ios <= 1 + 1e-12)).all()
    assert np.array_equal(iou, box_arrays.iou(second, first).T)
    assert np.array_equal(ios, box_arrays.ios(second, first).T)


@given(some_boxes)
def test_a_box_with_area_overlaps_itself_wholly(boxes: NDArray[np.float64]) -> None:
    for measure in box_arrays.MEASURES.values():
        itself = np.diag(measure(boxes, boxes))
        assert np.array_equal(itself, (box_arrays.area(boxes) > 0).astype(float))


def test_the_share_under_a_box_is_that_of_the_pixels_it_touches() -> None:
    random = np.random.default_rng(0)
    mask = random.random((9, 7)) < 0.5
    low = random.uniform(0, 6, (50, 2))
    boxes = np.concatenate([low, np.minimum(low + random.uniform(0, 4, (50, 2)), [7, 9])], axis=1)
    touched = [mask[int(y) : int(np.ceil(b)), int(x) : int(np.ceil(r))] for x, y, r, b in boxes]
    expected = [part.mean() for part in touched]
    np.testing.assert_allclose(box_arrays.share_under(boxes, mask), expected)
    assert box_arrays.share_under(np.array([[2.0, 3, 2, 3]]), mask).tolist() == [0]
