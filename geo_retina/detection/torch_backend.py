"""The torch backend: any network, on a CPU or a CUDA device."""

import logging
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.detector import ChipResult, Thresholds, check_chips, pad_chips
from geo_retina.errors import DeviceError
from geo_retina.model.checkpoint import CheckpointInfo, load_network
from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    import torch

    from geo_retina.model.decode import ChipBoxes

_log = logging.getLogger(__name__)

_CUDA_BATCH = 16
_CPU_BATCH = 1  # the cores share one chip: a larger batch only takes more memory


class TorchDetector:
    """The RetinaNet on torch, on a CPU or a CUDA device."""

    def __init__(
        self, info: CheckpointInfo, device: "torch.device", batch: int | None = None
    ) -> None:
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
            ModelError: The shape or the data type is not what the card states, or the outputs are
                not numbers.
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
            values = torch.from_numpy(pad_chips(pixels, card)).to(self._device)
            images = normalise(values, value_range=card.value_range, mean=card.mean, std=card.std)
            images = images.contiguous(memory_format=torch.channels_last)
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


def _to_result(found: "ChipBoxes") -> ChipResult:
    detections = Detections.of(
        found.boxes.cpu().numpy(), found.scores.cpu().numpy(), found.class_ids.cpu().numpy()
    )
    return ChipResult(detections, found.saturated)
