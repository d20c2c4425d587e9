"""What a run will read and compute, before doing it."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geo_retina.detection.backends import Detector
from geo_retina.detection.job import Job
from geo_retina.detection.reading import READERS
from geo_retina.imagery.gdal import LARGEST_BLOCK_CACHE_BYTES, SMALLEST_BLOCK_CACHE_BYTES
from geo_retina.space.windows import Window

MOST_WINDOWS_CHECKED = 500
"""Of a larger plan so many windows, evenly spread, tell the share that holds something to do."""


@dataclass(frozen=True, slots=True)
class RasterReport:
    """What a raster is, and how a model will see it."""

    path: str
    driver: str
    width: int
    height: int
    bands: tuple[str, ...]
    """Colour interpretation or description of each band."""
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    crs: str | None
    gsd_m: tuple[float, float] | None
    """Metres on the ground per pixel along x and y; None without a CRS that tells."""
    overview_factors: tuple[int, ...]
    model: str
    bands_read: tuple[int, ...]
    """Band numbers, from 1, in the model's order."""
    resampled_to: tuple[int, int] | None
    """Columns and rows at the model's GSD; None where the raster is read as it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WorkReport:
    """How much work a run is."""

    chip_px: int
    overlap_px: int
    windows: int
    windows_to_infer: int
    """Windows that touch the AOI and may hold valid pixels; an estimate for large plans."""
    is_estimate: bool
    """Whether `windows_to_infer` was told from a sample."""
    megapixels: float
    """Chip pixels to infer, overlap counted twice, at the model's GSD."""
    block_cache_mib: float
    """Memory for decoded blocks of the raster."""
    minutes: float | None
    """Time of inference on this machine, from timing one chip; None if it was not timed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def describe_raster(job: Job) -> RasterReport:
    """Say what the raster of a job is."""
    raster, source = job.source.raster, job.source
    grid = raster.grid
    tells = grid.crs is not None and not grid.crs.is_engineering
    names = tuple(
        description or colour
        for description, colour in zip(raster.descriptions, raster.colours, strict=True)
    )
    return RasterReport(
        path=raster.path,
        driver=raster.driver,
        width=grid.width,
        height=grid.height,
        bands=names,
        dtypes=raster.dtypes,
        nodata=raster.nodata,
        crs=None if grid.crs is None else grid.crs.name,
        gsd_m=grid.gsd_m() if tells else None,
        overview_factors=raster.overview_factors,
        model=job.info.card.name,
        bands_read=source.bands,
        resampled_to=(source.grid.width, source.grid.height) if source.is_resampled else None,
    )


def describe_work(job: Job, detector: Detector | None = None) -> WorkReport:
    """Count the windows of a job, and time one chip if a detector is given."""
    plan = job.plan
    chosen = np.unique(
        np.linspace(0, len(plan) - 1, min(len(plan), MOST_WINDOWS_CHECKED)).astype(np.int64)
    )
    busy = sum(_has_work(job, plan.window(int(number))) for number in chosen)
    to_infer = round(len(plan) * busy / len(chosen))
    first = plan.window(0)
    chip_pixels = first.width * first.height
    cache = job.source.block_cache_bytes(plan.chip_px, handles=READERS)
    bound = min(max(cache, SMALLEST_BLOCK_CACHE_BYTES), LARGEST_BLOCK_CACHE_BYTES)
    seconds = None if detector is None else _seconds_per_chip(job, detector, first)
    return WorkReport(
        chip_px=plan.chip_px,
        overlap_px=plan.overlap_px,
        windows=len(plan),
        windows_to_infer=to_infer,
        is_estimate=len(chosen) < len(plan),
        megapixels=to_infer * chip_pixels / 1e6,
        block_cache_mib=bound / 2**20,
        minutes=None if seconds is None else seconds * to_infer / 60,
    )


def _has_work(job: Job, window: Window) -> bool:
    if job.aoi is not None and not job.aoi.touches(window):
        return False
    return job.source.might_be_valid(window)


def _seconds_per_chip(job: Job, detector: Detector, window: Window) -> float:
    """Time one batch of empty chips; the second one, after everything is warm."""
    card = job.info.card
    shape = (detector.batch, len(card.bands), window.height, window.width)
    chips = np.zeros(shape, dtype=card.dtype)
    thresholds = job.options.thresholds(card)
    detector.detect(chips, thresholds)
    started = time.monotonic()
    detector.detect(chips, thresholds)
    return (time.monotonic() - started) / detector.batch
