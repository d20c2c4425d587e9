"""What runs the network: the `Detector` protocol, and torch behind it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import DeviceError, ModelError
from geo_retina.model.checkpoint import CheckpointInfo, load_network, read_info
from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    import torch

    from geo_retina.model.decode import ChipBoxes

_log = logging.getLogger(__name__)

_CUDA_BATCH = 16
_CPU_BATCH = 1  # the cores share one chip: a larger batch only takes more memory


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as found on one chip, and how many boxes are kept."""

    score: float
    """Boxes with a lower score are dropped; in [0, 1]."""
    nms_iou: float
    """Of two boxes of one class that overlap more, the lower-scored one is dropped; in (0, 1]."""
    candidates_per_level: int
    """Highest-scored anchors of each level that are decoded."""
    detections_per_chip: int
    """Most boxes of one chip."""

    @classmethod
    def of(cls, card: ModelCard) -> "Thresholds":
        """What the card states."""
        return cls(card.score, card.nms_iou, card.candidates_per_level, card.detections_per_chip)


@dataclass(frozen=True, slots=True)
class ChipResult:
    """What was found on one chip."""

    detections: Detections
    """Boxes in the chip's frame: (0, 0) is its upper-left corner."""
    saturated: bool
    """Whether a limit cut the boxes or the candidates: there may be more objects."""


class Detector(Protocol):
    """Finds objects on chips. One thread at a time."""

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""

    @property
    def batch(self) -> int:
        """How many chips to pass at once."""

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type."""


class TorchDetector:
    """The RetinaNet on torch, on a CPU or a CUDA device."""

    def __init__(self, info: CheckpointInfo, device: "torch.device", batch: int | None) -> None:
        import torch

        self._info = info
        self._device = device
        self.batch = batch or (_CUDA_BATCH if device.type == "cuda" else _CPU_BATCH)
        network = load_network(info).to(device)
        self._network = network.to(memory_format=torch.channels_last)

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""
        return self._info.card

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type.

        A batch that does not fit the device's memory is halved until it does.

        Raises:
            ModelError: The shape or the data type is not what the card states.
            DeviceError: Not even one chip fits the device's memory.
        """
        import torch

        check_chips(pixels, self.card)
        results: list[ChipResult] = []
        while len(results) < len(pixels):
            part = pixels[len(results) : len(results) + self.batch]
            try:
                results += [_to_result(boxes) for boxes in self._forward(part, thresholds)]
            except torch.cuda.OutOfMemoryError as error:
                if self.batch == 1:
                    height, width = pixels.shape[-2:]
                    raise DeviceError(
                        f"one chip of {height} x {width} px does not fit the memory of "
                        f"{self._device}; choose a smaller --chip or --device cpu"
                    ) from error
                self.batch = max(min(self.batch, len(part)) // 2, 1)
                torch.cuda.empty_cache()
                _log.warning("out of memory on %s: batch is now %d", self._device, self.batch)
        return results

    def _forward(self, pixels: NDArray[Any], thresholds: Thresholds) -> "list[ChipBoxes]":
        import torch

        from geo_retina.model.decode import DecodeSettings, decode_chips
        from geo_retina.model.retinanet import normalise

        card, (height, width) = self.card, pixels.shape[-2:]
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
            images = normalise(values, value_range=card.value_range, mean=card.mean, std=card.std)
            padding = (0, -width % 32, 0, -height % 32)  # with 0, the mean
            images = torch.nn.functional.pad(images, padding).contiguous(
                memory_format=torch.channels_last
            )
            return decode_chips(
                self._network(images),
                self._network.anchors(images),
                height=height,
                width=width,
                settings=DecodeSettings(
                    score=thresholds.score,
                    nms_iou=thresholds.nms_iou,
                    candidates_per_level=thresholds.candidates_per_level,
                    detections_per_chip=thresholds.detections_per_chip,
                ),
            )


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
        thresholds = Thresholds(
            card.score if score is None else score,
            card.nms_iou if nms_iou is None else nms_iou,
            card.candidates_per_level,
            card.detections_per_chip,
        )
        (result,) = self.detector.detect(pixels[None], thresholds)
        if result.saturated:
            _log.warning("the chip reached the limit of boxes: there may be more objects")
        return result.detections


def load_model(
    model: str | Path = "tree-crowns", *, device: str = "auto", batch: int | None = None
) -> Model:
    """Load a model by name or from a checkpoint.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        device: `auto`, `cpu`, `cuda`, `cuda:1`...
        batch: Chips at once; None chooses.

    Raises:
        ModelError: The model is unknown or its file is damaged.
        DeviceError: The device is not there.
    """
    return Model(load_detector(read_info(model), device=device, batch=batch))


def load_detector(
    info: CheckpointInfo, *, device: str = "auto", batch: int | None = None
) -> Detector:
    """Load the weights of a checkpoint onto a device.

    Raises:
        ModelError: The weights are damaged.
        DeviceError: The device is not there.
    """
    return TorchDetector(info, find_device(device), batch)


def find_device(name: str) -> "torch.device":
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    Raises:
        DeviceError: The name is unknown or the device is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices are visible; "
            "choose --device cpu or auto"
        )
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    return device


def check_chips(pixels: NDArray[Any], card: ModelCard) -> None:
    """Compare an array of chips with what the card states.

    Raises:
        ModelError: They differ.
    """
    if pixels.ndim != 4 or pixels.shape[1] != len(card.bands):  # noqa: PLR2004
        raise ModelError(
            f"expected chips of shape (N, {len(card.bands)}, height, width) with the bands "
            f"{', '.join(card.bands)}, got {pixels.shape}"
        )
    if pixels.dtype != np.dtype(card.dtype):
        raise ModelError(
            f"expected chips of type {card.dtype} with values from {card.value_range[0]:g} to "
            f"{card.value_range[1]:g}, got {pixels.dtype}; scale the values first"
        )


def _to_result(found: "ChipBoxes") -> ChipResult:
    detections = Detections.of(
        found.boxes.cpu().numpy(), found.scores.cpu().numpy(), found.class_ids.cpu().numpy()
    )
    return ChipResult(detections, found.saturated)
