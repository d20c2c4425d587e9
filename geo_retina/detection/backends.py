"""Choose what runs a network, and load it: torch or OpenVINO behind one `Detector`."""

import ctypes
import logging
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from geo_retina import defaults
from geo_retina.card import ModelCard
from geo_retina.detection.detector import ChipResult, Detector, Thresholds
from geo_retina.detection.openvino_backend import OpenVinoDetector
from geo_retina.detection.torch_backend import TorchDetector
from geo_retina.detection.torch_device import find_device
from geo_retina.errors import ConfigError, DependencyError, DeviceError, ModelError
from geo_retina.model.artifacts import Artifact, matching_artifacts
from geo_retina.model.checkpoint import CheckpointInfo, read_info
from geo_retina.space.detections import Detections

__all__ = [
    "Backend",
    "BackendName",
    "ChipResult",
    "Detector",
    "Model",
    "Thresholds",
    "choose_backend",
    "find_device",
    "load_detector",
    "load_model",
]

_log = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "openvino"]


@dataclass(frozen=True, slots=True)
class Backend:
    """What will run a network."""

    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    artifact: Artifact | None = None
    """The graph for OpenVINO; None = torch."""

    @property
    def name(self) -> str:
        """`torch`, `torch-cuda`, `openvino-int8` or `openvino-fp32`: one name, one rounding."""
        if self.artifact is not None:
            return f"openvino-{self.artifact.precision}"
        return "torch-cuda" if self.device.startswith("cuda") else "torch"


class Model:
    """A model ready for use, for callers that bring their own reader."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

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
            score: Least score in [0, 1]; None = the card's.
            nms_iou: Overlap above which the lower-scored box goes; None = the card's.

        Returns:
            Boxes in pixel edges of the chip, highest score first.

        Raises:
            ModelError: The shape or the data type is not what the card states.
        """
        card = self.card
        thresholds = replace(
            Thresholds.of(card),
            score=card.score if score is None else score,
            nms_iou=card.nms_iou if nms_iou is None else nms_iou,
        )
        (result,) = self.detector.detect(pixels[None], thresholds)
        if result.saturated:
            _log.warning("the chip reached the limit of boxes: there may be more objects")
        return result.detections


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
        ModelError: The model is unknown or its file is damaged.
        DeviceError: The device is not there.
        ConfigError: The backend is unknown.
    """
    info = read_info(model)
    return Model(load_detector(info, device=device, batch=batch, backend=backend))


def load_detector(
    info: CheckpointInfo,
    *,
    device: str = "auto",
    batch: int | None = None,
    backend: str = "auto",
) -> Detector:
    """Load the weights of a checkpoint, or a graph exported from them, onto a device.

    Args:
        info: The checkpoint.
        device: `auto`, `cpu`, `cuda`, `cuda:1`...
        batch: Chips at once; None chooses.
        backend: See `choose_backend`.

    Raises:
        ModelError: The weights are damaged.
        DeviceError: The device is not there.
        ConfigError: The backend is unknown.
    """
    return load_backend(info, choose_backend(info, backend=backend, device=device), batch=batch)


def load_backend(info: CheckpointInfo, backend: Backend, *, batch: int | None = None) -> Detector:
    """Load what `choose_backend` chose.

    Raises:
        ModelError: The weights or the graph are damaged.
        DeviceError: The device is not there.
    """
    _log.info("the network runs on %s", backend.name)
    if backend.artifact is None:
        return TorchDetector(info, find_device(backend.device), batch)
    return OpenVinoDetector(info, backend.artifact, batch)


def choose_backend(info: CheckpointInfo, *, backend: str = "auto", device: str = "auto") -> Backend:
    """Choose what runs a network; nothing is loaded, and on a machine without CUDA not even torch.

    `auto` takes OpenVINO on a CPU where it is installed and a graph lies beside the checkpoint that
    was made from it and gives what it gives (see `Artifact.is_faithful`), and torch otherwise.
    `openvino` takes the best graph beside the checkpoint, a faithful one if there is any.

    Args:
        info: The checkpoint.
        backend: `auto`, `torch` or `openvino`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: The backend is unknown.
        DeviceError: The device is not there, or not one of the backend's.
        DependencyError: `openvino` was asked for and is not installed.
        ModelError: `openvino` was asked for, and there is no graph of these weights.
    """
    if backend not in get_args(BackendName):
        raise ConfigError(
            f"unknown backend {backend!r}; expected {', '.join(get_args(BackendName))}"
        )
    if backend == "openvino":
        return Backend("cpu", _asked_for(info, device))
    if device not in ("auto", "cpu"):
        return Backend(str(find_device(device)))
    if _takes_cuda(device):
        return Backend("cuda")
    if backend == "auto" and find_spec("openvino"):
        faithful = [item for item in matching_artifacts(info) if item.is_faithful]
        if faithful:
            return Backend("cpu", faithful[0])
    return Backend("cpu")


def _asked_for(info: CheckpointInfo, device: str) -> Artifact:
    if device not in ("auto", "cpu"):
        raise DeviceError(f"backend openvino runs on the CPU, got --device {device}; leave it out")
    if find_spec("openvino") is None:
        raise DependencyError(
            "backend openvino needs the library: `pip install openvino`, or choose --backend torch"
        )
    artifacts = matching_artifacts(info)
    if not artifacts:
        raise ModelError(
            f"no OpenVINO graph of these weights lies beside {info.path}; make one with "
            f"`geo-retina export {info.path} --to openvino-fp32`, or choose --backend torch"
        )
    return next((item for item in artifacts if item.is_faithful), artifacts[0])


def _takes_cuda(device: str) -> bool:
    """Whether this device is a GPU; torch is asked only where CUDA's driver is installed."""
    if device == "cpu":
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return find_device(device).type == "cuda"
