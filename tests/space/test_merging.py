import numpy as np
import pytest

from geo_retina.errors import ConfigError
from geo_retina.space.boxes import Overlap
from geo_retina.space.detections import Detections
from geo_retina.space.merging import (
    METHODS,
    AcrossClasses,
    BoxFusion,
    GreedyNms,
    Merging,
    SoftNms,
    build_merging,
)


def found(
    boxes: list[list[float]], scores: list[float], class_ids: list[int] | None = None
) -> Detections:
    class_ids = np.zeros(len(scores)) if class_ids is None else np.array(class_ids)
    return Detections.of(np.array(boxes, dtype=float), np.array(scores), class_ids)


PAIR = [[0, 0, 10, 10], [0, 0, 10, 8]]  # IoU 0.8


def test_greedy_nms_keeps_the_best() -> None:
    settled = GreedyNms(threshold=0.5).settle(found(PAIR, [0.6, 0.9]))
    assert settled.final.boxes.tolist() == [PAIR[1]]
    assert settled.sources.tolist() == [1]
    assert settled.absorbed.tolist() == [[0, 1]]
    assert settled.pending.tolist() == []


def test_soft_nms_lowers_the_score_by_the_overlap() -> None:
    settled = SoftNms(threshold=0.5).settle(found(PAIR, [0.6, 0.9]))
    assert settled.final.scores.tolist() == pytest.approx([0.9, 0.6 * (1 - 0.8)])
    assert len(settled.absorbed) == 0


def test_soft_nms_picks_by_the_lowered_scores() -> None:
    # b is lowered by a to 0.24 and falls behind c (0.3), so that c lowers b and not b c
    boxes = [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]
    overlap = 6 / 14
    settled = SoftNms(threshold=0.4).settle(found(boxes, [0.9, 0.42, 0.3]))
    lowered = 0.42 * (1 - overlap)
    assert lowered < 0.3
    by_source = dict(zip(settled.sources.tolist(), settled.final.scores.tolist(), strict=True))
    assert by_source == pytest.approx({0: 0.9, 1: lowered * (1 - overlap), 2: 0.3}, rel=1e-6)


def test_soft_nms_drops_what_falls_under_the_floor() -> None:
    settled = SoftNms(threshold=0.5, score_floor=0.2).settle(found(PAIR, [0.6, 0.9]))
    assert settled.sources.tolist() == [1]
    assert settled.absorbed.tolist() == [[0, 1]]


def test_fusion_averages_boxes_by_score_and_scores_plainly() -> None:
    settled = BoxFusion(threshold=0.5).settle(found(PAIR, [0.75, 0.25]))
    assert settled.final.boxes.tolist() == [[0, 0, 10, 9.5]]
    assert settled.final.scores.tolist() == [0.5]
    assert settled.absorbed.tolist() == [[1, 0]]


def test_fusion_tells_which_box_went_into_which_in_any_order() -> None:
    settled = BoxFusion(threshold=0.5).settle(found(PAIR, [0.25, 0.75]))
    assert settled.sources.tolist() == [1]
    assert settled.absorbed.tolist() == [[0, 1]]


def test_fusion_compares_with_the_fused_box() -> None:
    # c overlaps a by 1/2 and the mean of a and b by 0.6: only the latter is over the threshold
    boxes = [[0, 0, 12, 10], [0, 0, 8, 10], [0, 0, 6, 10]]
    settled = BoxFusion(threshold=0.55).settle(found(boxes, [0.8, 0.8, 0.1]))
    assert len(settled.final) == 1
    apart = BoxFusion(threshold=0.65).settle(found(boxes, [0.8, 0.8, 0.1]))
    assert len(apart.final) == 2


def test_fusion_leaves_lone_boxes_as_they_are() -> None:
    box = [[0.1, 0.2, 0.7, 0.9]]
    settled = BoxFusion(threshold=0.5).settle(found(box, [0.3]))
    assert settled.final.boxes.tolist() == box
    assert settled.final.scores[0] == np.float32(0.3)


def test_fusion_of_boxes_with_score_zero_is_finite() -> None:
    settled = BoxFusion(threshold=0.5).settle(found(PAIR, [0.0, 0.0]))
    assert np.isfinite(settled.final.boxes).all()
    assert len(settled.final) == 1


METHODS_AT_HALF = [build_merging(name, threshold=0.5, score=0.001) for name in METHODS]
ALL = pytest.mark.parametrize(
    "merging",
    [*METHODS_AT_HALF, *(AcrossClasses(merging) for merging in METHODS_AT_HALF)],
    ids=str,
)


@ALL
def test_nothing_found_is_a_result(merging: Merging) -> None:
    settled = merging.settle(Detections.empty(), unread_from=3)
    assert len(settled.final) == len(settled.sources) == len(settled.pending) == 0
    assert settled.absorbed.shape == (0, 2)
    assert settled.final.boxes.shape == (0, 4)


@ALL
def test_what_reaches_the_unread_rows_waits_with_all_it_may_change(merging: Merging) -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 9]]
    settled = merging.settle(found(boxes, [0.9, 0.8, 0.7]), unread_from=9.5)
    assert sorted(settled.pending.tolist()) == [0, 1]
    assert settled.final.boxes.tolist() == [boxes[2]]


@pytest.mark.parametrize("name", METHODS)
def test_nothing_waits_for_another_class(name: str) -> None:
    merging = build_merging(name, threshold=0.5, score=0.001)
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9]]
    settled = merging.settle(found(boxes, [0.9, 0.8], [0, 1]), unread_from=9.5)
    assert settled.pending.tolist() == [0]
    assert settled.final.boxes.tolist() == [boxes[1]]


@ALL
def test_each_detection_ends_in_one_place(merging: Merging) -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 100, (300, 2))
    boxes = np.hstack([corners, corners + generator.uniform(5, 20, (300, 2))])
    settled = merging.settle(
        found(boxes, generator.random(300), generator.integers(0, 2, 300)), unread_from=80
    )
    places = np.concatenate([settled.sources, settled.pending, settled.absorbed[:, 0]])
    assert sorted(places.tolist()) == list(range(300))


@ALL
def test_the_order_of_the_input_does_not_matter(merging: Merging) -> None:
    generator = np.random.default_rng(1)
    corners = generator.integers(0, 60, (200, 2))
    boxes = np.hstack([corners, corners + generator.integers(5, 20, (200, 2))])
    one = found(boxes, generator.integers(1, 5, 200) / 5, generator.integers(0, 2, 200))
    other = one.select(generator.permutation(200))
    values = [
        sorted(np.column_stack([d.boxes, d.scores, d.class_ids]).tolist())
        for d in (merging.settle(one).final, merging.settle(other).final)
    ]
    assert values[0] == values[1]


def test_across_classes_the_best_keeps_its_class() -> None:
    both = found(PAIR, [0.6, 0.9], [3, 7])
    assert len(GreedyNms(threshold=0.5).settle(both).final) == 2
    settled = AcrossClasses(GreedyNms(threshold=0.5)).settle(both)
    assert settled.final.class_ids.tolist() == [7]
    assert settled.absorbed.tolist() == [[0, 1]]


def test_names_build_methods() -> None:
    assert build_merging("nms-ios", threshold=0.3, score=0.001) == GreedyNms(
        threshold=0.3, overlap=Overlap.IOS
    )
    with pytest.raises(ConfigError, match="nms, nms-ios, soft-nms, wbf, got 'greedy'"):
        build_merging("greedy", threshold=0.5, score=0.001)
    with pytest.raises(ConfigError, match=r"\[0, 1\], got 2"):
        build_merging("nms", threshold=2, score=0.001)


@ALL
def test_nan_is_refused(merging: Merging) -> None:
    with pytest.raises(ValueError, match="finite"):
        merging.settle(found([[0, 0, np.nan, 1]], [0.5]))
    with pytest.raises(ValueError, match="NaN"):
        merging.settle(found([[0, 0, 1, 1]], [np.nan]))
