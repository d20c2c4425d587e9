"""Exports of real networks give what torch gives. Exporting takes seconds: most of it is slow."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geo_retina.card import ModelCard
from geo_retina.detection.backends import Backend, load_backend
from geo_retina.errors import DependencyError
from geo_retina.model import export
from geo_retina.model.artifacts import Artifact, artifact_path, network_hash, read_artifact
from geo_retina.model.checkpoint import (
    CheckpointInfo,
    load_network,
    read_info,
    save_checkpoint,
)
from geo_retina.model.decode import decode_chips
from geo_retina.model.heads import HeadOutputs
from geo_retina.model.retinanet import build_retinanet, normalise
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)
from geo_retina.model.thresholds import Thresholds

EXAMPLE = Path(__file__).parents[2] / "examples" / "niwot_ridge.tif"
EVERYTHING = Thresholds(0.02, 0.5, 300, 200)


@pytest.fixture(scope="module")
def make_info(
    tmp_path_factory: pytest.TempPathFactory, make_card: Callable[..., ModelCard]
) -> Callable[..., CheckpointInfo]:
    """`make_info(objectness=False, separable=False, **card)`: a checkpoint of a small network that
    finds things."""

    def make(*, objectness: bool = False, separable: bool = False, **card: Any) -> CheckpointInfo:
        torch.manual_seed(3)
        settings = NetworkSettings(
            num_classes=len(card.get("class_names", ("tree",))),
            backbone=BackboneSettings(name="timm:test_efficientnet", frozen_batch_norm=False),
            levels=(2, 3, 4),
            pyramid_width=16,
            separable=separable,
            head=HeadSettings(depth=1, width=16, objectness=objectness),
            anchors=AnchorSettings(sizes=((12,), (24,), (48,)), ratios=(1.0,)),
        )
        network = build_retinanet(settings).eval()
        for subnet in (network.heads.classes, network.heads.boxes):
            first = subnet.tower[0][1] if separable else subnet.tower[0]
            for layer in (first, subnet.last):
                torch.nn.init.normal_(layer.weight, std=0.6 if separable else 0.2)
        path = tmp_path_factory.mktemp("network") / "small.safetensors"
        save_checkpoint(path, network, make_card(**card))
        return read_info(path)

    return make


@pytest.fixture
def chips() -> Any:
    """(4, 3, 200, 200) real pixels, neither black nor of the network's multiples."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(EXAMPLE) as raster:
        pixels = raster.read([1, 2, 3])
    return np.stack([pixels[:, row : row + 200, 60:260] for row in (0, 50, 100, 150)])


def assert_agree(first: Any, second: Any, *, least_found: int) -> None:
    """Both found the same boxes; scores that hardly differ may have swapped."""
    assert len(first.detections) == len(second.detections) >= least_found
    assert first.saturated == second.saturated
    np.testing.assert_allclose(first.detections.scores, second.detections.scores, atol=1e-4)
    keys = [
        np.lexsort((*found.boxes.round(1).T, found.class_ids))
        for found in (first.detections, second.detections)
    ]
    boxes = [found.detections.boxes[key] for found, key in zip((first, second), keys, strict=True)]
    np.testing.assert_allclose(*boxes, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "card"),
    [
        ({}, {}),
        ({"objectness": True}, {"class_names": ("tree", "shrub")}),
        ({"separable": True}, {}),
        ({}, {"dtype": "uint16", "value_range": (0, 255)}),
    ],
    ids=["one class", "objectness", "separable", "uint16"],
)
def test_openvino_finds_what_torch_finds(
    make_info: Callable[..., CheckpointInfo],
    chips: Any,
    network: dict[str, bool],
    card: dict[str, Any],
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    info = make_info(**network, **card)
    artifact = Artifact(artifact_path(info.path, "fp32"), "fp32", network_hash(info))
    export.write_openvino(export.export_openvino(info), artifact)
    assert read_artifact(artifact.path) == artifact
    pixels = chips.astype(info.card.dtype)
    by_torch = load_backend(info, Backend("cpu")).detect(pixels, EVERYTHING)
    by_openvino = load_backend(info, Backend("cpu", artifact)).detect(pixels, EVERYTHING)
    for expected, found in zip(by_torch, by_openvino, strict=True):
        assert_agree(expected, found, least_found=5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_int8_finds_about_what_torch_finds(
    make_info: Callable[..., CheckpointInfo], chips: Any, dtype: str
) -> None:
    pytest.importorskip("nncf")
    info, chips = make_info(dtype=dtype, value_range=(0, 255)), chips.astype(dtype)
    graph = export.quantise(
        export.export_openvino(info), [chip[None, :, :192, :192] for chip in chips]
    )
    kinds = [node.get_type_name() for node in graph.get_ops()]
    assert "FakeQuantize" in kinds
    artifact = Artifact(artifact_path(info.path, "int8"), "int8", network_hash(info))
    export.write_openvino(graph, artifact)
    by_torch = load_backend(info, Backend("cpu")).detect(chips, EVERYTHING)
    by_int8 = load_backend(info, Backend("cpu", artifact)).detect(chips, EVERYTHING)
    for expected, found in zip(by_torch, by_int8, strict=True):
        assert min(len(expected.detections), len(found.detections)) >= 5
        assert found.detections.scores[:5] == pytest.approx(expected.detections.scores[:5], abs=0.1)


@pytest.mark.slow
def test_onnx_holds_boxes_and_what_deepness_reads(
    make_info: Callable[..., CheckpointInfo], tmp_path: Path, chips: Any
) -> None:
    ov = pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    info = make_info(
        class_names=("tree", "shrub"),
        chip_px=128,
        overlap_px=40,
        gsd_m=0.25,
        dtype="uint16",
        value_range=(102.0, 3162.0),
        class_scores={"shrub": 0.2},
    )
    path = tmp_path / "small.onnx"
    export.export_onnx(info, path)
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]

    file = onnx.load(path)
    told = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert ModelCard.model_validate(told.pop("geo_retina_card")) == info.card
    assert told == {
        "model_type": "Detector",
        "det_type": "YOLO_v9",
        "class_names": {"0": "tree", "1": "shrub"},
        "resolution": 25,
        "tile_size": 128,
        "tiles_overlap": 32,
        "det_conf": 0.2,
        "det_iou_thresh": 0.5,
        "standardization_mean": [0.4] * 3,
        "standardization_std": [12.0] * 3,
    }
    (entry,), (result,) = file.graph.input, file.graph.output
    shapes = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (entry, result)
    ]
    anchors = 32**2 + 16**2 + 8**2
    assert shapes == [["batch", 3, 128, 128], ["batch", 6, anchors]]

    pixels = chips[:3, :, :128, :128].astype(np.uint16) * 12 + 102
    images = (pixels / 255 - told["standardization_mean"][0]) / told["standardization_std"][0]
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled(images.astype(np.float32)).values()
    expected = _boxes_by_torch(info, pixels)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-4)
    edges = _edges(found)
    np.testing.assert_array_equal(edges, edges.astype(int))  # so that cutting them moves nothing
    np.testing.assert_allclose(edges, _edges(expected), atol=0.502)


def _edges(boxes: Any) -> Any:
    """(N, 4, A): x_min, y_min, x_max, y_max of centres and sides, as the plugin computes them."""
    centres, sides = boxes[:, :2], boxes[:, 2:4]
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def _boxes_by_torch(info: CheckpointInfo, pixels: Any) -> Any:
    """(N, 4 + K, A): the boxes of every anchor, decoded one by one."""
    network, card = load_network(info), info.card
    with torch.inference_mode():
        images = normalise(
            torch.from_numpy(pixels.copy()),
            value_range=card.value_range,
            mean=card.mean,
            std=card.std,
        )
        outputs, anchors = network(images), network.anchors(images)
        found = []
        for number in range(outputs.logits.shape[1]):
            alone = HeadOutputs(
                torch.full_like(outputs.logits[:, :, :1], 1.0)[:, [number]],
                outputs.deltas[:, [number]],
                None,
                (1,),
            )
            decoded = decode_chips(
                alone,
                [torch.cat(anchors)[[number]]],
                height=card.chip_px,
                width=card.chip_px,
                thresholds=Thresholds(0.05, 0.5, 1000, 300),
            )
            found.append(torch.cat([chip.boxes for chip in decoded]))
        boxes = torch.stack(found, dim=2)  # (N, 4, A)
        scores = outputs.logits.sigmoid().transpose(1, 2)
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return torch.cat([centres, sides, scores], dim=1).numpy()


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_a_missing_library_is_named(
    make_info: Callable[..., CheckpointInfo],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
) -> None:
    there = find_spec("torch")  # stands for every library that is installed
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == library else there)
    with pytest.raises(DependencyError, match=f"needs {library},.*--with {library}"):
        export.export_onnx(make_info(), tmp_path / "a.onnx")


def test_missing_libraries_are_named_at_once(
    make_info: Callable[..., CheckpointInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    with pytest.raises(DependencyError, match="`pip install onnx onnxscript`"):
        export.export_onnx(make_info(), tmp_path / "a.onnx")


def test_int8_without_nncf_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    with pytest.raises(DependencyError, match="--with nncf"):
        export.quantise(None, [])
