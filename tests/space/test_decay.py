import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.space import decay
from geo_retina.space.decay import decayed_scores
from geo_retina.space.detections import Detections
from geo_retina.space.merging import SoftNms


def crowd(seed: int, count: int, *, classes: int = 1) -> tuple[NDArray, NDArray, NDArray]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(2, 25, (count, 2))], axis=1)
    scores = random.choice([0.9, 0.5, 0.2, 0.05], count).astype(np.float32)
    return boxes, scores, random.integers(0, classes, count)


def test_one_score_falls_by_the_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 50, 50]], float)
    scores = decayed_scores(boxes, np.array([0.6, 0.9, 0.3]), threshold=0.1)
    np.testing.assert_allclose(scores, [0.6 * (1 - 1 / 3), 0.9, 0.3])


def test_overlap_up_to_the_threshold_changes_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], float)
    scores = decayed_scores(boxes, np.array([0.6, 0.9]), threshold=1 / 3)
    assert scores.tolist() == [0.6, 0.9]


def test_a_box_that_has_fallen_acts_after_those_it_fell_under() -> None:
    """The second falls under the third, which is then the one that lowers the last."""
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [13, 0, 23, 10], [5, 0, 15, 10]], float)
    start = np.array([0.9, 0.8, 0.5, 0.3])
    scores = decayed_scores(boxes, start, threshold=0.0)
    second = 0.8 * (1 - 6 / 14)
    third = 0.5 if second < 0.5 else 0.5 * (1 - 1 / 19)
    assert scores[1] == pytest.approx(second * (1 - 1 / 19 if second < 0.5 else 1))
    assert scores[2] == pytest.approx(third)
    assert third == 0.5, "it comes second, before the box that was second"
    last = 0.3 * (1 - 5 / 15) * (1 - 2 / 18) * (1 - 9 / 11)
    assert scores[3] == pytest.approx(last)


def test_classes_leave_each_other_alone() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], float)
    apart = decayed_scores(
        boxes, np.array([0.6, 0.9]), threshold=0.1, class_ids=np.array([0, 1], np.int64)
    )
    assert apart.tolist() == [0.6, 0.9]


def test_nothing_stays_nothing() -> None:
    assert decayed_scores(np.zeros((0, 4)), np.zeros(0), threshold=0.1).shape == (0,)


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        decayed_scores(np.zeros((1, 4)), np.array([np.nan]), threshold=0.1)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.4]))
def test_agrees_with_soft_nms(seed: int, count: int, threshold: float) -> None:
    boxes, scores, class_ids = crowd(seed, count, classes=2)
    found = Detections.of(boxes, scores, class_ids)
    settled = SoftNms(threshold=threshold, score_floor=0).settle(found)
    lowered = decayed_scores(boxes, scores, threshold=threshold, class_ids=class_ids)
    np.testing.assert_allclose(lowered[settled.sources], settled.final.scores, rtol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0.01, 0.9))
def test_low_scores_may_go_first_or_last(seed: int, count: int, least: float) -> None:
    boxes, scores, _ = crowd(seed, count)
    last = decayed_scores(boxes, scores, threshold=0.1)
    first = scores >= least
    early = decayed_scores(boxes[first], scores[first], threshold=0.1)
    assert early[early >= least].tolist() == last[last >= least].tolist()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 3))
def test_rounds_and_one_by_one_come_to_the_same(seed: int, count: int, rounds: int) -> None:
    boxes, scores, class_ids = crowd(seed, count, classes=2)
    found = []
    for most in (rounds, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decay, "_MOST_ROUNDS", most)
            found.append(decayed_scores(boxes, scores, threshold=0.05, class_ids=class_ids))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_boxes_on_one_spot_take_no_round_each() -> None:
    boxes = np.array([50, 50, 90, 80]) + np.random.default_rng(0).normal(0, 1, (600, 4))
    start = time.process_time()
    lowered = decayed_scores(boxes, np.linspace(1, 0.5, 600), threshold=0.1)
    assert time.process_time() - start < 5
    assert (lowered[:1] == 1).all()
    assert (lowered[1:] < 0.5).all()
