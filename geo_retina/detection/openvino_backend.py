"""The OpenVINO backend: exported graphs on a CPU, without torch."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.decoding import LevelGrid, RawOutputs, decode_chip, level_grids
from geo_retina.detection.detector import ChipResult, Thresholds, check_chips, pad_chips
from geo_retina.errors import ModelError
from geo_retina.model.artifacts import Artifact
from geo_retina.model.checkpoint import CheckpointInfo

if TYPE_CHECKING:
    import openvino as ov

_log = logging.getLogger(__name__)


class OpenVinoDetector:
    """An exported graph on the CPU.

    The graph takes chips of any size, so it is compiled once. Each chip is a request of its own:
    what is found on it depends neither on the batch nor on its neighbours.
    """

    def __init__(self, info: CheckpointInfo, artifact: Artifact, batch: int | None = None) -> None:
        self._info = info
        compiled = _compile(artifact.path)
        self.batch = batch or compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(self.batch)]
        self._has_objectness = len(compiled.outputs) > 2  # noqa: PLR2004  logits and deltas

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
        check_chips(pixels, self.card)
        height, width = pixels.shape[-2:]
        chips = pad_chips(pixels, self.card)
        grids = level_grids(self._info.network, height=chips.shape[-2], width=chips.shape[-1])
        results: list[ChipResult] = []
        for start in range(0, len(chips), self.batch):
            part = chips[start : start + self.batch]
            running = self._requests[: len(part)]
            for number, request in enumerate(running):
                request.start_async([part[number : number + 1]], share_inputs=True)
            results += [
                self._decode(request, grids, height=height, width=width, thresholds=thresholds)
                for request in running
            ]
        return results

    def _decode(
        self,
        request: "ov.InferRequest",
        grids: list[LevelGrid],
        *,
        height: int,
        width: int,
        thresholds: Thresholds,
    ) -> ChipResult:
        request.wait()
        objectness = request.get_tensor("objectness").data[0] if self._has_objectness else None
        raw = RawOutputs(
            request.get_tensor("logits").data[0], request.get_tensor("deltas").data[0], objectness
        )
        return decode_chip(raw, grids, height=height, width=width, thresholds=thresholds)


def _compile(path: Path) -> "ov.CompiledModel":
    """Compile a graph for this machine, or take it from the user's cache.

    Raises:
        ModelError: It cannot be read.
    """
    import openvino as ov

    core = ov.Core()
    cache = _cache_folder()
    if cache is not None:
        core.set_property({"CACHE_DIR": str(cache)})
    try:
        model = core.read_model(path)
        # float32 where the graph says so: some processors would take bfloat16 unasked
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot use {path}: {str(error).strip().splitlines()[-1]}; update openvino, "
            "export it again, or choose --backend torch"
        ) from error


def _cache_folder() -> Path | None:
    """Folder for compiled graphs, made if need be; None where the user has no place to write."""
    home = Path("~").expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = base / "geo_retina" / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.info("compiled graphs are not kept: %s", error)
        return None
    return folder if os.access(folder, os.W_OK) else None
