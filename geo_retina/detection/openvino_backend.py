"""The OpenVINO backend: exported graphs on a CPU, without torch."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.decoding import LevelGrid, RawOutputs, decode_chip, level_grids
from geo_retina.detection.detector import ChipResult, check_chips, pad_chips
from geo_retina.detection.openvino_runtime import compile_graph
from geo_retina.errors import ModelError
from geo_retina.model.artifacts import Artifact
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.model.thresholds import Thresholds

if TYPE_CHECKING:
    import openvino as ov


class OpenVinoDetector:
    """An exported graph on the CPU.

    The graph takes chips of any size, so it is compiled once. Each chip is a request of its own:
    what is found on it depends neither on the batch nor on its neighbours. A batch is as many chips
    as OpenVINO works on side by side; while one is decoded here, the next one is under way.

    Pickled, it is what it was made of, and is made again where it arrives.
    """

    in_flight = 1

    def __init__(
        self,
        info: CheckpointInfo,
        artifact: Artifact,
        batch: int | None = None,
        *,
        bfloat16: bool = False,
    ) -> None:
        self._info = info
        self._process = os.getpid()
        self._again = partial(OpenVinoDetector, info, artifact, batch, bfloat16=bfloat16)
        self._compiled = compile_graph(artifact.path, bfloat16=bfloat16)
        self.batch = batch or self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        # all that will be needed: making one while another one runs would wait for that
        self._idle = [
            self._compiled.create_infer_request() for _ in range((1 + self.in_flight) * self.batch)
        ]
        self._has_objectness = len(self._compiled.outputs) > 2  # noqa: PLR2004  logits and deltas

    def __reduce__(self) -> "tuple[Callable[[], OpenVinoDetector], tuple[()]]":
        return self._again, ()

    @property
    def card(self) -> ModelCard:
        """What the chips must look like."""
        return self._info.card

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type.

        Raises:
            ModelError: The shape or the data type is not what the card states, or the outputs are
                not numbers.
        """
        results: list[ChipResult] = []
        for first in range(0, len(pixels), self.batch):
            results += self.start(list(pixels[first : first + self.batch]), thresholds).result()
        return results

    def start(self, chips: Sequence[NDArray[Any]], thresholds: Thresholds) -> "_Running":
        """Start a batch; see `BackgroundDetector`.

        Raises:
            ModelError: The shape or the data type is not what the card states, or this process was
                forked from the one that loaded the model.
        """
        if os.getpid() != self._process:  # OpenVINO's threads stayed there: waiting would not end
            raise ModelError(
                "the model was loaded before this process was forked, and OpenVINO cannot go on "
                "here; call load_model in each process"
            )
        for chip in chips:
            check_chips(chip[None], self.card)
        padded = [pad_chips(chip[None], self.card) for chip in chips]
        height, width = padded[0].shape[-2:]
        grids = level_grids(self._info.network, height=height, width=width)
        frame = _Frame(chips[0].shape[-2], chips[0].shape[-1], grids, thresholds)
        running = _Running(self, padded, [], frame)
        for chip in padded:
            request = self._request()
            request.start_async([chip], share_inputs=True)
            running.requests.append(request)
        return running

    def _request(self) -> "ov.InferRequest":
        try:
            return self._idle.pop()
        except IndexError:  # asked and taken in one: threads may share a model
            return self._compiled.create_infer_request()

    def collect(self, request: "ov.InferRequest", frame: "_Frame") -> ChipResult:
        """Wait for one chip and decode it; its request is free for another one then."""
        request.wait()
        objectness = request.get_tensor("objectness").data[0] if self._has_objectness else None
        raw = RawOutputs(
            request.get_tensor("logits").data[0], request.get_tensor("deltas").data[0], objectness
        )
        result = decode_chip(
            raw,
            frame.grids,
            height=frame.height,
            width=frame.width,
            thresholds=frame.thresholds,
        )
        self._idle.append(request)
        return result


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the chips of a batch share."""

    height: int
    """Rows without padding."""
    width: int
    """Columns without padding."""
    grids: list[LevelGrid]
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class _Running:
    """A batch under way."""

    detector: OpenVinoDetector
    chips: list[NDArray[Any]]
    """(1, bands, H, W) each; the requests read them where they lie."""
    requests: "list[ov.InferRequest]"
    frame: _Frame

    def result(self) -> list[ChipResult]:
        """Wait for the batch.

        Raises:
            ModelError: The outputs are not numbers.
        """
        return [self.detector.collect(request, self.frame) for request in self.requests]
