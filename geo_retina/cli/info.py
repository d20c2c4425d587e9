"""`geo-retina info` and `geo-retina plan`: what would be done, before doing it."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from geo_retina import defaults
from geo_retina.cli import detect_options as shared
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import exit_codes, print_values

_Raster = Annotated[str, typer.Argument(help="GeoTIFF or anything GDAL reads; also a URL.")]
_Model = Annotated[str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@takes(reading=shared.reading)
def info(
    raster: _Raster,
    model: _Model = defaults.MODEL,
    *,
    reading: Callable[[], dict[str, Any]],
    as_json: _Json = False,
) -> None:
    """Show what a raster is, and how the model would see it."""
    with exit_codes(quiet=True):
        from geo_retina.detection.job import open_job
        from geo_retina.detection.options import DetectOptions
        from geo_retina.detection.plan import describe_raster

        options = DetectOptions(**reading())
        with open_job(raster, model, options) as job:
            print_values(describe_raster(job).to_dict(), as_json=as_json)


@takes(reading=shared.reading)
def plan(
    raster: _Raster,
    model: _Model = defaults.MODEL,
    chip: shared.Chip = None,
    overlap: shared.Overlap = None,
    aoi: Annotated[str | None, typer.Option(help="Polygons that limit the work.")] = None,
    *,
    reading: Callable[[], dict[str, Any]],
    device: shared.Device = "auto",
    backend: shared.Backend = "auto",
    as_json: _Json = False,
) -> None:
    """Tell windows, megapixels, memory and minutes of a detection without running it."""
    with exit_codes(quiet=True):
        from geo_retina.detection.backends import load_detector
        from geo_retina.detection.job import open_job
        from geo_retina.detection.options import DetectOptions
        from geo_retina.detection.plan import describe_work

        options = DetectOptions(
            chip_px=chip,
            overlap_px=overlap,
            aoi=aoi,
            **reading(),
        )
        with open_job(raster, model, options) as job:
            detector = load_detector(job.info, device=device, backend=backend)
            print_values(describe_work(job, detector).to_dict(), as_json=as_json)
