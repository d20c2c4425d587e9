"""`geo-retina info` and `geo-retina plan`: what would be done, before doing it."""

from typing import Annotated

import typer

from geo_retina.cli import detect_options as shared
from geo_retina.cli.reporting import band_numbers, exit_codes, print_values

_Raster = Annotated[str, typer.Argument(help="GeoTIFF or anything GDAL reads; also a URL.")]
_Model = Annotated[str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(
    raster: _Raster,
    model: _Model = "tree-crowns",
    bands: shared.Bands = None,
    scale: shared.Scale = None,
    stretch: shared.Stretch = None,
    raster_crs: shared.RasterCrs = None,
    gsd: shared.Gsd = None,
    any_gsd: shared.AnyGsd = False,
    pixel_coordinates: shared.PixelCoordinates = False,
    as_json: _Json = False,
) -> None:
    """Show what a raster is, and how the model would see it."""
    with exit_codes(quiet=True):
        from geo_retina.detection.job import open_job
        from geo_retina.detection.options import DetectOptions
        from geo_retina.detection.plan import describe_raster

        options = DetectOptions(
            bands=band_numbers(bands),
            scale=scale,
            stretch=stretch,
            raster_crs=raster_crs,
            gsd_m=gsd,
            any_gsd=any_gsd,
            pixel_coordinates=pixel_coordinates,
        )
        with open_job(raster, model, options) as job:
            print_values(describe_raster(job).to_dict(), as_json=as_json)


def plan(
    raster: _Raster,
    model: _Model = "tree-crowns",
    chip: shared.Chip = None,
    overlap: shared.Overlap = None,
    aoi: Annotated[str | None, typer.Option(help="Polygons that limit the work.")] = None,
    bands: shared.Bands = None,
    scale: shared.Scale = None,
    stretch: shared.Stretch = None,
    raster_crs: shared.RasterCrs = None,
    gsd: shared.Gsd = None,
    any_gsd: shared.AnyGsd = False,
    pixel_coordinates: shared.PixelCoordinates = False,
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
            bands=band_numbers(bands),
            scale=scale,
            stretch=stretch,
            raster_crs=raster_crs,
            gsd_m=gsd,
            any_gsd=any_gsd,
            pixel_coordinates=pixel_coordinates,
        )
        with open_job(raster, model, options) as job:
            detector = load_detector(job.info, device=device, backend=backend)
            print_values(describe_work(job, detector).to_dict(), as_json=as_json)
