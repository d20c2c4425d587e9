import numpy as np
import pytest

from geo_retina.evaluation.confusion import Confusion, confusion_matrix
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule
from geo_retina.evaluation.tables import evaluation_markdown
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections

RULE = IouRule(0.5)
QUICK = EvaluationOptions(bootstrap_samples=0)


def boxes_at(*columns: float) -> np.ndarray:
    left = np.array(columns, np.float64)
    return np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)


def confusion_of(pairs: list[Pair], score: float) -> Confusion:
    candidates = [RULE.candidates(pair) for pair in pairs]
    matches = match_pairs(pairs, candidates, threshold=RULE.threshold)
    return confusion_matrix(pairs, candidates, matches, threshold=RULE.threshold, cut=Cut(score))


def two_rasters() -> list[Pair]:
    """An oak as oak, a pine as oak, a pine missed, a duplicate, a crowd region, a low score."""
    labels = Labels.of(
        boxes_at(0, 20, 40, 60),
        [0, 1, 1, 1],
        ("oak", "pine"),
        ignored=np.array([False, False, False, True]),
    )
    found = Detections.of(
        boxes_at(0, 1, 20, 40, 60, 200),
        np.array([0.9, 0.8, 0.7, 0.2, 0.9, 0.6]),
        np.array([0, 0, 0, 1, 1, 1]),
    )
    other = Pair(
        "b",
        Detections.of(boxes_at(0), np.array([0.9]), np.array([1])),
        Labels.of(boxes_at(0), [0], ("oak", "pine")),
    )
    return [Pair("a", found, labels), other]


def test_rows_are_labels_and_columns_what_they_were_found_as() -> None:
    found = confusion_of(two_rasters(), 0.5)
    assert found.class_names == ("oak", "pine")
    assert found.counts == ((1, 1, 0), (1, 0, 1), (1, 1, 0))
    assert confusion_of(two_rasters(), 0.1).counts == ((1, 1, 0), (1, 1, 0), (1, 1, 0))


def test_each_class_may_have_a_score_of_its_own() -> None:
    pairs = two_rasters()
    told = evaluate_detections(pairs, score=0.5, class_scores={"pine": 0.1, "ash": 0.9})
    assert told.class_scores == {"pine": pytest.approx(0.1)}
    assert told.cut_words == "0.500, of pine 0.100"
    assert told.confusion is not None
    assert told.confusion.counts == ((1, 1, 0), (1, 1, 0), (1, 1, 0))  # the pine at 0.2 is found
    oak, pine = told.classes
    assert (oak.at_score.score, oak.at_score.detections) == (0.5, 3)
    assert (pine.at_score.detections, pine.at_score.hits) == (3, 1)
    assert told.quality.at_score.detections == 6
    assert told.quality.at_score.hits == oak.at_score.hits + pine.at_score.hits
    assert sum(item.detections for item in told.rasters) == 6
    assert told.mistakes.hits == told.quality.at_score.hits
    assert "At score 0.500, of pine 0.100 (chosen beforehand): precision" in evaluation_markdown(
        told
    )
    assert told.to_dict()["class_scores"] == {"pine": 0.1}


def test_of_one_class_its_own_score_counts() -> None:
    pair = Pair(
        "a",
        Detections.of(boxes_at(0, 20), np.array([0.9, 0.2]), np.array([0, 0])),
        Labels.of(boxes_at(0), [0], ("oak",)),
    )
    told = evaluate_detections([pair], score=0.5, class_scores={"oak": 0.1})
    assert (told.score, told.class_scores) == (pytest.approx(0.1), {})
    assert told.quality.at_score.detections == 2


def test_an_own_label_is_preferred_to_a_closer_one_of_another_class() -> None:
    labels = Labels.of(boxes_at(0, 3), [0, 1], ("oak", "pine"))
    found = Detections.of(boxes_at(3), np.array([0.9]), np.array([0]))
    assert confusion_of([Pair("a", found, labels)], 0.5).counts == ((1, 0, 0), (0, 0, 1), (0, 0, 0))


@pytest.mark.parametrize("score", [0.0, 0.3, 0.7])
def test_it_holds_all_labels_and_all_detections_and_the_hits_of_the_evaluation(
    score: float,
) -> None:
    rng = np.random.default_rng(4)
    pairs = []
    for number in range(3):
        places = rng.uniform(0, 100, (40, 2))
        known = np.concatenate([places, places + 10], axis=1)
        detections = Detections.of(
            known + rng.normal(0, 2, (40, 1)), rng.random(40), rng.integers(0, 3, 40)
        )
        labels = Labels.of(known[:30], rng.integers(0, 3, 30), ("a", "b", "c"))
        pairs.append(Pair(f"{number}", detections, labels))
    result = evaluate_detections(pairs, iou=0.5, score=score, options=QUICK)
    assert result.confusion is not None
    table = np.array(result.confusion.counts)
    point = result.quality.at_score
    assert np.trace(table) == point.hits
    assert table[:-1].sum() == point.labels
    assert table[:, :-1].sum() == point.detections
    assert (table >= 0).all()


def test_text_and_json_show_it_where_there_are_several_classes() -> None:
    found = evaluate_detections(two_rasters(), iou=0.5, score=0.5, options=QUICK)
    text = evaluation_markdown(found)
    assert "| label \\ found as | oak | pine | missed |" in text
    assert "| oak              | 1   | 1    | 0      |" in text
    assert "| false alarm      | 1   | 1    | 0      |" in text
    assert found.to_dict()["confusion"] == {
        "class_names": ["oak", "pine"],
        "counts": [[1, 1, 0], [1, 0, 1], [1, 1, 0]],
    }
    alone = Pair("a", Detections.empty(), Labels.of(boxes_at(0), [0], ("oak",)))
    one = evaluate_detections([alone], options=QUICK)
    assert one.confusion is None
    assert "found as" not in evaluation_markdown(one)


def test_nothing_at_all() -> None:
    empty = Pair("a", Detections.empty(), Labels.empty(("oak", "pine")))
    assert confusion_of([empty], 0.0).counts == ((0, 0, 0),) * 3
