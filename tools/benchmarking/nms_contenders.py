"""Implementations of greedy NMS that `benchmark_nms.py` compares."""

import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarking.measuring import THREAD_VARIABLES, TOOLS
from geo_retina.space.boxes import Overlap
from geo_retina.space.nms import nms

Array = NDArray[np.float64]
Nms = Callable[[Array, Array, float], "NDArray[np.int64]"]
TimedNms = Callable[[Array, Array, float], "tuple[float, NDArray[np.int64]]"]

OURS, OURS_IOS, SAHI = "geo_retina", "geo_retina (IoS)", "sahi nms"


@dataclass(frozen=True, slots=True)
class Contender:
    """One implementation of greedy NMS."""

    run: TimedNms
    """Takes boxes (N, 4), scores (N,) and the threshold; returns seconds and positions kept."""
    growth: float
    """Time is expected to grow as the count to this power."""
    package: str | None = None
    """What must be installed."""


def in_process(run: Nms) -> TimedNms:
    """Time a function in this process."""

    def timed(boxes: Array, scores: Array, threshold: float) -> tuple[float, NDArray[np.int64]]:
        started = time.perf_counter()
        kept = run(boxes, scores, threshold)
        return time.perf_counter() - started, kept

    return timed


class SahiElsewhere:
    """SAHI's NMS in a process of SAHI's environment, which is begun again where it dies."""

    def __init__(self, python: Path, folder: Path, *, most_gib: float) -> None:
        self._folder = folder
        self._command = [str(python), "-P", "-m", "benchmarking.run_nms", str(most_gib)]
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(TOOLS), **dict.fromkeys(THREAD_VARIABLES, "1")},
        )

    def __call__(
        self, boxes: Array, scores: Array, threshold: float
    ) -> tuple[float, NDArray[np.int64]]:
        """Hand over the boxes in files; only the call itself is timed, over there.

        Raises:
            MemoryError: The process died, which is what it does for want of memory.
        """
        paths = {name: str(self._folder / f"{name}.npy") for name in ("boxes", "scores", "kept")}
        np.save(paths["boxes"], boxes)
        np.save(paths["scores"], scores)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the pipes to SAHI's process are missing")
        print(json.dumps({**paths, "threshold": threshold}), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            self.close()
            self._begin()
            raise MemoryError("SAHI's process ended; its complaint stands above")
        return json.loads(answer)["seconds"], np.load(paths["kept"])

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def _ours(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    return nms(boxes, scores, threshold=threshold)


def _ours_ios(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    return nms(boxes, scores, threshold=threshold, overlap=Overlap.IOS)


def _powerboxes(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    import powerboxes

    kept = powerboxes.rtree_nms(boxes, scores, threshold, 0.0)
    return np.asarray(kept, np.int64)


def _torchvision(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    import torch
    from torchvision.ops import nms as torchvision_nms

    kept = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    return np.asarray(kept.numpy(), np.int64)


def _all_pairs(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left, kept = np.argsort(-scores), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        left = left[shared <= threshold * (areas[best] + areas[left] - shared)]
    return np.array(kept, np.int64)


def contenders(sahi: TimedNms | None) -> dict[str, Contender]:
    """All that are installed; ours comes first."""
    everyone = {
        OURS: Contender(in_process(_ours), 1),
        OURS_IOS: Contender(in_process(_ours_ios), 1),
        "powerboxes rtree_nms": Contender(in_process(_powerboxes), 1, "powerboxes"),
        "torchvision nms": Contender(in_process(_torchvision), 2, "torchvision"),
    }
    if sahi is not None:
        everyone[SAHI] = Contender(sahi, 1)
    everyone["all pairs"] = Contender(in_process(_all_pairs), 2)
    return {
        name: contender
        for name, contender in everyone.items()
        if contender.package is None or importlib.util.find_spec(contender.package)
    }
