"""The torch backend, and what it does on a GPU, played by a device that has little memory."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from geo_retina.card import ModelCard
from geo_retina.detection.detector import BackgroundDetector, ChipResult, Thresholds
from geo_retina.detection.torch_backend import TorchDetector
from geo_retina.errors import DeviceError, ModelError
from geo_retina.model.checkpoint import CheckpointInfo, read_info, save_checkpoint
from geo_retina.model.retinanet import build_retinanet
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)
from geo_retina.space.decay import decayed_scores

SOME = Thresholds(0.0, 0.5, 20, 20)


@pytest.fixture(scope="module")
def info(
    tmp_path_factory: pytest.TempPathFactory, make_card: Callable[..., ModelCard]
) -> CheckpointInfo:
    torch.manual_seed(2)
    settings = NetworkSettings(
        num_classes=1,
        backbone=BackboneSettings(name="timm:test_efficientnet", frozen_batch_norm=False),
        levels=(3,),
        pyramid_width=8,
        head=HeadSettings(depth=0, width=8),
        anchors=AnchorSettings(sizes=((8.0,),), ratios=(1.0,)),
    )
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, build_retinanet(settings), make_card())
    return read_info(path)


@pytest.fixture
def chips() -> Any:
    return np.random.default_rng(1).integers(0, 255, (7, 3, 64, 50), np.uint8)


class FakeGpu:
    """Stands for a `CudaPipe`, on the CPU; a batch of more than `room` chips does not fit."""

    def __init__(self, room: int, *, tells: int = 4) -> None:
        self.room, self.tells, self.sent = room, tells, []

    def autocast(self) -> Any:
        return nullcontext()

    def send(self, chips: list[Any]) -> torch.Tensor:
        self.sent.append(len(chips))
        if len(chips) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(np.concatenate(chips))

    def mark(self) -> Any:
        return "done"

    def decoding(self, done: Any, outputs: Any) -> Any:
        assert done == "done"
        assert all(isinstance(tensor, torch.Tensor) for tensor in outputs)
        return nullcontext()

    def fitting_batch(self, chips: int, *, most: int) -> int:
        assert 0 < chips <= most
        return self.tells


def on_gpu(info: CheckpointInfo, gpu: FakeGpu, batch: int | None = None) -> TorchDetector:
    detector = TorchDetector(info, torch.device("cpu"), batch or 4)
    detector._pipe, detector._is_trial = gpu, batch is None  # type: ignore[assignment]
    return detector


def assert_same(found: list[ChipResult], expected: list[ChipResult]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.detections.boxes, other.detections.boxes, atol=1e-3)
        np.testing.assert_allclose(one.detections.scores, other.detections.scores, atol=1e-5)
        assert one.saturated == other.saturated


def test_a_cpu_works_on_one_chip_at_a_time(info: CheckpointInfo, chips: Any) -> None:
    detector = TorchDetector(info, torch.device("cpu"))
    assert isinstance(detector, BackgroundDetector)
    assert (detector.batch, detector.in_flight) == (1, 0)
    expected = detector.detect(chips, SOME)
    assert all(len(result.detections) > 0 for result in expected)
    assert_same(detector.start(list(chips), SOME).result(), expected)
    with pytest.raises(ModelError, match="expected chips of type uint8"):
        detector.start([chips[0].astype(np.float32)], SOME)


@pytest.mark.parametrize("room", [7, 3, 2, 1])
def test_a_batch_that_does_not_fit_is_halved(info: CheckpointInfo, chips: Any, room: int) -> None:
    expected = TorchDetector(info, torch.device("cpu")).detect(chips, SOME)
    for batch in (1, 4, 7):
        gpu = FakeGpu(room)
        detector = on_gpu(info, gpu, batch)
        assert detector.in_flight == 1
        assert_same(detector.start(list(chips), SOME).result(), expected)
        assert_same(detector.detect(chips, SOME), expected)
        assert 1 <= detector.batch <= max(room, 1) or len(chips) <= room
        assert gpu.sent[-1] <= room


def test_one_chip_that_does_not_fit_is_an_error(info: CheckpointInfo, chips: Any) -> None:
    with pytest.raises(DeviceError, match="one chip of 64 x 50 px does not fit"):
        on_gpu(info, FakeGpu(0), 4).start(list(chips), SOME)


def test_memory_may_end_while_boxes_are_decoded(
    info: CheckpointInfo, chips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TorchDetector(info, torch.device("cpu")).detect(chips, SOME)
    detector = on_gpu(info, FakeGpu(7), 7)
    decode, calls = detector._decode, []

    def failing(outputs: Any, thresholds: Thresholds) -> list[ChipResult]:
        calls.append(len(outputs.chips))
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(outputs, thresholds)

    monkeypatch.setattr(detector, "_decode", failing)
    assert_same(detector.start(list(chips), SOME).result(), expected)
    assert calls == [7, 3, 3, 1]
    assert detector.batch == 3


def test_the_first_batch_tells_how_many_chips_fit(info: CheckpointInfo, chips: Any) -> None:
    detector = on_gpu(info, FakeGpu(7, tells=6))
    detector.start(list(chips[:4]), SOME).result()
    assert detector.batch == 6
    detector.start(list(chips[:4]), SOME).result()
    assert detector.batch == 6, "only the first one"
    stated = on_gpu(info, FakeGpu(7, tells=6), 2)
    stated.start(list(chips[:2]), SOME).result()
    assert stated.batch == 2, "what the user states holds"
    short = on_gpu(info, FakeGpu(2, tells=6))
    short.start(list(chips[:4]), SOME).result()
    assert short.batch == 2, "what did not fit is not tried again"


@pytest.mark.gpu
def test_a_real_gpu_finds_what_the_cpu_finds(info: CheckpointInfo, chips: Any) -> None:
    """In bfloat16: three significant digits."""
    expected = TorchDetector(info, torch.device("cpu")).detect(chips, SOME)
    detector = TorchDetector(info, torch.device("cuda"))
    running = [detector.start(list(chips), SOME) for _ in range(2)]
    for batch in running:
        for one, other in zip(batch.result(), expected, strict=True):
            np.testing.assert_allclose(
                one.detections.scores[:5], other.detections.scores[:5], atol=0.02
            )
    assert detector.batch > 4


def test_scores_give_way_to_better_boxes_nearby(info: CheckpointInfo, chips: Any) -> None:
    detector = TorchDetector(info, torch.device("cpu"))
    whole = Thresholds(0.0, 0.9, 1000, 1000)
    for plain, lowered in zip(
        detector.detect(chips, whole),
        detector.detect(chips, replace(whole, decay_iou=0.0)),
        strict=True,
    ):
        boxes, scores = plain.detections.boxes, plain.detections.scores
        expected = decayed_scores(boxes, scores, threshold=0.0)
        assert (expected < scores).any()
        np.testing.assert_allclose(lowered.detections.scores, np.sort(expected)[::-1], atol=1e-6)
