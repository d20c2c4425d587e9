import numpy as np

from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.mistakes import Mistakes, NearThresholds, count_mistakes
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections

RULE = IouRule(0.5)


def mistakes_of(pairs: list[Pair], score: float = 0.0) -> Mistakes:
    candidates = [RULE.candidates(pair) for pair in pairs]
    matches = match_pairs(pairs, candidates, threshold=RULE.threshold)
    thresholds = NearThresholds(RULE.threshold, RULE.near_threshold)
    return count_mistakes(pairs, candidates, matches, thresholds=thresholds, cut=Cut(score))


def one_of_each() -> Pair:
    known = [
        [0, 0, 10, 10],  # hit, and found again
        [100, 0, 110, 10],  # badly placed
        [200, 0, 210, 10],  # wrong class
        [300, 0, 310, 10],  # missed
    ]
    found = [
        [0, 0, 10, 10],
        [1, 0, 11, 10],
        [105, 0, 115, 10],
        [200, 0, 210, 10],
        [400, 0, 410, 10],
    ]
    return Pair(
        "a.tif",
        Detections.of(
            np.array(found, float), np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 0, 0, 1, 0])
        ),
        Labels.of(known, [0, 0, 0, 0], ("a", "b")),
    )


def test_each_kind_is_told_apart() -> None:
    assert mistakes_of([one_of_each()]) == Mistakes(
        hits=1, duplicates=1, badly_placed=1, confused=1, background=1, missed=1, missed_but_near=2
    )


def test_detections_under_the_score_do_not_count() -> None:
    assert mistakes_of([one_of_each()], score=0.75) == Mistakes(
        hits=1, duplicates=1, badly_placed=0, confused=0, background=0, missed=3, missed_but_near=0
    )


def test_rasters_add_up_and_empty_ones_add_nothing() -> None:
    empty = Pair("b.tif", Detections.empty(), Labels.empty(["a", "b"]))
    assert mistakes_of([one_of_each(), empty, one_of_each()]).hits == 2
    assert mistakes_of([]) == Mistakes(0, 0, 0, 0, 0, 0, 0)


def test_every_detection_and_label_is_counted_once() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 200, (80, 2))
    found = np.concatenate([corner, corner + rng.uniform(5, 30, (80, 2))], axis=1)
    pair = Pair(
        "a.tif",
        Detections.of(
            found[:50] + rng.normal(0, 3, (50, 4)), rng.random(50), rng.integers(0, 2, 50)
        ),
        Labels.of(found, rng.integers(0, 2, 80), ("a", "b"), ignored=rng.random(80) < 0.1),
    )
    for score in (0.0, 0.4, 1.1):
        counts = mistakes_of([pair], score)
        candidates = [RULE.candidates(pair)]
        table = match_pairs([pair], candidates, threshold=RULE.threshold)
        kept = int((~table.ignored & (table.scores >= score)).sum())
        false = counts.duplicates + counts.badly_placed + counts.confused + counts.background
        assert counts.hits + false == kept
        assert counts.hits + counts.missed + counts.missed_but_near == table.counted_labels


def test_near_an_ignored_label_is_background() -> None:
    found = Detections.of(np.array([[0, 0, 30, 10.0]]), np.ones(1), np.zeros(1))
    labels = Labels.of([[20, 0, 50, 10]], [0], ("a",), ignored=np.array([True]))
    pair = Pair("a", found, labels)
    counts = mistakes_of([pair])
    assert (counts.background, counts.badly_placed) == (1, 0)
