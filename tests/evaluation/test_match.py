from dataclasses import fields

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS

from geo_retina.errors import LabelError
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import Matches, match_pairs
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import DistanceRule, IouRule, SizeRange
from geo_retina.labels.labels import Labels
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

UTM = Grid(100, 100, Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), CRS.from_epsg(32633))


def pair_of(
    found: list[list[float]],
    scores: list[float],
    known: list[list[float]],
    *,
    found_ids: list[int] | None = None,
    known_ids: list[int] | None = None,
    ignored: list[bool] | None = None,
) -> Pair:
    detections = Detections.of(
        np.array(found, np.float64).reshape(-1, 4),
        np.array(scores),
        np.array(found_ids or [0] * len(found)),
    )
    labels = Labels.of(
        known,
        known_ids or [0] * len(known),
        ("a", "b"),
        ignored=None if ignored is None else np.array(ignored),
    )
    return Pair("x.tif", detections, labels, grid=UTM)


def matched(pair: Pair, rule: IouRule | DistanceRule, sizes: SizeRange | None = None) -> Matches:
    return match_pairs([pair], [rule.candidates(pair)], threshold=rule.threshold, sizes=sizes)


def test_highest_score_takes_the_label_and_the_other_is_a_double() -> None:
    pair = pair_of([[0, 0, 10, 10], [1, 0, 11, 10]], [0.5, 0.9], [[0, 0, 10, 10]])
    assert matched(pair, IouRule(0.4)).label_of.tolist() == [-1, 0]


def test_each_detection_takes_the_label_it_overlaps_most() -> None:
    pair = pair_of([[0, 0, 10, 10]], [0.9], [[4, 0, 14, 10], [1, 0, 11, 10]])
    assert matched(pair, IouRule(0.4)).label_of.tolist() == [1]


def test_a_taken_label_leaves_the_next_best() -> None:
    pair = pair_of([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [[1, 0, 11, 10], [3, 0, 13, 10]])
    assert matched(pair, IouRule(0.4)).label_of.tolist() == [0, 1]


def test_other_classes_do_not_match() -> None:
    pair = pair_of([[0, 0, 10, 10]], [0.9], [[0, 0, 10, 10]], found_ids=[1])
    assert matched(pair, IouRule(0.4)).label_of.tolist() == [-1]


def test_the_threshold_itself_matches() -> None:
    pair = pair_of([[0, 0, 10, 10]], [0.9], [[0, 0, 10, 20]])  # IoU 0.5
    assert matched(pair, IouRule(0.5)).hits.tolist() == [True]
    assert matched(pair, IouRule(0.51)).hits.tolist() == [False]


def test_ignored_regions_swallow_any_number_of_detections() -> None:
    pair = pair_of(
        [[0, 0, 5, 5], [6, 6, 9, 9], [50, 50, 60, 60]],
        [0.9, 0.8, 0.7],
        [[0, 0, 100, 40]],
        ignored=[True],
    )
    table = matched(pair, IouRule(0.5))
    assert table.ignored.tolist() == [True, True, False]
    assert table.hits.tolist() == [False, False, False]
    assert table.counted_labels == 0


def test_objects_of_other_sizes_do_not_count() -> None:
    pair = pair_of(
        [[0, 0, 10, 10], [50, 0, 90, 40], [200, 200, 240, 240]],
        [0.9, 0.8, 0.7],
        [[0, 0, 10, 10], [50, 0, 90, 40]],
    )
    table = matched(pair, IouRule(0.5), SizeRange("small", 0, 32))
    assert table.counted_labels == 1
    assert table.hits.tolist() == [True, False, False]
    assert table.ignored.tolist() == [False, True, True]


def test_centres_match_by_metres_on_the_ground() -> None:
    pair = pair_of([[0, 0, 2, 2], [40, 0, 42, 2]], [0.9, 0.8], [[6, 0, 8, 2], [60, 0, 62, 2]])
    # 6 px of 0.5 m are 3 m, 20 px are 10 m.
    assert matched(pair, DistanceRule(3.1)).label_of.tolist() == [0, -1]
    assert matched(pair, DistanceRule(2.9)).label_of.tolist() == [-1, -1]
    assert matched(pair, DistanceRule(10.1)).label_of.tolist() == [0, 1]


def test_what_was_found_and_missed_at_a_score_leaves_out_what_does_not_count() -> None:
    pair = pair_of(
        [[0, 0, 10, 10], [20, 0, 30, 10], [60, 60, 70, 70]],
        [0.5, 0.25, 0.5],
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]],
        ignored=[False, False, True],
    )
    table = matched(pair, IouRule(0.5))
    assert table.found_labels(Cut(0.5)).tolist() == [True, False, False]
    assert table.missed_labels(Cut(0.5)).tolist() == [False, True, False]
    assert table.false_alarms(Cut(0.5)).tolist() == [False, False, True]
    assert table.false_alarms(Cut(0.51)).tolist() == [False, False, False]


def test_of_equal_scores_the_first_takes_the_label() -> None:
    twins = pair_of([[0, 0, 10, 10]] * 300, [0.4, 0.5] * 150, [[0, 0, 10, 10]])
    assert np.flatnonzero(matched(twins, IouRule(0.5)).hits).tolist() == [1]


def test_metres_need_a_georeference() -> None:
    pair = Pair("x.tif", Detections.empty(), Labels.empty(["a"]))
    with pytest.raises(LabelError, match=r"x\.tif: distances in metres need"):
        DistanceRule(5).candidates(pair)


@pytest.mark.parametrize(
    "rule", [lambda: IouRule(0), lambda: IouRule(1.1), lambda: DistanceRule(0)]
)
def test_impossible_rules_are_refused(rule: object) -> None:
    with pytest.raises(LabelError, match="must be over 0"):
        rule()  # type: ignore[operator]


def test_nothing_found_and_nothing_there() -> None:
    table = matched(pair_of([], [], []), IouRule(0.5))
    assert len(table.scores) == 0
    assert table.counted_labels == 0
    assert matched(pair_of([[0, 0, 1, 1]], [0.5], []), IouRule(0.5)).hits.tolist() == [False]
    assert matched(pair_of([], [], [[0, 0, 1, 1]]), IouRule(0.5)).counted_labels == 1


def test_tables_join_rasters_and_come_apart_again() -> None:
    first = pair_of([[0, 0, 9, 9]], [0.9], [[50, 50, 60, 60], [0, 0, 9, 9]])
    second = pair_of([[0, 0, 9, 9], [20, 0, 29, 9]], [0.8, 0.7], [[20, 0, 29, 9]])
    rule = IouRule(0.5)
    table = match_pairs(
        [first, second], [rule.candidates(first), rule.candidates(second)], threshold=0.5
    )
    assert table.label_of.tolist() == [1, -1, 2]
    part = table.of_rasters([1])
    assert part.label_of.tolist() == [-1, 0]
    assert part.raster_ids.tolist() == [1, 1]
    assert table.of_class(1).counted_labels == 0
    empty = pair_of([], [], [])
    joined = [first, empty, second, empty]
    table = match_pairs(joined, [rule.candidates(one) for one in joined], threshold=0.5)
    for raster, alone in enumerate(table.by_raster(4)):
        for field in fields(alone):
            expected = getattr(table.of_rasters([raster]), field.name)
            assert np.array_equal(getattr(alone, field.name), expected), field.name


def test_class_names_must_be_shared() -> None:
    one = Pair("a.tif", Detections.empty(), Labels.empty(["a"]))
    other = Pair("b.tif", Detections.empty(), Labels.empty(["a", "b"]))
    with pytest.raises(LabelError, match="different classes: a / a, b"):
        match_pairs([one, other], [IouRule(0.5).candidates(one)] * 2, threshold=0.5)


def slow_match(pair: Pair, iou: float) -> list[int]:
    """The definition, written out."""
    overlap = box_arrays.iou(pair.detections.boxes, pair.labels.boxes)
    label_of = [-1] * len(pair.detections)
    free = set(range(len(pair.labels)))
    for i in np.argsort(-pair.detections.scores, kind="stable"):
        able = [j for j in free if overlap[i, j] >= iou]
        if able:
            label_of[i] = max(able, key=lambda j: (overlap[i, j], j))
            free.remove(label_of[i])
    return label_of


boxes_of = st.integers(0, 12).flatmap(
    lambda n: arrays(np.float64, (n, 4), elements=st.integers(0, 12).map(float))
)


@given(found=boxes_of, known=boxes_of, data=st.data())
def test_matching_equals_its_definition(
    found: np.ndarray, known: np.ndarray, data: st.DataObject
) -> None:
    found, known = _sorted(found), _sorted(known)
    scores = data.draw(arrays(np.float32, len(found), elements=st.sampled_from([0.25, 0.5, 0.75])))
    pair = pair_of(found.tolist(), scores.tolist(), known.tolist())
    assert matched(pair, IouRule(0.3)).label_of.tolist() == slow_match(pair, 0.3)


def _sorted(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:]) + 1], axis=1
    )
