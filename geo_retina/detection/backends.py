"""Choose what runs a network, and load it: torch or OpenVINO behind one `Detector`."""

import ctypes
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geo_retina import defaults
from geo_retina.card import ModelCard
from geo_retina.detection.detector import Detector, check_batch
from geo_retina.detection.fingerprints import hash_file
from geo_retina.detection.openvino_backend import OpenVinoDetector
from geo_retina.detection.openvino_runtime import has_bfloat16
from geo_retina.detection.torch_backend import TorchDetector
from geo_retina.detection.torch_device import find_device
from geo_retina.errors import ConfigError, DependencyError, DeviceError, ModelError
from geo_retina.model.artifacts import Artifact, matching_artifacts
from geo_retina.model.checkpoint import CheckpointInfo, read_info
from geo_retina.model.thresholds import Thresholds
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.wording import shown

_log = logging.getLogger(__name__)

BackendName = Literal[
    "auto", "torch", "openvino", "openvino-int8", "openvino-fp32", "openvino-bf16"
]


@dataclass(frozen=True, slots=True)
class Backend:
    """What will run a network."""

    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    artifact: Artifact | None = None
    """The graph for OpenVINO; None = torch."""
    bfloat16: bool = False
    """Compute a graph of float32 in bfloat16."""

    @property
    def name(self) -> str:
        """`torch`, `torch-cuda` or `openvino-int8`, `-fp32`, `-bf16`: one name, one rounding."""
        if self.artifact is not None:
            return "openvino-bf16" if self.bfloat16 else f"openvino-{self.artifact.precision}"
        return "torch-cuda" if self.device.startswith("cuda") else "torch"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A loaded model, for many rasters or for callers that bring their own reader."""

    detector: Detector
    """What runs the network."""
    backend: str
    """What that runs on, see `Backend.name`."""
    hash: str
    """Of the checkpoint when it was loaded, see `hash_file`, or of what stands for one."""
    file: Path | None = None
    """The checkpoint; None where the detector is the caller's own."""
    chips_grow: bool = True
    """Whether chips may be larger than the card's, see `fitting_chip_px`."""

    @property
    def card(self) -> ModelCard:
        """What the model expects, finds and was measured at."""
        return self.detector.card

    def detect_chip(
        self,
        pixels: NDArray[Any],
        *,
        score: float | None = None,
        nms_iou: float | None = None,
    ) -> Detections:
        """Find objects on one chip.

        Args:
            pixels: (bands, height, width) in the card's band order, data type and GSD.
            score: Least score in [0, 1] of all classes; None = the card's.
            nms_iou: Overlap above which the lower-scored box goes; None = the card's.

        Returns:
            Boxes in pixel edges of the chip, highest score first.

        Raises:
            ModelError: The shape or the data type is not what the card states, or `score` or
                `nms_iou` is out of range.
        """
        card = self.card
        thresholds = replace(
            Thresholds.of(card, score=score),
            nms_iou=card.nms_iou if nms_iou is None else nms_iou,
        )
        if not isinstance(pixels, np.ndarray):
            raise ModelError(f"expected pixels as a NumPy array, got {shown(pixels)}")
        (result,) = self.detector.detect(pixels[None], thresholds)
        if result.saturated:
            _log.warning("the chip reached the limit of boxes: there may be more objects")
        found = thresholds.reached(result.detections)  # those without area lie in the padding
        return found.select(box_arrays.area(found.boxes) > 0)


def load_model(
    model: str | Path = defaults.MODEL,
    *,
    device: str = "auto",
    batch: int | None = None,
    backend: str = "auto",
) -> Model:
    """Load a model by name or from a checkpoint.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        device: `auto`, `cpu`, `cuda`, `cuda:1`...
        batch: Chips at once; None chooses.
        backend: See `choose_backend`.

    Raises:
        ModelError: The model is unknown, its file is damaged, or it has no graph for the backend.
        DeviceError: The device is not there.
        DependencyError: The backend's library is not installed.
        ConfigError: The backend is unknown, or `batch` is no number of chips.
    """
    check_batch(batch)
    info = read_info(model)
    chosen = choose_backend(info, backend=backend, device=device)
    detector = load_backend(info, chosen, batch=batch)
    return Model(detector, chosen.name, hash_file(info.path), info.path)


@dataclass(frozen=True, slots=True)
class Runner:
    """What will run a network, perhaps not loaded yet."""

    name: str
    """See `Backend.name`."""
    model_hash: str
    """Of the checkpoint, see `hash_file`."""
    load: Callable[[], Detector]


def runner_of(
    model: str | Path | Model,
    *,
    device: str = "auto",
    backend: str = "auto",
    batch: int | None = None,
) -> Runner:
    """What runs a model: as it was loaded, or as chosen now and loaded when that is asked for.

    Args:
        model: Name, path, or what `load_model` gave.
        device: See `choose_backend`.
        backend: See `choose_backend`.
        batch: Chips at once; None chooses.

    Raises:
        ConfigError: The backend is unknown, or an option is given for a model that is loaded.
        DeviceError, DependencyError, ModelError: See `choose_backend`.
    """
    check_batch(batch)
    if not isinstance(model, Model):
        info = read_info(model)
        chosen = choose_backend(info, backend=backend, device=device)
        return Runner(
            chosen.name, hash_file(info.path), lambda: load_backend(info, chosen, batch=batch)
        )
    if (device, backend, batch) != ("auto", "auto", None):
        remedy = (
            "give them to load_model"
            if model.file is not None
            else "give batch to wrap_detector; the device is your function's matter"
        )
        raise ConfigError(
            f"the model is loaded, so device={device!r}, backend={backend!r}, batch={batch!r} have "
            f"no effect; {remedy}"
        )
    return Runner(model.backend, model.hash, lambda: model.detector)


def load_backend(info: CheckpointInfo, backend: Backend, *, batch: int | None = None) -> Detector:
    """Load what `choose_backend` chose.

    Raises:
        ModelError: The weights or the graph are damaged.
        DeviceError: The device is not there.
        DependencyError: It takes torch, which is not installed.
    """
    if backend.artifact is None and find_spec("torch") is None:
        raise DependencyError(
            f"{info.card.name} needs torch, which is not installed: `pip install torch "
            "torchvision timm`. Models with an OpenVINO graph beside them do without"
        )
    _log.info("the network runs on %s", backend.name)
    if backend.artifact is not None:
        return OpenVinoDetector(info, backend.artifact, batch, bfloat16=backend.bfloat16)
    if backend.device == "cpu":
        _log.info("on a CPU, int8 takes a quarter of the time: see `geo-retina export --help`")
    return TorchDetector(info, find_device(backend.device), batch)


def choose_backend(info: CheckpointInfo, *, backend: str = "auto", device: str = "auto") -> Backend:
    """Choose what runs a network; nothing is loaded, and on a machine without CUDA not even torch.

    `auto` takes OpenVINO on a CPU where it is installed and a graph lies beside the checkpoint that
    was made from it and gives what it gives (see `Artifact.is_faithful`), and torch otherwise.
    `openvino` takes the best graph beside the checkpoint, a faithful one if there is any,
    `openvino-int8` and `openvino-fp32` that very graph, and `openvino-bf16` computes the float32
    one in bfloat16.

    Args:
        info: The checkpoint.
        backend: One of these.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: The backend is unknown.
        DeviceError: The device is not there, or not one of the backend's; or it cannot compute in
            bfloat16, which was asked for.
        DependencyError: OpenVINO was asked for and is not installed.
        ModelError: OpenVINO was asked for, and there is no such graph of these weights.
    """
    if backend not in get_args(BackendName):
        raise ConfigError(
            f"unknown backend {backend!r}; expected {', '.join(get_args(BackendName))}"
        )
    if backend.startswith("openvino"):
        return _openvino(info, backend, device)
    if device not in ("auto", "cpu"):
        return Backend(str(find_device(device)))
    if _takes_cuda(device):
        return Backend("cuda")
    if backend == "auto" and find_spec("openvino"):
        faithful = [item for item in matching_artifacts(info) if item.is_faithful]
        if faithful:
            return Backend("cpu", faithful[0])
    return Backend("cpu")


def _openvino(info: CheckpointInfo, backend: str, device: str) -> Backend:
    if device not in ("auto", "cpu"):
        raise DeviceError(f"backend {backend} runs on the CPU, got --device {device}; leave it out")
    if find_spec("openvino") is None:
        raise DependencyError(
            f"backend {backend} needs OpenVINO: `pip install openvino`, or choose --backend torch"
        )
    bfloat16 = backend == "openvino-bf16"
    if bfloat16 and not has_bfloat16():
        raise DeviceError(
            "this processor does not compute in bfloat16; choose --backend openvino-fp32"
        )
    wanted = "fp32" if bfloat16 else backend.removeprefix("openvino").removeprefix("-")
    artifacts = [item for item in matching_artifacts(info) if wanted in ("", item.precision)]
    if not artifacts:
        raise ModelError(
            f"no OpenVINO graph{f' in {wanted}' if wanted else ''} of these weights lies beside "
            f"{info.path}; make one with `geo-retina export {info.path} --to "
            f"openvino-{wanted or 'fp32'}`, or choose --backend torch"
        )
    faithful = (item for item in artifacts if item.is_faithful)
    return Backend("cpu", next(faithful, artifacts[0]), bfloat16=bfloat16)


def _takes_cuda(device: str) -> bool:
    """Whether this device is a GPU; torch is asked only where it and CUDA's driver are there."""
    if device == "cpu" or (device == "auto" and find_spec("torch") is None):
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return find_device(device).type == "cuda"
