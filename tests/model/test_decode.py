from dataclasses import replace
from typing import Any

import pytest
import torch

from geo_retina.errors import ModelError
from geo_retina.model.decode import ChipBoxes, decode_chips
from geo_retina.model.heads import HeadOutputs
from geo_retina.model.thresholds import Thresholds

ANCHORS = [
    torch.tensor([[0.0, 0, 16, 16], [20, 0, 36, 16], [0, 20, 16, 36]]),
    torch.tensor([[0.0, 0, 40, 40]]),
]

THRESHOLDS = Thresholds(0.05, 0.5, 1000, 300)


def outputs_of(
    scores: list[list[float]],
    deltas: list[list[float]] | None = None,
    objectness: list[float] | None = None,
) -> HeadOutputs:
    logits = torch.tensor(scores, dtype=torch.float32).logit()  # (A, K)
    deltas = torch.zeros(len(logits), 4) if deltas is None else torch.tensor(deltas)
    factor = None if objectness is None else torch.tensor([objectness]).logit()
    return HeadOutputs(logits[None], deltas[None], factor, (3, 1))


def decode_one(outputs: HeadOutputs, **limits: Any) -> ChipBoxes:
    (found,) = decode_chips(
        outputs, ANCHORS, height=40, width=40, thresholds=replace(THRESHOLDS, **limits)
    )
    return found


def test_boxes_come_out_highest_score_first() -> None:
    found = decode_one(outputs_of([[0.3], [0.9], [0.01], [0.6]]))
    assert found.boxes.tolist() == [[20, 0, 36, 16], [0, 0, 40, 40], [0, 0, 16, 16]]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.3]))
    assert found.class_ids.tolist() == [0, 0, 0]
    assert not found.saturated


def test_nothing_above_the_score_is_an_empty_value() -> None:
    found = decode_one(outputs_of([[0.01, 0.02]] * 4))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.class_ids.shape == (0,)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.class_ids.dtype == torch.int64
    assert not found.saturated


def test_boxes_are_clipped_to_the_chip() -> None:
    found = decode_one(
        outputs_of([[0.01], [0.01], [0.01], [0.9]], [[0.0] * 4] * 3 + [[0.5, 0, 0.5, 0]])
    )
    x_min, y_min, x_max, y_max = found.boxes[0].tolist()
    assert (y_min, x_max, y_max) == (0, 40, 40)
    assert x_min == pytest.approx(20 + 20 - 20 * 2.718281828**0.5)


def test_nms_looks_at_one_class_at_a_time() -> None:
    same_place = [[0.0] * 4] * 3 + [[0.0] * 4]
    both = decode_one(
        outputs_of([[0.9, 0.8], [0.01, 0.01], [0.01, 0.01], [0.01, 0.01]], same_place)
    )
    assert both.class_ids.tolist() == [0, 1]
    assert torch.equal(both.boxes[0], both.boxes[1])
    shifted = outputs_of(
        [[0.9], [0.8], [0.01], [0.01]], [[0.0] * 4, [-1.2, 0, 0, 0], *same_place[:2]]
    )
    assert len(decode_one(shifted).boxes) == 1
    assert len(decode_one(shifted, nms_iou=0.95).boxes) == 2


@pytest.mark.parametrize("classes", [1, 3])
def test_many_boxes_are_compared_with_the_same_outcome(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(classes)
    corners = 300 * torch.rand(900, 2, generator=random)
    anchors = [torch.cat([corners, corners + 8 + 30 * torch.rand(900, 2, generator=random)], 1)]
    logits = torch.randn(1, 900, classes, generator=random)
    outputs = HeadOutputs(logits, torch.zeros(1, 900, 4), None, (900,))
    wanted = Thresholds(0.3, 0.4, 5000, 5000)
    (expected,) = decode_chips(outputs, anchors, height=340, width=340, thresholds=wanted)
    monkeypatch.setattr("geo_retina.model.decode._MOST_AT_ONCE", 10)
    (found,) = decode_chips(outputs, anchors, height=340, width=340, thresholds=wanted)
    assert 100 < len(found.boxes) < 900 * classes
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.class_ids, expected.class_ids)


def test_limits_are_reported_only_when_they_cut() -> None:
    outputs = outputs_of([[0.9], [0.8], [0.7], [0.6]])
    assert not decode_one(outputs, candidates_per_level=3, detections_per_chip=4).saturated
    candidates = decode_one(outputs, candidates_per_level=2)
    assert candidates.saturated
    torch.testing.assert_close(candidates.scores, torch.tensor([0.9, 0.8, 0.6]))
    detections = decode_one(outputs, detections_per_chip=3)
    assert detections.saturated
    torch.testing.assert_close(detections.scores, torch.tensor([0.9, 0.8, 0.7]))


def test_objectness_multiplies_the_class_score() -> None:
    outputs = outputs_of([[0.9], [0.9], [0.9], [0.9]], objectness=[0.5, 0.1, 0.04, 1e-6])
    torch.testing.assert_close(decode_one(outputs).scores, torch.tensor([0.45, 0.09]))


def test_chips_of_a_batch_do_not_meet() -> None:
    scores = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0))
    deltas = 0.2 * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    batch = decode_chips(
        HeadOutputs(scores.logit(), deltas, None, (3, 1)),
        ANCHORS,
        height=40,
        width=40,
        thresholds=THRESHOLDS,
    )
    for number, found in enumerate(batch):
        alone = HeadOutputs(
            scores[number : number + 1].logit(), deltas[number : number + 1], None, (3, 1)
        )
        expected = decode_one(alone)
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.class_ids, expected.class_ids)


def test_half_precision_outputs_are_decoded_in_float32() -> None:
    whole = outputs_of([[0.9], [0.5], [0.01], [0.01]])
    half = HeadOutputs(whole.logits.half(), whole.deltas.half(), None, (3, 1))
    assert decode_one(half).scores.dtype == torch.float32
    torch.testing.assert_close(decode_one(half).boxes, decode_one(whole).boxes)


@pytest.mark.parametrize("part", ["logits", "deltas"])
def test_outputs_that_are_no_numbers_are_an_error_not_an_empty_result(part: str) -> None:
    outputs = outputs_of([[0.9]] * 4)
    getattr(outputs, part)[0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="not a number"):
        decode_one(outputs)


@pytest.mark.parametrize(
    "wrong",
    [{"score": 1.5}, {"nms_iou": 0}, {"candidates_per_level": 0}, {"detections_per_chip": -1}],
)
def test_impossible_settings_are_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="got"):
        replace(THRESHOLDS, **wrong)
