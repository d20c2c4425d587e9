"""The torch backend, and what it does on a GPU, played by a device that has little memory."""

import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from fixture_types import MakeCard

from geo_retina.detection.detector import BackgroundDetector, ChipResult, PreparingDetector
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.run import find_in_raster
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
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.boxes import iou
from geo_retina.space.decay import decayed_scores

SOME = Thresholds(0.0, 0.5, 20, 20)
EXAMPLE = Path(__file__).parents[2] / "examples" / "niwot_ridge.tif"


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory, make_card: MakeCard) -> CheckpointInfo:
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

    def __init__(self, room: int, *, tells: int = 4, wider: tuple[str, ...] = ()) -> None:
        self.room, self.tells, self.sent, self.trials = room, tells, [], 0
        self.wider = list(wider)

    @property
    def can_widen(self) -> bool:
        return bool(self.wider)

    def widen(self) -> str:
        return self.wider.pop()

    def begin_trial(self) -> None:
        self.trials += 1

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
    detector._pipe, detector._seeks_batch = gpu, batch is None  # type: ignore[assignment]
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


def test_threads_with_chips_of_different_sizes_share_a_detector(
    info: CheckpointInfo, chips: Any
) -> None:
    detector = TorchDetector(info, torch.device("cpu"))
    expected = detector.detect(chips, SOME)
    waiting = [chips[:, :, :32, :32]]

    def meanwhile(*_: object) -> None:
        if waiting:
            detector.detect(waiting.pop(), SOME)

    detector._network.register_forward_pre_hook(meanwhile)
    assert_same(detector.detect(chips, SOME), expected)
    assert not waiting


@pytest.mark.filterwarnings("error")
def test_pixels_may_be_read_only(info: CheckpointInfo) -> None:
    pixels = np.frombuffer(bytes(3 * 64 * 64), np.uint8).reshape(1, 3, 64, 64)
    (found,) = TorchDetector(info, torch.device("cpu")).detect(pixels, SOME)
    assert len(found.detections) > 0


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


@pytest.mark.parametrize("text", ["CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"])
def test_memory_ends_by_other_names_too(info: CheckpointInfo, chips: Any, text: str) -> None:
    gpu = FakeGpu(7)
    send = gpu.send

    def failing(chips: list[Any]) -> torch.Tensor:
        if len(chips) > 2:
            raise RuntimeError(text)
        return send(chips)

    gpu.send = failing  # type: ignore[method-assign]
    detector = on_gpu(info, gpu, 7)
    assert len(detector.start(list(chips), SOME).result()) == 7
    assert detector.batch == 1
    gpu.send = lambda _: (_ for _ in ()).throw(RuntimeError("another"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="another"):
        detector.start(list(chips), SOME)


@pytest.mark.parametrize("fails", ["forward", "decode"])
def test_what_failed_gives_its_memory_back_before_it_is_done_again(
    info: CheckpointInfo, chips: Any, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = on_gpu(info, FakeGpu(7), 7)
    held: list[weakref.ref[torch.Tensor]] = []
    run, decode, shrink = detector._run, detector._decode, detector._shrink

    def failing_run(pixels: torch.Tensor) -> Any:
        found, anchors = run(pixels)
        if not held:
            held.append(weakref.ref(found.logits))
            if fails == "forward":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return found, anchors

    def failing_decode(outputs: Any, thresholds: Thresholds) -> list[ChipResult]:
        if fails == "decode" and outputs.found.logits is held[0]():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(outputs, thresholds)

    def watched(chips: Any, error: Exception) -> None:
        freed.append(held[0]() is None)
        shrink(chips, error)

    freed: list[bool] = []
    monkeypatch.setattr(detector, "_run", failing_run)
    monkeypatch.setattr(detector, "_decode", failing_decode)
    monkeypatch.setattr(detector, "_shrink", watched)
    assert len(detector.start(list(chips), SOME).result()) == 7
    assert freed == [True]


def test_a_trial_tells_how_many_chips_fit(info: CheckpointInfo) -> None:
    gpu = FakeGpu(7, tells=6)
    detector = on_gpu(info, gpu)
    assert isinstance(detector, PreparingDetector)
    detector.prepare(64, 50)
    assert (detector.batch, gpu.sent, gpu.trials) == (6, [4], 1)
    detector.prepare(64, 50)
    assert gpu.trials == 1, "this size is known"
    detector.prepare(32, 32)
    assert gpu.trials == 2, "another size takes other memory"
    gpu.room, black = 3, np.zeros((6, 3, 64, 50), np.uint8)
    detector.prepare(64, 50)
    assert (detector.batch, gpu.trials) == (6, 2), "rasters of two sizes may take turns"
    detector.detect(black, SOME)
    detector.prepare(32, 32)
    detector.prepare(64, 50)
    assert (detector.batch, gpu.trials) == (3, 2), "what turned out not to fit is remembered"
    stated = on_gpu(info, FakeGpu(7, tells=6), 2)
    stated.prepare(64, 50)
    assert stated.batch == 2, "what the user states holds"
    short = on_gpu(info, FakeGpu(2, tells=6))
    short.prepare(64, 50)
    assert short.batch == 2, "what did not fit is not tried again"
    on_cpu = TorchDetector(info, torch.device("cpu"))
    on_cpu.prepare(64, 50)
    assert on_cpu.batch == 1


@pytest.mark.parametrize(("chip_px", "trials"), [(256, 1), (512, 0)])
def test_a_raster_of_one_window_needs_no_trial(
    info: CheckpointInfo, chip_px: int, trials: int
) -> None:
    gpu = FakeGpu(7, tells=6)
    with open_job(EXAMPLE, info.path, DetectOptions(chip_px=chip_px)) as job:
        find_in_raster(job, on_gpu(info, gpu))
    assert gpu.trials == trials
    assert gpu.sent == ([4, 4] if trials else [1])


def test_outputs_out_of_range_are_computed_in_a_wider_type(
    info: CheckpointInfo, chips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TorchDetector(info, torch.device("cpu")).detect(chips, SOME)
    gpu = FakeGpu(7, wider=("float32", "bfloat16"))
    detector = on_gpu(info, gpu, 4)
    run = detector._run

    def overflowing(pixels: torch.Tensor) -> Any:
        found, anchors = run(pixels)
        if gpu.wider:
            found.deltas[0, 3, 2] = torch.inf
        return found, anchors

    monkeypatch.setattr(detector, "_run", overflowing)
    first, second = (detector.start(list(chips), SOME) for _ in range(2))
    assert_same(first.result(), expected)
    assert gpu.wider == []
    assert_same(second.result(), expected)  # was begun before
    gpu.wider = ["one that is too narrow"]
    monkeypatch.setattr(gpu, "widen", lambda: gpu.wider.clear() or "none")
    monkeypatch.setattr(detector, "_run", lambda pixels: _infinite(run(pixels)))
    with pytest.raises(ModelError, match="not a number"):
        detector.detect(chips, SOME)


def _infinite(outputs: Any) -> Any:
    outputs[0].deltas[0, 3, 2] = torch.inf
    return outputs


@pytest.mark.gpu
def test_a_real_gpu_finds_what_the_cpu_finds() -> None:
    """In float16: the crowns of a plot, nearly all of them at nearly the same place."""
    info = read_info("tree-crowns")
    with rasterio.open(EXAMPLE) as raster:
        plot = raster.read()
    chips = np.stack([plot, plot[:, ::-1].copy(), plot[:, :, ::-1].copy()])
    wanted = Thresholds(0.3, 0.4, 10_000, 3000, decay_iou=0.1)
    expected = TorchDetector(info, torch.device("cpu")).detect(chips, wanted)
    detector = TorchDetector(info, torch.device("cuda"))
    detector.prepare(*plot.shape[1:])
    assert detector.batch > 4
    running = [detector.start(list(chips), wanted) for _ in range(3)]
    for batch in running:
        for one, other in zip(batch.result(), expected, strict=True):
            assert len(one.detections) == pytest.approx(len(other.detections), rel=0.03)
            near = iou(other.detections.boxes, one.detections.boxes).max(axis=1)
            assert (near > 0.9).mean() > 0.97


@pytest.mark.gpu
def test_a_real_gpu_without_memory_takes_fewer_chips(info: CheckpointInfo) -> None:
    chips = np.random.default_rng(1).integers(0, 255, (64, 3, 512, 512), np.uint8)
    expected = TorchDetector(info, torch.device("cuda"), 1).detect(chips, SOME)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(0.5 * 2**30 / total)
    try:
        detector = TorchDetector(info, torch.device("cuda"), 64)
        results = detector.start(list(chips), SOME).result()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert detector.batch < 64
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(
            one.detections.scores[:5], other.detections.scores[:5], atol=0.01
        )


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
