import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.evaluation.calibration import calibration
from geo_retina.evaluation.metrics import (
    PrecisionRecall,
    at_score,
    average_precision,
    best_f1,
    coco_average_precision,
)


def curve(hits: list[bool], labels: int, scores: list[float] | None = None) -> PrecisionRecall:
    falling = np.linspace(0.9, 0.1, len(hits)) if scores is None else np.array(scores)
    return PrecisionRecall(falling, np.cumsum(np.array(hits, np.int64)), labels)


def test_perfect_and_hopeless() -> None:
    assert average_precision(curve([True] * 4, 4)) == pytest.approx(1)
    assert coco_average_precision(curve([True] * 4, 4)) == pytest.approx(1)
    assert average_precision(curve([False] * 4, 4)) == 0
    assert average_precision(curve([], 4)) == coco_average_precision(curve([], 4)) == 0
    assert np.isnan(average_precision(curve([False], 0)))
    assert np.isnan(coco_average_precision(curve([], 0)))


def test_average_precision_by_hand() -> None:
    found = curve([True, False, True, False], 4)  # precision 1, 1/2, 2/3, 1/2
    assert average_precision(found) == pytest.approx((1 + 2 / 3) / 4)
    # Recalls 0..0.25 see precision 1 (26 of them), 0.26..0.5 see 2/3 (25), the rest 0.
    assert coco_average_precision(found) == pytest.approx((26 + 25 * 2 / 3) / 101)


def test_operating_points() -> None:
    found = curve([True, False, True], 4, [0.9, 0.5, 0.5])
    assert at_score(found, 0.95).detections == 0
    assert at_score(found, 0.9).hits == 1
    point = at_score(found, 0.5)
    assert (point.detections, point.hits) == (3, 2)
    assert point.precision == pytest.approx(2 / 3)
    assert point.recall == pytest.approx(1 / 2)
    assert point.f1 == pytest.approx(2 * 2 / 7)


def test_best_f1_keeps_equal_scores_together() -> None:
    # After the first two F1 would be 2/3 + ..., but 0.5 cannot be cut between its two detections.
    found = curve([True, True, False, False, False], 2, [0.9, 0.5, 0.5, 0.5, 0.5])
    best = best_f1(found)
    assert best.score == 0.9
    assert best.f1 == pytest.approx(2 / 3)


def test_cuts_are_the_last_of_equal_scores() -> None:
    assert curve([True] * 5, 5, [0.9, 0.5, 0.5, 0.5, 0.1]).cuts.tolist() == [0, 3, 4]
    assert curve([], 5).cuts.tolist() == []


@pytest.mark.parametrize("hits", [[], [False, False]])
def test_no_score_is_best_where_none_gives_a_hit(hits: list[bool]) -> None:
    best = best_f1(curve(hits, 3))
    assert np.isnan(best.score)
    assert (best.hits, best.f1) == (0, 0.0)
    assert np.isnan(best_f1(curve([], 0)).f1)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 10))
def test_averages_lie_between_bounds(hits: list[bool], missed: int) -> None:
    labels = sum(hits) + missed
    found = curve(hits, labels)
    if labels:
        assert 0 <= average_precision(found) <= sum(hits) / labels + 1e-12
        assert 0 <= coco_average_precision(found) <= 1
        if labels > 20:
            assert abs(average_precision(found) - coco_average_precision(found)) < 0.02 + 1 / labels
    best = best_f1(found)
    if labels and hits:
        every = [at_score(found, score).f1 for score in found.scores]
        assert best.f1 == pytest.approx(max(every))


def test_calibration_by_hand() -> None:
    scores = np.array([0.15, 0.15, 0.85, 0.95, 1.0])
    hits = np.array([False, True, True, True, False])
    found = calibration(scores, hits, bins=10)
    assert [item.detections for item in found.bins] == [0, 2, 0, 0, 0, 0, 0, 0, 1, 2]
    assert found.bins[1].hit_rate == 0.5
    assert found.ece == pytest.approx((2 * 0.35 + 0.15 + 2 * 0.475) / 5)
    assert found.bias == pytest.approx((3.1 - 3) / 5)


def test_calibrated_scores_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    assert calibration(scores, rng.random(20_000) < scores).ece < 0.02
    assert calibration(scores, rng.random(20_000) < scores**3).bias > 0.2


def test_calibration_of_nothing() -> None:
    found = calibration(np.zeros(0), np.zeros(0, np.bool_), bins=4)
    assert np.isnan(found.ece)
    assert len(found.bins) == 4


def test_of_equally_good_thresholds_the_higher() -> None:
    found = curve([True, False, False, True], 2, [0.9, 0.5, 0.4, 0.3])  # F1 2/3, .., .., 2/3
    assert best_f1(found).score == 0.9
