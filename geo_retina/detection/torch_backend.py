"""The torch backend: any network, on a CPU or a CUDA device."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.cuda_pipe import CudaPipe
from geo_retina.detection.decoding import with_decay
from geo_retina.detection.detector import (
    ChipResult,
    Done,
    Pending,
    Thresholds,
    check_chips,
    pad_chips,
)
from geo_retina.errors import DeviceError
from geo_retina.model.checkpoint import CheckpointInfo, load_network
from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    import torch

    from geo_retina.model.decode import ChipBoxes
    from geo_retina.model.heads import HeadOutputs

_log = logging.getLogger(__name__)

_FIRST_CUDA_BATCH = 4  # its peak memory tells how many chips fit
_LARGEST_CUDA_BATCH = 32  # by then a GPU is busy, and chips that wait take host memory
_CPU_BATCH = 1  # the cores share one chip: a larger batch only takes more memory


class TorchDetector:
    """The RetinaNet on torch, on a CPU or a CUDA device.

    On a CPU everything is done when it is asked for. On a GPU, chips travel as they are (a quarter
    of the bytes of float32) from pinned memory, are scaled there and go through the network in
    bfloat16, where the GPU has it: float32's range at half its size. Candidates are chosen, decoded
    and suppressed there too; only boxes come back. One batch is decoded while the next one runs.

    The batch is found by trial: the first one shows how much memory a chip takes. A batch that does
    not fit after all is halved.
    """

    def __init__(
        self, info: CheckpointInfo, device: "torch.device", batch: int | None = None
    ) -> None:
        import torch

        from geo_retina.model.retinanet import band_scale

        self._info = info
        self._device = device
        self._pipe = CudaPipe(device) if device.type == "cuda" else None
        self._is_trial = batch is None and self._pipe is not None
        self.batch = batch or (_FIRST_CUDA_BATCH if self._pipe else _CPU_BATCH)
        network = load_network(info).to(device)
        self._network = network.to(memory_format=torch.channels_last)
        card = info.card
        self._scale = band_scale(
            value_range=card.value_range, mean=card.mean, std=card.std, device=device
        )
        self._anchors: dict[tuple[int, int], list[torch.Tensor]] = {}

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""
        return self._info.card

    @property
    def in_flight(self) -> int:
        """See `BackgroundDetector`: a CPU works on one batch at a time."""
        return 0 if self._pipe is None else 1

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type.

        A batch that does not fit the device's memory is halved until it does.

        Raises:
            ModelError: The shape or the data type is not what the card states, or the outputs are
                not numbers.
            DeviceError: Not even one chip fits the device's memory.
        """
        check_chips(pixels, self.card)
        return self._detect(list(pixels), thresholds)

    def start(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> Pending:
        """Start a batch; see `BackgroundDetector`. Raises what `detect` does."""
        import torch

        for chip in chips:
            check_chips(chip[None], self.card)
        if self._pipe is None:
            return Done(self._detect(chips, thresholds))
        try:
            return _Running(self, self._forward(chips), thresholds)
        except torch.cuda.OutOfMemoryError as error:
            self._shrink(chips, error)
            return Done(self._detect(chips, thresholds))

    def collect(self, outputs: "_Outputs", thresholds: Thresholds) -> list[ChipResult]:
        """Wait for a batch that was started, and decode it. Raises what `detect` does."""
        import torch

        try:
            results = self._decode(outputs, thresholds)
        except torch.cuda.OutOfMemoryError as error:
            self._shrink(outputs.chips, error)
            return self._detect(outputs.chips, thresholds)
        if self._is_trial and self._pipe is not None:
            self._is_trial = False
            self.batch = self._pipe.fitting_batch(len(results), most=_LARGEST_CUDA_BATCH)
            _log.info("batches of %d chips", self.batch)
        return results

    def _detect(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> list[ChipResult]:
        import torch

        results: list[ChipResult] = []
        while len(results) < len(chips):
            part = chips[len(results) : len(results) + self.batch]
            try:
                results += self._decode(self._forward(part), thresholds)
            except torch.cuda.OutOfMemoryError as error:
                self._shrink(part, error)
        return results

    def _shrink(self, chips: Sequence[NDArray[Any]], error: Exception) -> None:
        """Take half as many chips as did not fit.

        Raises:
            DeviceError: It was one.
        """
        import torch

        if len(chips) == 1:
            height, width = chips[0].shape[-2:]
            raise DeviceError(
                f"one chip of {height} x {width} px does not fit the memory of {self._device}; "
                "choose a smaller --chip or --device cpu"
            ) from error
        self._is_trial = False
        self.batch = min(self.batch, max(len(chips) // 2, 1))
        torch.cuda.empty_cache()
        _log.warning("out of memory on %s: batch is now %d", self._device, self.batch)

    def _forward(self, chips: Sequence[NDArray[Any]]) -> "_Outputs":
        """Raw outputs of chips; on a GPU they may still be under way."""
        import torch

        card = self.card
        padded = [pad_chips(chip[None], card) for chip in chips]
        with torch.inference_mode():
            if self._pipe is None:
                values = padded[0] if len(padded) == 1 else np.concatenate(padded)
                return _Outputs(chips, *self._run(torch.from_numpy(values)), None)
            with self._pipe.autocast():
                found, anchors = self._run(self._pipe.send(padded))
            return _Outputs(chips, found, anchors, self._pipe.mark())

    def _run(self, pixels: "torch.Tensor") -> "tuple[HeadOutputs, list[torch.Tensor]]":
        """Scale pixels on the device, run the network; outputs and anchors."""
        import torch

        centre, spread = self._scale
        images = (pixels.float() - centre) / spread
        images = images.contiguous(memory_format=torch.channels_last)
        size = images.shape[-2], images.shape[-1]
        if size not in self._anchors:  # anchors are made on the host, for which a GPU has to wait
            self._anchors = {size: self._network.anchors(images)}
        return self._network(images), self._anchors[size]

    def _decode(self, outputs: "_Outputs", thresholds: Thresholds) -> list[ChipResult]:
        import torch

        from geo_retina.model.decode import DecodeSettings, decode_chips

        found, (height, width) = outputs.found, outputs.chips[0].shape[-2:]
        tensors = [found.logits, found.deltas, *outputs.anchors]
        tensors += [] if found.objectness is None else [found.objectness]
        beside: AbstractContextManager[object] = nullcontext()
        if self._pipe is not None and outputs.done is not None:
            beside = self._pipe.decoding(outputs.done, tensors)
        with torch.inference_mode(), beside:
            boxes = decode_chips(
                found,
                outputs.anchors,
                height=height,
                width=width,
                settings=DecodeSettings(
                    score=thresholds.score,
                    nms_iou=thresholds.nms_iou,
                    candidates_per_level=thresholds.candidates_per_level,
                    detections_per_chip=thresholds.detections_per_chip,
                ),
            )
            return [_to_result(item, thresholds) for item in boxes]


@dataclass(frozen=True, slots=True, eq=False)
class _Outputs:
    """What the network gave for a batch, or will have given when `done` is reached."""

    chips: Sequence[NDArray[Any]]
    found: "HeadOutputs"
    anchors: "list[torch.Tensor]"
    done: "torch.cuda.Event | None"


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """A batch under way on a GPU."""

    detector: TorchDetector
    outputs: _Outputs
    thresholds: Thresholds

    def result(self) -> list[ChipResult]:
        """See `Pending`."""
        return self.detector.collect(self.outputs, self.thresholds)


def _to_result(found: "ChipBoxes", thresholds: Thresholds) -> ChipResult:
    detections = Detections.of(
        found.boxes.cpu().numpy(), found.scores.cpu().numpy(), found.class_ids.cpu().numpy()
    )
    return ChipResult(with_decay(detections, thresholds), found.saturated)
