"""What a run will read and compute, before doing it."""

import os
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.backends import load_model
from geo_retina.detection.detector import Detector, PreparingDetector
from geo_retina.detection.job import Job, open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.reading import ReadingOrder
from geo_retina.errors import BandError, GeoreferenceError, GsdError, RadiometryError
from geo_retina.imagery.facts import RasterFacts, facts_of
from geo_retina.imagery.gdal import block_cache_bound
from geo_retina.imagery.raster import open_raster
from geo_retina.space.spread import evenly_spread
from geo_retina.space.windows import Window

MOST_WINDOWS_CHECKED = 500
"""Of a larger plan so many windows, evenly spread, tell the share that holds something to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """How a model will see a raster."""

    model: str
    bands_read: tuple[int, ...]
    """Band numbers, from 1, in the model's order."""
    values_shown: tuple[tuple[float, float], ...]
    """Raster values of each band read that become the ends of the model's range."""
    all_valid: bool
    """Whether no mask, alpha band or nodata value can make pixels invalid; no value is looked at,
    and one that is not finite (NaN) is invalid all the same."""
    resampled_to: tuple[int, int] | None
    """Columns and rows at the model's GSD; None where the raster is read as it is."""
    chip_px: int
    """Edge of a window, in pixels of the model's GSD."""
    overlap_px: int
    windows: int
    strips: int
    """Rows of windows: a broken run goes on at the row that it broke in."""
    readers: int
    """Threads that read; one where the raster's blocks span its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterReport:
    """What a raster is, and what a model makes of it."""

    raster: RasterFacts
    view: ModelView | None
    """None where the model cannot read the raster."""
    refusal: str | None = None
    """Why the model cannot read the raster, and what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: all fields side by side."""
        view = {} if self.view is None else asdict(self.view)
        return {**self.raster.to_dict(), **view, "refusal": self.refusal}


@dataclass(frozen=True, slots=True)
class WorkReport:
    """How much work a run is."""

    chip_px: int
    overlap_px: int
    windows: int
    windows_to_infer: int
    """Windows that touch the AOI and hold valid pixels."""
    is_estimate: bool
    """Whether numbers of windows and pixels were told from a sample of the windows."""
    valid_megapixels: float
    """Valid pixels of the raster, at its own GSD, each counted once: those of `WindowPlan.own_part`
    of the windows that touch the AOI."""
    megapixels_to_infer: float
    """Pixels of chips at the model's GSD, with overlap counted as often as it is inferred."""
    memory_mib: float | None
    """Peak memory: of this process with model and one batch, plus chips read ahead and decoded
    blocks; None if no model was loaded. On a GPU, of the host alone."""
    block_cache_mib: float
    """Of this the most that decoded blocks may take."""
    minutes: float | None
    """Time of inference on this machine, from timing one batch; None if no model was loaded."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def look_at(
    raster: str | os.PathLike[str], model: str | Path, options: DetectOptions
) -> RasterReport:
    """Say what a raster is, and how a model will read it or why it cannot.

    Raises:
        RasterError: There is no such raster.
        GeoreferenceError: The CRS that the options state cannot be taken.
        ModelError: The model is unknown.
        ConfigError: An option is wrong.
    """
    try:
        with open_job(raster, model, options) as job:
            return describe_raster(job)
    except (BandError, RadiometryError, GsdError, GeoreferenceError) as error:
        refusal = str(error)
    is_stated = options.raster_crs is not None
    with open_raster(
        raster,
        crs=options.raster_crs,
        pixel_coordinates=options.pixel_coordinates or not is_stated,
    ) as opened:
        return RasterReport(raster=facts_of(opened), view=None, refusal=refusal)


def describe_raster(job: Job) -> RasterReport:
    """Say what the raster of a job is, and how it will be read."""
    source, plan = job.source, job.plan
    view = ModelView(
        model=job.card.name,
        bands_read=source.bands,
        values_shown=source.radiometry.shown,
        all_valid=source.all_valid,
        resampled_to=(source.grid.width, source.grid.height) if source.is_resampled else None,
        chip_px=plan.chip_px,
        overlap_px=plan.overlap_px,
        windows=len(plan),
        strips=len(plan.row_offs),
        readers=ReadingOrder.of(source, plan).readers,
    )
    return RasterReport(raster=facts_of(source.raster), view=view)


def estimate_work(
    raster: str | os.PathLike[str],
    model: str | Path,
    options: DetectOptions,
    *,
    device: str = "auto",
    backend: str = "auto",
) -> WorkReport:
    """Say how much work a detection is; the model is loaded, and one batch is timed.

    Raises:
        UsageError: What `detect_to_files` would raise before it loads the model, or one of its
            kinds where the model cannot be loaded.
        RasterReadError: A mask cannot be read.
    """
    with open_job(raster, model, options) as job:
        return describe_work(job, load_model(model, device=device, backend=backend).detector)


def describe_work(job: Job, detector: Detector | None = None) -> WorkReport:
    """Count the windows of a job; time and weigh one batch if a detector is given.

    Raises:
        RasterReadError: A mask cannot be read.
    """
    plan = job.plan
    chosen = evenly_spread(len(plan), MOST_WINDOWS_CHECKED)
    shares = np.array([_valid_share(job, plan.window(int(number))) for number in chosen])
    to_infer = round(len(plan) * float(np.mean(shares > 0)))
    first = plan.window(0)
    order = ReadingOrder.of(job.source, plan)
    cache = block_cache_bound(order.block_cache_bytes(job.source, plan))
    minutes = memory_mib = None
    if detector is not None:
        minutes = _seconds_per_chip(job, detector, first) * to_infer / 60
        _load_as_a_run()
        memory_mib = (_peak_bytes() + _chips_bytes(job, order, detector) + cache) / 2**20
    return WorkReport(
        chip_px=plan.chip_px,
        overlap_px=plan.overlap_px,
        windows=len(plan),
        windows_to_infer=to_infer,
        is_estimate=len(chosen) < len(plan),
        valid_megapixels=_valid_megapixels(job, chosen, shares),
        megapixels_to_infer=to_infer * first.width * first.height / 1e6,
        memory_mib=memory_mib,
        block_cache_mib=cache / 2**20,
        minutes=minutes,
    )


def _valid_share(job: Job, window: Window) -> float:
    if job.aoi is not None and not job.aoi.touches(window):
        return 0.0
    return job.source.valid_share(window)


def _valid_megapixels(job: Job, numbers: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Valid pixels of the raster, from the valid shares of some windows, or exactly from all."""
    own = [job.plan.own_part(number) for number in numbers.tolist()]
    if len(numbers) == len(job.plan):
        shares = np.array(
            [
                job.source.valid_share(part) if 0 < share < 1 else share
                for part, share in zip(own, shares, strict=True)
            ]
        )
    areas = [part.width * part.height for part in own]
    return job.source.raster.grid.megapixels * float(np.average(shares, weights=areas))


def _chips_bytes(job: Job, order: ReadingOrder, detector: Detector) -> int:
    """Memory of the chips that are read ahead, wait for a batch, or are in one."""
    source, window = job.source, job.plan.window(0)
    samples = (len(source.bands) * np.dtype(source.radiometry.dtype).itemsize) + 1
    chips = (order.readers + 1) * order.run + 5 * detector.batch
    return chips * samples * window.width * window.height


def _load_as_a_run() -> None:
    """Load what a run loads beside the network: compiled stitching and GDAL's writers."""
    import_module("geo_retina.space._kernels")
    import_module("pyogrio")  # brings pandas along


def _peak_bytes() -> int:
    """Most memory that this process has held so far."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts what the parent held into `ru_maxrss`, but not into this
        lines = status.read_text("utf-8").splitlines()
        found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _seconds_per_chip(job: Job, detector: Detector, window: Window) -> float:
    """Time one batch of empty chips; the second one, after everything is warm."""
    if isinstance(detector, PreparingDetector):
        detector.prepare(window.height, window.width)
    card = job.card
    shape = (detector.batch, len(card.bands), window.height, window.width)
    chips = np.zeros(shape, dtype=card.dtype)
    detector.detect(chips, job.thresholds)
    started = time.perf_counter()
    detector.detect(chips, job.thresholds)
    return (time.perf_counter() - started) / detector.batch
