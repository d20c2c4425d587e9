"""Which backend is chosen, and that OpenVINO runs a graph as it should.

The graphs are made here, without an export: every 8 px square is an anchor, its logit rises with
its mean brightness. Exports of real networks are compared with torch in tests/model/test_export.py.
"""

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeCard, Noise

from geo_retina.detection import backends, openvino_runtime
from geo_retina.detection.backends import (
    Backend,
    Model,
    choose_backend,
    load_backend,
    load_model,
    runner_of,
)
from geo_retina.detection.detector import check_chips, pad_chips
from geo_retina.detection.fingerprints import hash_file
from geo_retina.detection.torch_device import find_device
from geo_retina.errors import ConfigError, DependencyError, DeviceError, ModelError
from geo_retina.model.artifacts import (
    ApLoss,
    Artifact,
    artifact_path,
    matching_artifacts,
    network_hash,
    read_artifact,
)
from geo_retina.model.checkpoint import (
    CheckpointInfo,
    load_network,
    read_info,
    save_checkpoint,
)
from geo_retina.model.export import write_openvino
from geo_retina.model.retinanet import build_retinanet
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)
from geo_retina.model.thresholds import Thresholds

ov = pytest.importorskip("openvino")

STRIDE = 8
ALL = Thresholds(0.5, 0.5, 10_000, 10_000)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, make_card: MakeCard) -> Any:
    settings = NetworkSettings(
        num_classes=1,
        backbone=BackboneSettings(name="resnet18"),
        levels=(3,),
        pyramid_width=8,
        head=HeadSettings(depth=0, width=8),
        anchors=AnchorSettings(sizes=((8.0,),), ratios=(1.0,)),
    )
    path = tmp_path_factory.mktemp("model") / "squares.safetensors"
    save_checkpoint(path, build_retinanet(settings), make_card(), half_precision=True)
    return path.read_bytes()


@pytest.fixture
def info(checkpoint: bytes, tmp_path: Path) -> CheckpointInfo:
    path = tmp_path / "squares.safetensors"
    path.write_bytes(checkpoint)
    return read_info(path)


@pytest.fixture
def write_graph(info: CheckpointInfo) -> Callable[..., Artifact]:
    """`write_graph("int8", loss=None, network=None)`: a graph beside the checkpoint."""

    def write(precision: Any, *, loss: float | None = None, network: str | None = None) -> Artifact:
        graph = graph_of_squares()
        path = artifact_path(info.path, precision)
        measured = None if loss is None else ApLoss(0.5, 0.5 - loss, "here")
        artifact = Artifact(path, precision, network or network_hash(info), measured)
        write_openvino(graph, artifact)
        return artifact

    return write


def graph_of_squares() -> Any:
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, 3, -1, -1], np.uint8, name="pixels")
    number = partial(ops.constant, dtype=np.float32)
    grey = ops.reduce_mean(ops.convert(pixels, "f32"), np.array([1]), keep_dims=True)
    square = [STRIDE, STRIDE]
    means = ops.avg_pool(grey, square, [0, 0], [0, 0], square, exclude_pad=True)
    rising = ops.divide(ops.subtract(means, number(128)), number(16))
    logits = ops.reshape(rising, ops.constant([0, -1, 1]), special_zero=True)
    deltas = ops.concat([ops.multiply(logits, number(0))] * 4, axis=2)
    for node, name in ((logits, "logits"), (deltas, "deltas")):
        node.output(0).set_names({name})
    return ov.Model([logits, deltas], [pixels], "squares")


def chips_with_squares(*places: tuple[int, int, int], height: int = 64, width: int = 64) -> Any:
    """(N, 3, height, width) black chips, each with one bright square at (chip, row, column)."""
    chips = np.zeros((len(places), 3, height, width), dtype=np.uint8)
    for chip, row, column in places:
        y, x = row * STRIDE, column * STRIDE
        chips[chip, :, y : y + STRIDE, x : x + STRIDE] = 200
    return chips


# --- the choice


def test_auto_is_torch_where_there_is_no_graph(info: CheckpointInfo) -> None:
    assert choose_backend(info, device="cpu") == Backend("cpu")
    assert choose_backend(info, device="cpu").name == "torch"


def test_auto_takes_the_fastest_faithful_graph(
    info: CheckpointInfo, write_graph: Callable[..., Artifact]
) -> None:
    write_graph("fp32")
    assert choose_backend(info, device="cpu").name == "openvino-fp32"
    write_graph("int8")
    assert choose_backend(info, device="cpu").name == "openvino-fp32", "its loss is not known"
    write_graph("int8", loss=0.02)
    assert choose_backend(info, device="cpu").name == "openvino-fp32", "it loses too much"
    write_graph("int8", loss=0.004)
    assert choose_backend(info, device="cpu").name == "openvino-int8"
    assert choose_backend(info, backend="torch", device="cpu").name == "torch"


def test_auto_is_torch_without_openvino(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph("fp32")
    monkeypatch.setattr(backends, "find_spec", lambda _name: None)
    assert choose_backend(info, device="cpu").name == "torch"
    with pytest.raises(DependencyError, match="pip install openvino"):
        choose_backend(info, backend="openvino")


def test_auto_leaves_a_gpu_to_torch(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph("fp32")
    monkeypatch.setattr(backends, "_takes_cuda", lambda device: device == "auto")
    assert choose_backend(info) == Backend("cuda")
    assert choose_backend(info).name == "torch-cuda"
    assert choose_backend(info, device="cpu").name == "openvino-fp32"


def test_openvino_on_demand_takes_what_there_is(
    info: CheckpointInfo, write_graph: Callable[..., Artifact]
) -> None:
    with pytest.raises(ModelError, match="geo-retina export"):
        choose_backend(info, backend="openvino")
    write_graph("int8", loss=0.5)
    assert choose_backend(info, backend="openvino").name == "openvino-int8"
    with pytest.raises(DeviceError, match="CPU"):
        choose_backend(info, backend="openvino", device="cuda")


def test_a_graph_may_be_named_by_its_precision(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph("int8", loss=0.0)
    with pytest.raises(ModelError, match=r"in fp32 .* --to openvino-fp32"):
        choose_backend(info, backend="openvino-fp32")
    write_graph("fp32")
    assert choose_backend(info, backend="openvino-fp32").name == "openvino-fp32"
    assert choose_backend(info, backend="openvino-int8").name == "openvino-int8"
    monkeypatch.setattr(backends, "has_bfloat16", lambda: True)
    assert choose_backend(info, backend="openvino-bf16").name == "openvino-bf16"
    monkeypatch.setattr(backends, "has_bfloat16", lambda: False)
    with pytest.raises(DeviceError, match="choose --backend openvino-fp32"):
        choose_backend(info, backend="openvino-bf16")


def test_unknown_names_are_errors(info: CheckpointInfo) -> None:
    with pytest.raises(ConfigError, match="'tensorrt'; expected auto, torch, openvino"):
        choose_backend(info, backend="tensorrt")
    with pytest.raises(DeviceError, match="'warp'"):
        choose_backend(info, device="warp")


def test_a_graph_of_other_weights_is_not_used(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    write_graph("fp32", network="0123456789abcdef")
    with caplog.at_level(logging.WARNING):
        assert choose_backend(info, device="cpu").name == "torch"
    assert "made from other weights" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("<net"),
        lambda path: path.write_text("<net/>"),
        lambda path: path.with_suffix(".bin").unlink(),
        lambda path: path.write_text(path.read_text().replace("fp32", "fp4")),
        lambda path: path.with_suffix(".bin").write_bytes(bytes(64)),
    ],
    ids=["cut short", "of another tool", "no weights", "unknown precision", "other weights"],
)
def test_a_damaged_graph_is_not_used(
    info: CheckpointInfo,
    write_graph: Callable[..., Artifact],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
) -> None:
    damage(write_graph("fp32").path)
    assert choose_backend(info, device="cpu").name == "torch"
    assert "is not used" in caplog.text


def test_what_is_stored_in_a_graph_is_read_back(write_graph: Callable[..., Artifact]) -> None:
    for artifact in (write_graph("fp32"), write_graph("int8", loss=0.003)):
        assert read_artifact(artifact.path) == artifact


def test_only_what_the_network_computes_ties_it_to_a_graph(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], make_card: MakeCard
) -> None:
    write_graph("fp32")
    network = load_network(info)
    save_checkpoint(info.path, network, make_card(score=0.7, summary="x"), half_precision=True)
    assert len(matching_artifacts(read_info(info.path))) == 1
    save_checkpoint(info.path, network, make_card(mean=(0.1, 0.5, 0.3)), half_precision=True)
    assert matching_artifacts(read_info(info.path)) == []
    next(network.parameters()).data += 1
    save_checkpoint(info.path, network, make_card(), half_precision=True)
    assert matching_artifacts(read_info(info.path)) == []


# --- OpenVINO at work


@pytest.fixture
def detector(info: CheckpointInfo, write_graph: Callable[..., Artifact]) -> Any:
    write_graph("fp32")
    return load_backend(info, choose_backend(info, backend="openvino"))


def test_finds_the_squares(detector: Any) -> None:
    places = [(0, 2, 5), (1, 7, 0), (2, 0, 7)]
    results = detector.detect(chips_with_squares(*places), ALL)
    for (_, row, column), result in zip(places, results, strict=True):
        x, y = column * STRIDE, row * STRIDE
        assert result.detections.boxes.tolist() == [[x, y, x + STRIDE, y + STRIDE]]
        assert result.detections.scores[0] == pytest.approx(1 / (1 + np.exp(-(200 - 128) / 16)))
        assert not result.saturated


def test_bfloat16_finds_about_what_float32_finds(
    info: CheckpointInfo, write_graph: Callable[..., Artifact]
) -> None:
    if not openvino_runtime.has_bfloat16():
        pytest.skip("no bfloat16 on this processor")
    artifact = write_graph("fp32")
    chips = chips_with_squares((0, 2, 5), (1, 7, 0), (2, 0, 7)) // 4 * 3  # scores of 0.8, not 1
    exact, rounded = (
        load_backend(info, Backend("cpu", artifact, bfloat16=bfloat16)).detect(chips, ALL)
        for bfloat16 in (False, True)
    )
    for one, other in zip(exact, rounded, strict=True):
        assert len(one.detections) == 1
        assert other.detections.scores == pytest.approx(one.detections.scores, abs=0.02)
        assert other.detections.boxes == pytest.approx(one.detections.boxes, abs=0.5)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_is_as_its_chips_alone(
    info: CheckpointInfo, write_graph: Callable[..., Artifact], noise: Noise, batch: int
) -> None:
    backend = Backend("cpu", write_graph("fp32"))
    chips = noise(3 * 5, 40, 72).reshape(5, 3, 40, 72)
    every = Thresholds(0.4, 1.0, 10_000, 10_000)
    together = load_backend(info, backend, batch=batch).detect(chips, every)
    alone = load_backend(info, backend, batch=1)
    for chip, result in zip(chips, together, strict=True):
        (expected,) = alone.detect(chip[None], every)
        assert len(result.detections) > 0
        np.testing.assert_array_equal(result.detections.boxes, expected.detections.boxes)
        np.testing.assert_array_equal(result.detections.scores, expected.detections.scores)


def test_chips_of_any_size_are_padded_and_boxes_clipped(detector: Any) -> None:
    chips = np.full((1, 3, 13, 45), 255, dtype=np.uint8)
    (result,) = detector.detect(chips, Thresholds(0.5, 1.0, 10_000, 10_000))
    boxes = result.detections.boxes
    assert len(boxes) > 0
    assert boxes[:, 2].max() == 45
    assert boxes[:, 3].max() == 13


def test_limits_are_reported(detector: Any) -> None:
    chips = np.full((1, 3, 64, 64), 255, dtype=np.uint8)
    assert detector.detect(chips, Thresholds(0.5, 0.5, 63, 1000))[0].saturated
    assert detector.detect(chips, Thresholds(0.5, 0.5, 1000, 63))[0].saturated
    result = detector.detect(chips, Thresholds(0.5, 0.5, 64, 64))[0]
    assert len(result.detections) == 64
    assert not result.saturated


def test_chips_that_do_not_fit_are_an_error(detector: Any) -> None:
    with pytest.raises(ModelError, match="bands red, green, blue"):
        detector.detect(np.zeros((1, 4, 64, 64), np.uint8), ALL)
    with pytest.raises(ModelError, match="expected chips of type uint8"):
        detector.detect(np.zeros((1, 3, 64, 64), np.float32), ALL)


def test_pixels_that_are_nan_are_an_error(make_card: MakeCard) -> None:
    """On torch they would end in an error, on OpenVINO in boxes."""
    card = make_card(dtype="float32", value_range=(-20, 5))
    chips = np.zeros((1, 3, 64, 64), np.float32)
    check_chips(chips, card)
    chips[0, 1, 5, 7] = np.nan
    with pytest.raises(ModelError, match=r"got NaN pixels.* card's mean .*\(-10, -7\.5, -12\.5\)"):
        check_chips(chips, card)


def test_a_graph_that_openvino_cannot_use_is_an_error(
    info: CheckpointInfo, write_graph: Callable[..., Artifact]
) -> None:
    artifact = write_graph("fp32")
    text = artifact.path.read_text()
    artifact.path.write_text(text.replace('type="AvgPool"', 'type="Magic"'))
    with pytest.raises(ModelError, match="choose --backend torch"):
        load_backend(info, Backend("cpu", artifact))


def test_compiled_graphs_are_kept_where_that_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = openvino_runtime.cache_folder()
    assert folder is not None
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert openvino_runtime.cache_folder() is None


def test_the_openvino_path_does_not_load_torch(
    info: CheckpointInfo, write_graph: Callable[..., Artifact]
) -> None:
    write_graph("fp32")
    code = f"""
import sys, numpy as np
from geo_retina.detection.backends import load_model
from geo_retina.detection import file_run
model = load_model({str(info.path)!r}, device="cpu")
assert type(model.detector).__name__ == "OpenVinoDetector"
chip = np.full((3, 64, 64), 255, np.uint8)
assert len(model.detect_chip(chip)) == 64
assert "torch" not in sys.modules, "torch was loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what the backends share


def test_padding_is_the_mean_below_and_to_the_right(make_card: MakeCard) -> None:
    card = make_card(mean=(0.4, 0.5, 0.3))
    chips = np.full((2, 3, 30, 33), 9, dtype=np.uint8)
    padded = pad_chips(chips, card)
    assert padded.shape == (2, 3, 32, 64)
    assert padded.dtype == np.uint8
    np.testing.assert_array_equal(padded[:, :, :30, :33], chips)
    assert padded[1, :, 31, 0].tolist() == padded[1, :, 0, 63].tolist() == [102, 128, 76]
    whole = np.zeros((1, 3, 32, 64), dtype=np.uint8)
    assert pad_chips(whole, card) is whole


def test_impossible_thresholds_are_an_error(detector: Any, info: CheckpointInfo) -> None:
    with pytest.raises(ModelError, match="score in"):
        Model(detector, "torch", hash_file(info.path), info.path).detect_chip(
            np.zeros((3, 32, 32), np.uint8), score=1.5
        )


@pytest.mark.parametrize("pixels", [None, [[[0]]], "a.tif"])
def test_pixels_that_are_no_array_are_an_error(
    detector: Any, info: CheckpointInfo, pixels: Any
) -> None:
    with pytest.raises(ModelError, match="expected pixels as a NumPy array, got "):
        Model(detector, "torch", hash_file(info.path), info.path).detect_chip(pixels)


def test_openvino_starts_no_more_threads_than_a_container_may_run(
    detector: Any, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_runtime, "usable_cores", lambda: 1)
    monkeypatch.setattr(openvino_runtime, "visible_cores", lambda: 2)
    (artifact,) = matching_artifacts(info)
    compiled = openvino_runtime.compile_graph(artifact.path)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    chips = chips_with_squares((0, 2, 5))
    limited = load_backend(info, Backend("cpu", artifact))
    assert limited.batch == 1
    (found,), (expected,) = (one.detect(chips, ALL) for one in (limited, detector))
    assert found.detections.boxes.tolist() == expected.detections.boxes.tolist()


def test_a_model_that_was_loaded_before_a_fork_is_an_error(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chips = chips_with_squares((0, 2, 5))
    assert len(detector.detect(chips, ALL)) == 1
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ModelError, match="call load_model in each process"):
        detector.detect(chips, ALL)


def test_a_pickled_model_is_loaded_where_it_arrives(detector: Any, info: CheckpointInfo) -> None:
    model = Model(detector, "torch", hash_file(info.path), info.path)
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301  our own
    assert (sent.card, sent.hash) == (model.card, model.hash)
    (chip,) = chips_with_squares((0, 2, 5))
    assert sent.detect_chip(chip).boxes.tolist() == model.detect_chip(chip).boxes.tolist()


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_a_batch_is_a_number_of_chips(info: CheckpointInfo, batch: Any) -> None:
    for take in (load_model, runner_of):
        with pytest.raises(ConfigError, match="batch must be a whole number of at least 1, got "):
            take(info.path, batch=batch)


@pytest.mark.parametrize("device", [None, 1.5])
def test_a_device_is_a_name(device: Any) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        find_device(device)


def test_boxes_in_the_padding_are_no_finds(detector: Any, info: CheckpointInfo) -> None:
    """A chip that is no multiple of the stride is padded; a box there has no area on the chip."""
    chip = np.random.default_rng(4).integers(0, 255, (3, 45, 70), dtype=np.uint8)
    model = Model(detector, "torch", hash_file(info.path), info.path)
    found = model.detect_chip(chip, score=0.0, nms_iou=1.0)
    assert len(found) > 30
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (sides > 0).all()
