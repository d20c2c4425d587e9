import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from geo_retina.detection.decoding import RawOutputs, decode_chip, level_grids
from geo_retina.detection.detector import ChipResult
from geo_retina.errors import ModelError
from geo_retina.model import anchors as torch_anchors
from geo_retina.model.decode import ChipBoxes, decode_chips
from geo_retina.model.heads import HeadOutputs
from geo_retina.model.settings import AnchorSettings, HeadSettings, NetworkSettings
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.decay import decayed_scores
from geo_retina.space.detections import Detections

HEIGHT, WIDTH = 96, 64


def settings_of(*, num_classes: int = 2, objectness: bool = False, **anchors: Any) -> Any:
    plain = {"sizes": ((9.0, 14.0), (21.0, 30.0)), "ratios": (0.5, 1.0, 1.7)}
    return NetworkSettings(
        num_classes=num_classes,
        levels=(3, 4),
        head=HeadSettings(objectness=objectness),
        anchors=AnchorSettings(**(plain | anchors)),
    )


def outputs_of(settings: NetworkSettings, *, seed: int, spread: float = 2.0) -> HeadOutputs:
    """Outputs of a chip as a network would give them, most scores low and no two alike."""
    grids = level_grids(settings, height=HEIGHT, width=WIDTH)
    count, random = sum(map(len, grids)), np.random.default_rng(seed)
    logits = random.normal(-2, spread, (1, count, settings.num_classes)).astype(np.float32)
    deltas = random.normal(0, 0.4, (1, count, 4)).astype(np.float32)
    objectness = random.normal(1, 2, (1, count)).astype(np.float32)
    return HeadOutputs(
        torch.from_numpy(logits),
        torch.from_numpy(deltas),
        torch.from_numpy(objectness) if settings.head.objectness else None,
        tuple(map(len, grids)),
    )


def by_torch(
    settings: NetworkSettings, outputs: HeadOutputs, limits: Thresholds, height: int, width: int
) -> ChipBoxes:
    anchors = torch_anchors.chip_anchors(
        settings.anchors,
        levels=settings.levels,
        height=HEIGHT,
        width=WIDTH,
        device=torch.device("cpu"),
    )
    (found,) = decode_chips(
        outputs,
        anchors,
        height=height,
        width=width,
        thresholds=limits,
    )
    return found


def by_numpy(
    settings: NetworkSettings, outputs: HeadOutputs, limits: Thresholds, height: int, width: int
) -> ChipResult:
    objectness = None if outputs.objectness is None else outputs.objectness[0].numpy()
    raw = RawOutputs(outputs.logits[0].numpy(), outputs.deltas[0].numpy(), objectness)
    grids = level_grids(settings, height=HEIGHT, width=WIDTH)
    return decode_chip(raw, grids, height=height, width=width, thresholds=limits)


def assert_same(settings: NetworkSettings, outputs: HeadOutputs, limits: Thresholds) -> int:
    """Both decodings agree: boxes, scores, classes, order, saturation; how many boxes there are.

    Boxes whose scores are equal but for rounding may stand in another order.
    """
    expected = by_torch(settings, outputs, limits, HEIGHT - 5, WIDTH - 9)
    found = by_numpy(settings, outputs, limits, HEIGHT - 5, WIDTH - 9)
    assert found.saturated == expected.saturated
    np.testing.assert_allclose(found.detections.scores, expected.scores.numpy(), atol=1e-6)
    ours = np.column_stack([found.detections.class_ids, found.detections.boxes])
    theirs = np.column_stack([expected.class_ids.numpy(), expected.boxes.numpy()])
    tied = np.cumsum(np.diff(found.detections.scores, prepend=1) < -1e-6)  # number of the tie
    ours, theirs = (rows[np.lexsort([*rows.round(2).T[::-1], tied])] for rows in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    return len(found.detections)


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    num_classes=st.integers(1, 3),
    objectness=st.booleans(),
    score=st.sampled_from([0.05, 0.3, 0.7]),
    by_class=st.one_of(st.none(), st.tuples(*[st.sampled_from([0.05, 0.2, 0.6, 0.9])] * 3)),
    candidates=st.sampled_from([5, 40, 5000]),
    detections=st.sampled_from([3, 30, 5000]),
    class_agnostic=st.booleans(),
)
def test_equals_the_decoding_of_torch(
    *,
    seed: int,
    num_classes: int,
    objectness: bool,
    score: float,
    by_class: tuple[float, ...] | None,
    candidates: int,
    detections: int,
    class_agnostic: bool,
) -> None:
    settings = settings_of(num_classes=num_classes, objectness=objectness)
    outputs = outputs_of(settings, seed=seed)
    limits = Thresholds(score, 0.5, candidates, detections, class_agnostic=class_agnostic)
    if by_class is not None:
        each = by_class[:num_classes]
        limits = replace(limits, score=min(each), class_scores=each)
    assert_same(settings, outputs, limits)


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("decay_iou", [None, 0.1])
def test_boxes_under_the_score_of_their_class_change_nothing_else(
    objectness: bool, decay_iou: float | None
) -> None:
    """What is dropped before NMS is what would be dropped after it."""
    settings = settings_of(num_classes=3, objectness=objectness)
    outputs = outputs_of(settings, seed=5)
    every = Thresholds(0.1, 0.5, 5000, 5000, decay_iou)
    some = replace(every, class_scores=(0.5, 0.1, 0.3))
    found = by_numpy(settings, outputs, some, HEIGHT, WIDTH).detections
    after = some.reached(by_numpy(settings, outputs, every, HEIGHT, WIDTH).detections)
    found = some.reached(found)  # scores that gave way
    assert set(found.class_ids.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(found.boxes, after.boxes)
    np.testing.assert_array_equal(found.scores, after.scores)
    np.testing.assert_array_equal(found.class_ids, after.class_ids)


def test_a_score_that_equals_that_of_its_class_is_kept() -> None:
    found = Detections.of(np.array([[0, 0, 9, 9]]), np.array([0.7], np.float32), np.array([1]))
    assert len(Thresholds(0.1, 0.5, 10, 10, class_scores=(0.1, 0.7)).reached(found)) == 1


@pytest.mark.parametrize(
    "anchors",
    [{"offset": 0.0}, {"whole_pixels": True}, {"spacing": "even", "offset": 0.0}],
    ids=str,
)
def test_follows_every_rule_for_anchors(anchors: dict[str, Any]) -> None:
    settings = settings_of(**anchors)
    outputs = outputs_of(settings, seed=1)
    assert assert_same(settings, outputs, Thresholds(0.3, 0.5, 5000, 5000)) > 20


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (160, 224)])
def test_anchors_of_every_level_are_those_of_the_network(height: int, width: int) -> None:
    settings = NetworkSettings(num_classes=1, anchors=AnchorSettings(spacing="even"))
    expected = torch_anchors.chip_anchors(
        settings.anchors,
        levels=settings.levels,
        height=height,
        width=width,
        device=torch.device("cpu"),
    )
    grids = level_grids(settings, height=height, width=width)
    for grid, level in zip(grids, expected, strict=True):
        np.testing.assert_array_equal(grid.anchors(np.arange(len(grid))), level.numpy())


def test_every_score_is_reached() -> None:
    settings = settings_of()
    outputs = outputs_of(settings, seed=3)
    everything = Thresholds(0.0, 1.0, 10**6, 10**6)
    assert assert_same(settings, outputs, everything) == outputs.logits.numel()
    assert assert_same(settings, outputs, Thresholds(1.0, 0.5, 100, 100)) == 0


@pytest.mark.parametrize("score", [1e-7, 0.05, 0.5, 0.999999])
def test_scores_at_the_threshold_pass_as_in_torch(score: float) -> None:
    settings = settings_of(num_classes=1)
    outputs = outputs_of(settings, seed=4)
    edge = math.log(score / (1 - score))
    near = np.linspace(edge - 1e-4, edge + 1e-4, outputs.logits.numel(), dtype=np.float64)
    outputs.logits[:] = torch.from_numpy(near.astype(np.float32)).reshape(outputs.logits.shape)
    passing = int((outputs.logits.sigmoid() >= score).sum())
    found = by_numpy(settings, outputs, Thresholds(score, 1.0, 10**6, 10**6), HEIGHT, WIDTH)
    assert abs(len(found.detections) - passing) <= 2  # sigmoids differ in the last bit


def test_a_score_that_equals_the_threshold_passes() -> None:
    """As in an evaluation, which counts the detections from a score up."""
    settings = settings_of(num_classes=1)
    outputs = outputs_of(settings, seed=4)
    outputs.logits[:] = 0
    everything = Thresholds(0.5, 1.0, 10**6, 10**6)
    assert assert_same(settings, outputs, everything) == outputs.logits.numel()


def test_scores_give_way_to_better_boxes_nearby() -> None:
    settings = settings_of()
    outputs, plain = outputs_of(settings, seed=7), Thresholds(0.3, 0.5, 5000, 5000)
    found = by_numpy(settings, outputs, plain, HEIGHT, WIDTH).detections
    lowered = by_numpy(settings, outputs, replace(plain, decay_iou=0.1), HEIGHT, WIDTH).detections
    scores = decayed_scores(
        found.boxes, found.scores, threshold=0.1, class_ids=found.class_ids
    ).astype(np.float32)
    assert 0 < len(lowered) < len(found)
    assert lowered.scores.tolist() == sorted(scores[scores >= 0.3].tolist(), reverse=True)
    assert {tuple(box) for box in lowered.boxes} == {tuple(b) for b in found.boxes[scores >= 0.3]}


def test_nothing_is_an_empty_value() -> None:
    settings = settings_of()
    outputs = outputs_of(settings, seed=5)
    outputs.logits[:] = -20
    found = by_numpy(settings, outputs, Thresholds(0.3, 0.5, 100, 100), HEIGHT, WIDTH)
    assert found.detections.boxes.shape == (0, 4)
    assert not found.saturated


@pytest.mark.parametrize("part", ["logits", "deltas", "objectness"])
def test_outputs_that_are_no_numbers_are_an_error(part: str) -> None:
    settings = settings_of(objectness=True)
    outputs = outputs_of(settings, seed=6)
    getattr(outputs, part)[0, 3] = math.nan
    with pytest.raises(ModelError, match="not a number"):
        by_numpy(settings, outputs, Thresholds(0.3, 0.5, 100, 100), HEIGHT, WIDTH)
