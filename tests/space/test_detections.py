import numpy as np
import pytest

from geo_retina.space.detections import Detections


@pytest.fixture
def three() -> Detections:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    return Detections.of(boxes, np.array([0.9, 0.5, 0.7]), np.array([0, 1, 0]), window_id=4)


def test_of_takes_any_number_type(three: Detections) -> None:
    assert three.boxes.dtype == np.float64
    assert three.scores.dtype == np.float32
    assert three.class_ids.dtype == np.int64
    assert three.window_ids.tolist() == [4, 4, 4]


def test_empty_is_a_value() -> None:
    empty = Detections.empty()
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert len(empty.shift(x=1, y=1).scale(x=2, y=2).select(np.zeros(0, np.int64))) == 0
    assert len(Detections.concat([])) == 0


def test_shown_in_one_line(three: Detections) -> None:
    assert repr(three) == "<Detections: 3 boxes, scores 0.50 to 0.90>"
    assert repr(Detections.empty()) == "<Detections: none>"


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected boxes \(N, 4\)"):
        Detections.of(np.zeros((2, 4)), np.zeros(1), np.zeros(2))


def test_select_by_mask_and_by_position_agree(three: Detections) -> None:
    by_mask = three.select(np.array([True, False, True]))
    by_position = three.select(np.array([0, 2]))
    assert by_mask.scores.tolist() == by_position.scores.tolist()
    assert np.array_equal(by_mask.boxes, three.boxes[[0, 2]])


def test_select_then_concat_gives_the_whole(three: Detections) -> None:
    parts = [three.select(np.array([i])) for i in range(3)]
    whole = Detections.concat(parts)
    assert np.array_equal(whole.boxes, three.boxes)
    assert np.array_equal(whole.class_ids, three.class_ids)
    assert np.array_equal(whole.window_ids, three.window_ids)


def test_shift_and_scale_leave_the_rest_alone(three: Detections) -> None:
    moved = three.shift(x=10, y=20).scale(x=2, y=3)
    assert moved.boxes[0].tolist() == [20, 63, 24, 69]
    assert moved.scores is three.scores
    assert three.boxes[0].tolist() == [0, 1, 2, 3]


def test_of_window_names_the_window_anew(three: Detections) -> None:
    assert three.of_window(7).window_ids.tolist() == [7, 7, 7]
