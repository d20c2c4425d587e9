"""`geo-retina info` and `geo-retina plan`: what would be done, before doing it."""

from typing import Annotated

import typer

from geo_retina.cli.reporting import band_numbers, exit_codes, print_values

_Raster = Annotated[str, typer.Argument(help="GeoTIFF or anything GDAL reads; also a URL.")]
_Model = Annotated[str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")]
_Bands = Annotated[str | None, typer.Option(help="Band numbers from 1, such as 3,2,1.")]
_Scale = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="MIN MAX", help="Raster values of black and white."),
]
_Stretch = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="P1 P2", help="Percentiles of black and white."),
]
_Gsd = Annotated[
    float | None, typer.Option(help="Metres per pixel of a raster that does not tell.")
]
_AnyGsd = Annotated[bool, typer.Option("--any-gsd", help="Allow rasters too coarse for the model.")]
_Pixels = Annotated[
    bool, typer.Option("--pixel-coordinates", help="Allow rasters without georeference.")
]
_RasterCrs = Annotated[str | None, typer.Option(help="CRS of a raster that has none.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(
    raster: _Raster,
    model: _Model = "tree-crowns",
    bands: _Bands = None,
    scale: _Scale = None,
    stretch: _Stretch = None,
    raster_crs: _RasterCrs = None,
    gsd: _Gsd = None,
    any_gsd: _AnyGsd = False,
    pixel_coordinates: _Pixels = False,
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
    chip: Annotated[int | None, typer.Option(help="Edge of a chip in model pixels.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Overlap of windows.")] = None,
    aoi: Annotated[str | None, typer.Option(help="Polygons that limit the work.")] = None,
    bands: _Bands = None,
    scale: _Scale = None,
    stretch: _Stretch = None,
    raster_crs: _RasterCrs = None,
    gsd: _Gsd = None,
    any_gsd: _AnyGsd = False,
    pixel_coordinates: _Pixels = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
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
            detector = load_detector(job.info, device=device)
            print_values(describe_work(job, detector).to_dict(), as_json=as_json)
