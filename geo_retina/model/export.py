"""Export a network to graphs that run without torch: ONNX for others, OpenVINO for this package.

Two layouts. `export_onnx` writes boxes and scores, ready to use, in the layout that QGIS's Deepness
plugin reads as `YOLO_v9`. `export_openvino` and `quantise` make the raw graph that
`detection.openvino_backend` runs: pixels of the card's data type in, logits and deltas out.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geo_retina.card import ModelCard
from geo_retina.errors import DependencyError, OutputError
from geo_retina.model.anchors import chip_anchors, decode
from geo_retina.model.artifacts import METADATA, WEIGHTS_HASH, Artifact, weights_hash
from geo_retina.model.checkpoint import CheckpointInfo, load_network
from geo_retina.model.openvino_import import load_openvino
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.model.settings import CHIP_MULTIPLE_PX
from geo_retina.model.thresholds import Thresholds
from geo_retina.whole_files import whole_file

if TYPE_CHECKING:
    import openvino as ov

_CENTIMETRES = 100
_DEEPNESS_WHITE = 255
_UNROUNDABLE_BITS = 16
_TRACED_PX = (4 * CHIP_MULTIPLE_PX, 5 * CHIP_MULTIPLE_PX)  # two sizes that are not mistaken


class RawNetwork(nn.Module):
    """Pixels of the card's data type in, raw outputs for every anchor out."""

    def __init__(self, network: RetinaNet, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map (N, bands, H, W) pixels to logits (N, A, K), deltas (N, A, 4), objectness (N, A).

        The last only where the score is factored.
        """
        card = self.card
        images = normalise(pixels, value_range=card.value_range, mean=card.mean, std=card.std)
        outputs = self.network(images)
        found = (outputs.logits, outputs.deltas)
        return found if outputs.objectness is None else (*found, outputs.objectness)


class BoxNetwork(nn.Module):
    """Pixels scaled to [0, 1] in, boxes and scores out, for chips of the card's size."""

    anchors: Tensor

    def __init__(self, network: RetinaNet, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card
        anchors = chip_anchors(
            network.settings.anchors,
            levels=network.settings.levels,
            height=card.chip_px,
            width=card.chip_px,
            device=torch.device("cpu"),
        )
        self.register_buffer("anchors", torch.cat(anchors))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, bands, chip_px, chip_px) images to (N, 4 + K, A): x, y, width, height, scores.

        x and y are the centre in pixels; boxes are clipped to the chip and their edges rounded to
        whole pixels, because Deepness cuts off fractions, which moves boxes up and left by half
        a pixel. Nothing is suppressed.
        """
        card = self.card
        images = normalise(images, value_range=(0, 1), mean=card.mean, std=card.std)
        outputs = self.network(images)
        scores = outputs.logits.sigmoid()
        if outputs.objectness is not None:
            scores = scores * outputs.objectness.sigmoid()[..., None]
        boxes = decode(outputs.deltas, self.anchors).clamp(0, card.chip_px).round()
        upper_left, lower_right = boxes[..., :2], boxes[..., 2:]
        centres, sides = (upper_left + lower_right) / 2, lower_right - upper_left
        return torch.cat([centres, sides, scores], dim=-1).transpose(1, 2)


def export_onnx(info: CheckpointInfo, path: Path) -> None:
    """Write boxes and scores as an ONNX file with everything inside, of any batch size.

    Its metadata is what QGIS's Deepness plugin (0.6.2) reads, and our card under `geo_retina_card`.

    Raises:
        ModelError: The weights are damaged.
        DependencyError: A library for exporting is missing.
        OutputError: The file cannot be written.
    """
    card = info.card
    image = torch.rand(2, len(card.bands), card.chip_px, card.chip_px)
    program = _to_onnx(
        BoxNetwork(load_network(info), card),
        image,
        input_name="images",
        output_names=["boxes"],
        dynamic={0: torch.export.Dim("batch")},
    )
    program.model.metadata_props.update(
        {key: json.dumps(value) for key, value in _deepness_metadata(card).items()}
    )
    program.model.metadata_props["geo_retina_card"] = card.model_dump_json()
    with whole_file(path, error=OutputError) as file:
        program.save(file)


def export_openvino(info: CheckpointInfo) -> "ov.Model":
    """Make the raw graph, in float32, for chips of any number and of multiples of 32 px.

    The way leads over ONNX, and then through the simplifications that OpenVINO's own converter
    makes: that converter reports its use to its maker.

    Raises:
        ModelError: The weights are damaged.
        DependencyError: A library for exporting is missing.
    """
    require("openvino")
    ov = load_openvino()
    from openvino._offline_transformations import apply_moc_transformations

    card = info.card
    height, width = _TRACED_PX
    pixels = torch.zeros(2, len(card.bands), height, width, dtype=getattr(torch, card.dtype))
    names = ["logits", "deltas", *(["objectness"] if info.network.head.objectness else [])]
    dim = torch.export.Dim
    program = _to_onnx(
        RawNetwork(load_network(info), card),
        pixels,
        input_name="pixels",
        output_names=names,
        dynamic={
            0: dim("batch"),
            2: CHIP_MULTIPLE_PX * dim("height"),
            3: CHIP_MULTIPLE_PX * dim("width"),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        program.save(file)
        graph = ov.Core().read_model(file)
    apply_moc_transformations(graph, cf=False, smart_reshape=False)
    return graph


def quantise(graph: "ov.Model", chips: Sequence[NDArray[Any]]) -> "ov.Model":
    """Make an int8 graph: weights and activations are rounded to 256 steps each.

    The last convolutions are rounded like all others: left in float32 they cost time and gain
    nothing (tree crowns' AP stays within 0.001).

    Args:
        graph: Of `export_openvino`.
        chips: (N, bands, H, W) batches of real pixels, of which the activations' ranges are taken.

    Raises:
        DependencyError: nncf is missing.
    """
    require("nncf")
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use to its maker
    import nncf

    return nncf.quantize(
        _taking_floats(graph),
        nncf.Dataset(chips),
        subset_size=len(chips),
        preset=nncf.QuantizationPreset.MIXED,  # activations may lie around any value
        fast_bias_correction=False,  # takes minutes; fast, crowns lose 0.002 AP
    )


def _taking_floats(graph: "ov.Model") -> "ov.Model":
    """The same graph; what it took as 16 bit integers it takes as float32, which hold them exactly.

    OpenVINO's CPU plugin rounds what it is given to int8 at once, which it cannot for 16 bit.
    """
    taking = graph.clone()
    (pixels,) = taking.get_parameters()
    if pixels.get_element_type().bitwidth == _UNROUNDABLE_BITS:
        pixels.set_element_type(load_openvino().Type.f32)
        taking.validate_nodes_and_infer_types()
    return taking


def write_openvino(graph: "ov.Model", artifact: Artifact) -> None:
    """Write a graph to `artifact.path` and its weights beside it, with the artifact's metadata.

    Raises:
        OutputError: The files cannot be written.
    """
    ov = load_openvino()
    for key, value in artifact.metadata().items():
        graph.set_rt_info(value, [METADATA, key])
    path = artifact.path
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            partial = Path(folder) / path.name
            ov.save_model(graph, partial, compress_to_fp16=False)
            graph.set_rt_info(weights_hash(partial.with_suffix(".bin")), [METADATA, WEIGHTS_HASH])
            ov.save_model(graph, partial, compress_to_fp16=False)
            partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
            partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write the graph {path}: {error}") from error


def note_in_openvino(artifact: Artifact) -> None:
    """Renew the metadata of a graph that `write_openvino` wrote.

    Raises:
        OutputError: The files cannot be written.
    """
    core = load_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})  # the files that are read are also replaced
    write_openvino(core.read_model(artifact.path), artifact)


def _to_onnx(
    network: nn.Module,
    example: Tensor,
    *,
    input_name: str,
    output_names: list[str],
    dynamic: dict[int, object],
) -> torch.onnx.ONNXProgram:
    require("onnx", "onnxscript")
    program = torch.onnx.export(
        network.eval(),
        (example,),
        dynamo=True,
        input_names=[input_name],
        output_names=output_names,
        dynamic_shapes=(dynamic,),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing, although dynamo was asked for")
    return program


def _deepness_metadata(card: ModelCard) -> dict[str, object]:
    """What the plugin's `model_base.py` looks up; every value is read as JSON.

    As `YOLO_Ultralytics`, whose layout is the same, it drops all but the first chip of a batch.
    """
    low, high = card.value_range
    return {
        "model_type": "Detector",
        "det_type": "YOLO_v9",
        "class_names": dict(enumerate(card.class_names)),
        "resolution": card.gsd_m * _CENTIMETRES,
        "tile_size": card.chip_px,
        "tiles_overlap": -(-100 * card.overlap_px // card.chip_px),  # percent, rounded up
        "det_conf": Thresholds.of(card).score,  # it knows one for all classes
        "det_iou_thresh": card.nms_iou,
        # It divides pixels of every type by 255, subtracts the mean and divides by std.
        "standardization_mean": [low / _DEEPNESS_WHITE] * len(card.bands),
        "standardization_std": [(high - low) / _DEEPNESS_WHITE] * len(card.bands),
    }


def require(*libraries: str) -> None:
    """Raise unless all of these are installed.

    Raises:
        DependencyError: Names those that are missing.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise DependencyError(
            f"this export needs {' and '.join(missing)}, which detection does not: "
            f"`pip install {' '.join(missing)}`, or in a checkout run it with "
            f"`uv run --with {','.join(missing)} geo-retina export ...`"
        )
