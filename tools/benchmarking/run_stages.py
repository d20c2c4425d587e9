"""The parts of detection one by one, for `benchmark.py stages`: a job as JSON.

The job names `raster`, `model`, `backend` (`torch`, `torch-cuda`, `openvino-fp32`,
`openvino-int8`), `folder` and `repeats`. The chips lie in memory for all parts but reading, so that
each part is seen alone. The whole, from the file on the disk to the written file, takes turns with
the bare forward pass: the same chips, on the CPU one request each, nothing done with what comes
out.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarking.bare_forward import bare_forward, bare_forward_on_gpu, choose_graph
from benchmarking.child import read_job, write_report
from benchmarking.gpu import gpu_use
from benchmarking.measuring import spread
from geo_retina.detection.backends import Backend, Model, load_backend
from geo_retina.detection.detector import Detector, pad_chips
from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.fingerprints import hash_file
from geo_retina.detection.job import Job, open_job
from geo_retina.detection.options import DetectOptions, WorkOptions
from geo_retina.detection.pipeline import run_strips
from geo_retina.detection.run import new_stitcher
from geo_retina.detection.vector import open_writer
from geo_retina.model.checkpoint import read_info
from geo_retina.space.detections import Detections
from geo_retina.space.windows import Window

FORMATS = ("gpkg", "fgb", "geojson")

Pixels = list[NDArray[Any]]
Strips = list[tuple[int, list[tuple[Window, Detections]]]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Elapsed time and processor time (of all threads) of each part, run by run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], T]) -> T:
        """Do something once more under a name."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.processor.setdefault(name, []).append(time.process_time() - cpu)
        self.seconds.setdefault(name, []).append(time.perf_counter() - wall)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Spread of both for each part."""
        return {
            name: {"seconds": spread(times), "processor_s": spread(self.processor[name])}
            for name, times in self.seconds.items()
        }


def main() -> None:
    """Measure the parts and the whole, and report."""
    job = read_job()
    watch, repeats = Stopwatch(), job["repeats"]
    info = read_info(job["model"])
    graph = choose_graph(info, job["backend"], Path(job["folder"]))
    on_gpu = job["backend"] == "torch-cuda"
    backend = Backend("cuda" if on_gpu else "cpu", graph)
    detector = watch.time("load", lambda: load_backend(info, backend))
    model = Model(detector, backend.name, hash_file(info.path), info.path)
    with ExitStack() as stack:
        opening = open_job(job["raster"], job["model"], DetectOptions())
        work = watch.time("open", lambda: stack.enter_context(opening))
        for _ in range(repeats):
            chips = watch.time("read", lambda: read_chips(work))
        padded = [pad_chips(chip[None], info.card)[0] for chip in chips]
        whole(job, model)  # once before, for what is loaded on the way
        forward = (
            bare_forward_on_gpu(info, detector.batch)
            if on_gpu
            else bare_forward(info, graph, threads=job["threads"])
        )
        forward(padded[:2])
        busy: list[float] = []
        for _ in range(repeats):
            watch.time("forward", lambda: forward(padded))
            with gpu_use(busy) if on_gpu else nullcontext():
                watch.time("whole", lambda: whole(job, model))
            watch.time("forward and decode", lambda: detect_chips(work, detector, chips))
        strips, found = stitched_once(work, detector)
        for _ in range(repeats):
            watch.time("stitch", lambda: stitch(work, strips))
            for extension in FORMATS:
                path = Path(job["folder"]) / f"written.{extension}"
                watch.time(f"write {extension}", partial(write, work, found, path))
        grid, plan = work.source.raster.grid, work.plan
        pixels = sum(chip.shape[-1] * chip.shape[-2] for chip in chips)
    pairs = zip(watch.seconds["forward"], watch.seconds["whole"], strict=True)
    described = {
        "megapixels": round(grid.width * grid.height / 1e6, 2),
        "chip_megapixels": round(pixels / 1e6, 2),
        "chip_px": plan.chip_px,
        "overlap_px": plan.overlap_px,
        "chips": len(chips),
        "candidates": sum(len(one) for _, windows in strips for _, one in windows),
        "objects": len(found),
        "whole_over_forward": spread([bare / all_in for bare, all_in in pairs]),
        "parts": watch.to_dict(),
    }
    if on_gpu:
        described |= {"batch": detector.batch, "gpu_busy": round(float(np.mean(busy)), 3)}
    now = time.monotonic()
    write_report(ready=now, done=now, objects=len(found), found=described)


def read_chips(work: Job) -> Pixels:
    """Read all windows of the plan in this thread."""
    return [
        work.source.read(window).pixels for strip in work.plan.strips() for window in strip.windows
    ]


def detect_chips(work: Job, detector: Detector, chips: Pixels) -> None:
    """Run the detector on chips in memory, batch by batch."""
    for start in range(0, len(chips), detector.batch):
        detector.detect(np.stack(chips[start : start + detector.batch]), work.thresholds)


def whole(job: dict[str, Any], model: Model) -> None:
    """From the file on the disk to a written file, with the model loaded before."""
    detect_to_files(
        job["raster"],
        [Path(job["folder"]) / "whole.gpkg"],
        model=model,
        work=WorkOptions(restart=True),
    )


def stitched_once(work: Job, detector: Detector) -> tuple[Strips, Detections]:
    """What the stitcher is given on this raster, strip by strip, and what comes out."""
    given: Strips = []
    stitcher = new_stitcher(work)
    add_strip = stitcher.add_strip

    def record(index: int, candidates: Iterable[tuple[Window, Detections]]) -> Detections:
        given.append((index, list(candidates)))
        return add_strip(*given[-1])

    with patch.object(stitcher, "add_strip", record):
        done = list(run_strips(work, detector, stitcher))
    return given, Detections.concat([strip.final for strip in done])


def stitch(work: Job, strips: Sequence[tuple[int, Iterable[tuple[Window, Detections]]]]) -> None:
    """Stitch recorded candidates."""
    stitcher = new_stitcher(work)
    for index, candidates in strips:
        stitcher.add_strip(index, candidates)


def write(work: Job, found: Detections, path: Path) -> None:
    """Write the objects in the raster's CRS, or WGS 84 for GeoJSON."""
    names = work.card.class_names
    with open_writer(path, grid=work.source.raster.grid, class_names=names) as writer:
        writer.write(found)


if __name__ == "__main__":
    main()
