"""Runs in memory: a raster in, a GeoDataFrame out."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from geo_retina import defaults
from geo_retina.detection.backends import Model, runner_of
from geo_retina.detection.detector import Detector
from geo_retina.detection.features import to_geodataframe
from geo_retina.detection.job import Job, open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.pipeline import OnProgress, check_progress, run_strips
from geo_retina.detection.stitch import Stitcher, StitchState
from geo_retina.errors import AoiError
from geo_retina.space.detections import Detections
from geo_retina.wording import shown

if TYPE_CHECKING:
    import geopandas as gpd


def detect(
    raster: str | os.PathLike[str],
    *,
    model: str | Path | Model = defaults.MODEL,
    aoi: "str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries | None" = None,
    device: str = "auto",
    backend: str = "auto",
    batch: int | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,  # noqa: ANN401  checked by DetectOptions
) -> "gpd.GeoDataFrame":
    """Detect objects in a raster.

    Args:
        raster: File, URL or GDAL path.
        model: Name of a bundled model, path of a checkpoint, or what `load_model` gave: loaded once
            for many rasters.
        aoi: `aoi` of `DetectOptions`, the polygons that limit the work: a vector file, or a table
            with a CRS.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        backend: See `backends.choose_backend`.
        batch: Chips at once; None chooses by device.
        on_progress: Called at the start and after each window with the megapixels that are done,
            those of the raster, and the objects so far.
        **options: Fields of `DetectOptions`. What is found: `score`, `class_scores` (such as
            `{"car": 0.2}`), `nms_iou`, `decay_iou`, `method`, `class_agnostic`, `chip_px`,
            `overlap_px`, `aoi_layer`. How the raster is read: `bands`, `scale`, `stretch`,
            `raster_crs`, `gsd_m`, `any_gsd`, `pixel_coordinates`. For another geometry or CRS of
            the result see `detect_to_files` and `OutputOptions`, or use what GeoPandas has
            (`centroid`, `to_crs`).

    Returns:
        One row an object with `id, class, score, window, area_m2, width_m, height_m` and its
        polygon in the raster's CRS; empty with the same columns where nothing is found.

    Raises:
        UsageError: One of its kinds, for whatever is wrong with the raster, the model or an option.
        RasterReadError: The raster is damaged.
        TypeError: There is no such option.
    """
    check_progress(on_progress)
    with ExitStack() as stack:
        path = stack.enter_context(_as_file(aoi))
        asked = DetectOptions.of("geo_retina.detect", {**options, "aoi": path})
        job = stack.enter_context(open_job(raster, model, asked))
        runner = runner_of(model, device=device, backend=backend, batch=batch)
        found = find_in_raster(job, runner.load(), on_progress=on_progress)
        return to_geodataframe(found, job.source.raster.grid, job.card.class_names)


@contextmanager
def _as_file(
    aoi: "str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries | None",
) -> Iterator[str | None]:
    """A vector file with the shapes of a table, for a while; a path stays."""
    if aoi is None:
        yield None
        return
    if isinstance(aoi, str | os.PathLike):
        yield aoi.as_posix() if isinstance(aoi, PurePath) else os.fspath(aoi)
        return
    if getattr(aoi, "crs", None) is None:
        raise AoiError(
            f"expected a vector file or a GeoDataFrame with a CRS as aoi, got {shown(aoi)} without "
            "one; make one of shapes: geopandas.GeoSeries([shape], crs=...)"
        )
    with TemporaryDirectory() as folder:
        path = Path(folder, "aoi.gpkg")
        aoi.geometry.to_file(path)
        yield str(path)


def find_in_raster(
    job: Job, detector: Detector, *, on_progress: OnProgress | None = None
) -> Detections:
    """Run a job in memory: all its objects, in pixels of the raster.

    Raises:
        RasterReadError: The raster is damaged.
    """
    with closing(run_strips(job, detector, new_stitcher(job), on_progress=on_progress)) as strips:
        return Detections.concat([strip.final for strip in strips])


def new_stitcher(job: Job, state: StitchState | None = None) -> Stitcher:
    """A stitcher as the job's options ask for, new or going on from `state`."""
    return Stitcher(job.plan, merging=job.options.merging(job.card), state=state)
