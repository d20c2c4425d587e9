"""The torch backend: any network, on a CPU or a CUDA device."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.cuda_pipe import CudaPipe
from geo_retina.detection.decoding import RawOutputs, decode_chip, level_grids, with_decay
from geo_retina.detection.detector import ChipResult, Done, Pending, check_chips, pad_chips
from geo_retina.detection.torch_device import ran_out_of_memory, setting_up
from geo_retina.errors import DeviceError
from geo_retina.model.checkpoint import CheckpointInfo, load_network
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    import torch

    from geo_retina.model.decode import ChipBoxes
    from geo_retina.model.heads import HeadOutputs

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_FIRST_CUDA_BATCH = 4  # its peak memory tells how many chips fit
_FEW_BOXES = Thresholds(score=0.5, nms_iou=0.5, candidates_per_level=1000, detections_per_chip=300)
_LARGEST_CUDA_BATCH = 32  # by then a GPU is busy, and chips that wait take host memory
_CPU_BATCH = 1  # the cores share one chip: a larger batch only takes more memory


class TorchDetector:
    """The RetinaNet on torch, on a CPU or a CUDA device.

    On a CPU everything is done when it is asked for, and boxes are decoded as those of graphs are:
    torch's own NMS compares all with all. On a GPU, chips travel as they are (a quarter
    of the bytes of float32) from pinned memory, are scaled there and go through the network in
    float16, or in a wider type where its outputs leave float16's range. Candidates are chosen,
    decoded and suppressed there too; only boxes come back. One batch is decoded while the next one
    runs.

    The batch is found by trial: `prepare` sees how much memory a chip takes. A batch that does not
    fit after all is halved.
    """

    def __init__(
        self, info: CheckpointInfo, device: "torch.device", batch: int | None = None
    ) -> None:
        """Load the network.

        Raises:
            ModelError: The weights are damaged.
            DeviceError: The GPU is full, or cannot be used for another reason.
        """
        import torch

        from geo_retina.model.retinanet import band_scale

        self._info = info
        self._device = device
        network, card = load_network(info).to(memory_format=torch.channels_last), info.card
        with setting_up(device):
            self._pipe = CudaPipe(device) if device.type == "cuda" else None
            self._network = network.to(device)
            self._scale = band_scale(
                value_range=card.value_range, mean=card.mean, std=card.std, device=device
            )
        self._seeks_batch = batch is None and self._pipe is not None
        self._fitting: dict[tuple[int, int], int] = {}  # batch by height and width of a chip
        self.batch = batch or (_FIRST_CUDA_BATCH if self._pipe else _CPU_BATCH)
        self._anchors: dict[tuple[int, int], list[torch.Tensor]] = {}

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""
        return self._info.card

    @property
    def in_flight(self) -> int:
        """See `BackgroundDetector`: a CPU works on one batch at a time."""
        return 0 if self._pipe is None else 1

    def prepare(self, height: int, width: int) -> None:
        """Find how many chips of this size to take at once; see `PreparingDetector`."""
        if self._pipe is None or not self._seeks_batch:
            return
        known = self._fitting.get((height, width))
        if known is not None:
            self.batch = known
            return
        self.batch = _FIRST_CUDA_BATCH
        self._pipe.begin_trial()
        black = np.zeros((len(self.card.bands), height, width), self.card.dtype)
        self._detect([black] * self.batch, _FEW_BOXES)
        if self.batch == _FIRST_CUDA_BATCH:  # it fitted
            self.batch = self._pipe.fitting_batch(self.batch, most=_LARGEST_CUDA_BATCH)
        self._fitting[height, width] = self.batch
        _log.info("batches of %d chips", self.batch)

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips.

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
        for chip in chips:
            check_chips(chip[None], self.card)
        if self._pipe is None:
            return Done(self._detect(chips, thresholds))
        outputs = self._attempt(self._forward, chips, self._pipe)
        if isinstance(outputs, Exception):
            return Done(self._mend(chips, thresholds, outputs))
        return _Running(self, outputs, thresholds)

    def collect(self, running: "_Running") -> list[ChipResult]:
        """Wait for a batch that was started, and decode it. Raises what `detect` does."""
        outputs = running.take()
        found = self._attempt(self._decode, outputs, running.thresholds)
        if not isinstance(found, Exception):
            return found
        chips = outputs.chips
        del outputs  # what failed gives its memory back before it is done again
        return self._mend(chips, running.thresholds, found)

    def _detect(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> list[ChipResult]:
        results: list[ChipResult] = []
        while len(results) < len(chips):
            part = chips[len(results) : len(results) + self.batch]
            found = self._attempt(self._at_once, part, thresholds)
            if isinstance(found, Exception):
                self._give_way(part, found)
            else:
                results += found
        return results

    def _mend(
        self, chips: Sequence[NDArray[Any]], thresholds: Thresholds, failed: Exception
    ) -> list[ChipResult]:
        if ran_out_of_memory(failed):
            self._shrink(chips, failed)
        # else its numbers left the range of a type that may not be the present one any more
        return self._detect(chips, thresholds)

    def _at_once(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> list[ChipResult]:
        if self._pipe is None:
            return self._on_host(chips, thresholds)
        return self._decode(self._forward(chips, self._pipe), thresholds)

    def _on_host(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> list[ChipResult]:
        """Run chips on the CPU and decode what the network gives."""
        import torch

        values = np.concatenate([pad_chips(chip[None], self.card) for chip in chips])
        grids = level_grids(self._info.network, height=values.shape[-2], width=values.shape[-1])
        with torch.inference_mode():
            found = self._network(self._scaled(torch.from_numpy(values)))
        height, width = chips[0].shape[-2:]
        return [
            decode_chip(raw, grids, height=height, width=width, thresholds=thresholds)
            for raw in _raw_outputs(found)
        ]

    def _attempt(self, work: "Callable[[*_Arguments], _T]", *args: *_Arguments) -> "_T | Exception":
        """What `work` gives, or the error that fewer chips or a wider type may mend."""
        from geo_retina.model.decode import NotFiniteError

        try:
            return work(*args)
        except NotFiniteError as error:
            if self._pipe is None:
                raise
            return error.with_traceback(None)
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            return error.with_traceback(None)  # its frames hold the memory that the batch took

    def _give_way(self, chips: Sequence[NDArray[Any]], failed: Exception) -> None:
        """Change what made a batch fail; raises its error where nothing is left to change."""
        if ran_out_of_memory(failed):
            self._shrink(chips, failed)
        elif self._pipe is not None and self._pipe.can_widen:
            _log.warning("%s computes in %s from here on", self._device, self._pipe.widen())
        else:
            raise failed

    def _shrink(self, chips: Sequence[NDArray[Any]], error: Exception) -> None:
        """Take half as many chips as did not fit.

        Raises:
            DeviceError: It was one.
        """
        import torch

        height, width = chips[0].shape[-2:]
        if len(chips) == 1:
            raise DeviceError(
                f"one chip of {height} x {width} px does not fit the memory of {self._device}; "
                "choose a smaller --chip or --device cpu"
            ) from error
        self.batch = self._fitting[height, width] = min(self.batch, max(len(chips) // 2, 1))
        torch.cuda.empty_cache()
        _log.warning("out of memory on %s: batch is now %d", self._device, self.batch)

    def _forward(self, chips: Sequence[NDArray[Any]], pipe: CudaPipe) -> "_Outputs":
        """Raw outputs of chips on a GPU; they may still be under way."""
        import torch

        padded = [pad_chips(chip[None], self.card) for chip in chips]
        with torch.inference_mode():
            with pipe.autocast():
                found, anchors = self._run(pipe.send(padded))
            return _Outputs(chips, found, anchors, pipe, pipe.mark())

    def _run(self, pixels: "torch.Tensor") -> "tuple[HeadOutputs, list[torch.Tensor]]":
        """Scale pixels on the device, run the network; outputs and anchors."""
        images = self._scaled(pixels)
        size = images.shape[-2], images.shape[-1]
        if size not in self._anchors:  # anchors are made on the host, for which a GPU has to wait
            self._anchors = {size: self._network.anchors(images)}
        return self._network(images), self._anchors[size]

    def _scaled(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Pixels as the network takes them."""
        import torch

        centre, spread = self._scale
        images = (pixels.float() - centre) / spread
        return images.contiguous(memory_format=torch.channels_last)

    def _decode(self, outputs: "_Outputs", thresholds: Thresholds) -> list[ChipResult]:
        """Boxes of a batch, chosen on the GPU."""
        import torch

        from geo_retina.model.decode import decode_chips

        found, (height, width) = outputs.found, outputs.chips[0].shape[-2:]
        tensors = [found.logits, found.deltas, *outputs.anchors]
        tensors += [] if found.objectness is None else [found.objectness]
        with torch.inference_mode(), outputs.pipe.decoding(outputs.done, tensors):
            boxes = decode_chips(
                found,
                outputs.anchors,
                height=height,
                width=width,
                thresholds=thresholds,
            )
            return _to_results(boxes, thresholds)


@dataclass(frozen=True, slots=True, eq=False)
class _Outputs:
    """What the network gave for a batch, or will have given when `done` is reached."""

    chips: Sequence[NDArray[Any]]
    found: "HeadOutputs"
    anchors: "list[torch.Tensor]"
    pipe: CudaPipe
    done: "torch.cuda.Event"


@dataclass(slots=True, eq=False)
class _Running:
    """A batch under way on a GPU."""

    detector: TorchDetector
    outputs: _Outputs | None
    thresholds: Thresholds

    def result(self) -> list[ChipResult]:
        """See `Pending`; only once."""
        return self.detector.collect(self)

    def take(self) -> _Outputs:
        """The outputs, which are no longer held here."""
        outputs, self.outputs = self.outputs, None
        if outputs is None:
            raise ValueError("the result of a batch was asked for twice")
        return outputs


def _raw_outputs(found: "HeadOutputs") -> "Iterator[RawOutputs]":
    """Outputs of each chip of a batch on the CPU; no values are copied."""
    for number in range(len(found.logits)):
        objectness = None if found.objectness is None else found.objectness[number].numpy()
        yield RawOutputs(found.logits[number].numpy(), found.deltas[number].numpy(), objectness)


def _to_results(found: "Sequence[ChipBoxes]", thresholds: Thresholds) -> list[ChipResult]:
    """Copy the boxes of a batch to the host in one go: a GPU is waited for once."""
    import torch

    rows = [torch.column_stack([item.boxes, item.scores]) for item in found]
    table = torch.cat(rows).cpu().numpy()
    class_ids = torch.cat([item.class_ids for item in found]).cpu().numpy()
    results, start = [], 0
    for item in found:
        part = slice(start, start + len(item.scores))
        detections = Detections.of(table[part, :4], table[part, 4], class_ids[part])
        results.append(ChipResult(with_decay(detections, thresholds), item.saturated))
        start = part.stop
    return results
