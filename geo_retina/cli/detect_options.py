"""Options of all commands that detect or read rasters: declared once, so that they agree."""

from typing import Annotated, Any

import typer

from geo_retina.cli.reporting import band_numbers
from geo_retina.errors import ConfigError

_READING = "Reading the raster"
_FINDING = "Finding objects"
_WORK = "Work"

Rasters = Annotated[
    list[str],
    typer.Argument(help="One GeoTIFF or another format of GDAL; also a URL.", metavar="RASTER"),
]
"""One raster: see `one_raster`."""
Each = Annotated[
    list[str],
    typer.Argument(
        help="GeoTIFF or another format of GDAL; also a URL. Many, and folders, if --output has "
        "{name}.",
        metavar="RASTER",
    ),
]
"""One raster, or many with files of their own."""
Aoi = Annotated[str | None, typer.Option(help="Vector file whose polygons limit the work.")]
AoiLayer = Annotated[str | None, typer.Option(help="Layer of --aoi, where the file has several.")]

Score = Annotated[
    float | None,
    typer.Option(
        help="Least score, 0 to 1, of all classes. [default: the model's, of each class its own]"
    ),
]
ClassScore = Annotated[
    list[str] | None,
    typer.Option(
        "--class-score",
        metavar="NAME=SCORE",
        help="Least score of one class, such as car=0.2; repeatable.",
        rich_help_panel=_FINDING,
    ),
]
NmsIou = Annotated[
    float | None,
    typer.Option(
        help="IoU above which only the better-scored box stays. [default: the model's]",
        rich_help_panel=_FINDING,
    ),
]
DecayIou = Annotated[
    float | None,
    typer.Option(
        help="IoU above which the lower score is reduced; 1 = never. [default: the model's]",
        rich_help_panel=_FINDING,
    ),
]
Method = Annotated[
    str,
    typer.Option(help="Stitching: nms, nms-ios, soft-nms or wbf.", rich_help_panel=_FINDING),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option(
        "--class-agnostic",
        help="One box per object, also across classes.",
        rich_help_panel=_FINDING,
    ),
]
Chip = Annotated[
    int | None,
    typer.Option(
        help="Side of a chip, pixels of the model. [default: chosen for speed]",
        rich_help_panel=_FINDING,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        help="Overlap of windows, pixels of the model. [default: the model's]",
        rich_help_panel=_FINDING,
    ),
]

Bands = Annotated[
    str | None,
    typer.Option(
        help="Band numbers in the model's order, from 1, such as 3,2,1.", rich_help_panel=_READING
    ),
]
Scale = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="MIN MAX",
        help="Raster values that become black and white, such as 0 4095.",
        rich_help_panel=_READING,
    ),
]
Stretch = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="P1 P2",
        help="Percentiles that become black and white, such as 2 98.",
        rich_help_panel=_READING,
    ),
]
RasterCrs = Annotated[
    str | None,
    typer.Option(
        help="CRS of a raster that has none, such as EPSG:32633.", rich_help_panel=_READING
    ),
]
Gsd = Annotated[
    float | None,
    typer.Option(
        help="Metres per pixel of a raster without georeference.", rich_help_panel=_READING
    ),
]
AnyGsd = Annotated[
    bool,
    typer.Option(
        "--any-gsd", help="Allow rasters too coarse for the model.", rich_help_panel=_READING
    ),
]
PixelCoordinates = Annotated[
    bool,
    typer.Option(
        "--pixel-coordinates",
        help="Allow rasters without georeference; coordinates are then pixels.",
        rich_help_panel=_READING,
    ),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=_WORK)]
Backend = Annotated[
    str,
    typer.Option(
        help="What runs the network: auto, torch, openvino, or openvino-int8, -fp32, -bf16.",
        rich_help_panel=_WORK,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, help="Chips at once. [default: by device]", rich_help_panel=_WORK),
]
Readers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that read windows; more help with rasters across a network. "
        "[default: by cores]",
        rich_help_panel=_WORK,
    ),
]


_FLAGS = {"chip_px": "--chip", "overlap_px": "--overlap", "gsd_m": "--gsd"}


def one_raster(rasters: list[str]) -> str:
    """The one raster that was named.

    Raises:
        ConfigError: There are several, for instance because the shell knew files of a pattern.
    """
    if len(rasters) > 1:
        raise ConfigError(
            f"expected one raster, got {len(rasters):,} ({rasters[0]}, {rasters[1]}...); "
            "`geo-retina detect RASTERS... -o 'FOLDER/{name}.gpkg'` writes a file of each, and "
            "`geo-retina mosaic RASTERS... -o all.vrt` makes one raster of tiles"
        )
    return rasters[0]


def class_scores(texts: list[str] | None) -> tuple[tuple[str, float], ...] | None:
    """Least scores of classes from texts such as `car=0.2`.

    Raises:
        ConfigError: A text is something else.
    """
    found = {}
    for text in texts or ():
        name, _, score = text.rpartition("=")
        if name in found:
            raise ConfigError(f"--class-score names {name} twice; give it one score")
        try:
            found[name] = float(score)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"--class-score takes NAME=SCORE such as car=0.2, got {text!r}")
    return tuple(found.items()) or None


def flags_given(settings: dict[str, Any], defaults: object) -> list[str]:
    """Flags of those settings that are not what the fields of `defaults` hold."""
    return [
        _FLAGS.get(name, f"--{name.replace('_', '-')}")
        for name, value in settings.items()
        if value != getattr(defaults, name)
    ]


def finding(
    nms_iou: NmsIou = None,
    decay_iou: DecayIou = None,
    method: Method = "nms",
    class_agnostic: ClassAgnostic = False,
    chip: Chip = None,
    overlap: Overlap = None,
) -> dict[str, Any]:
    """Fields of `DetectOptions`: how objects are found and stitched."""
    return {
        "nms_iou": nms_iou,
        "decay_iou": decay_iou,
        "method": method,
        "class_agnostic": class_agnostic,
        "chip_px": chip,
        "overlap_px": overlap,
    }


def reading(
    bands: Bands = None,
    scale: Scale = None,
    stretch: Stretch = None,
    raster_crs: RasterCrs = None,
    gsd: Gsd = None,
    any_gsd: AnyGsd = False,
    pixel_coordinates: PixelCoordinates = False,
) -> dict[str, Any]:
    """Fields of `DetectOptions`: how the raster is read.

    Raises:
        ConfigError: The bands are no numbers.
    """
    return {
        "bands": band_numbers(bands),
        "scale": scale,
        "stretch": stretch,
        "raster_crs": raster_crs,
        "gsd_m": gsd,
        "any_gsd": any_gsd,
        "pixel_coordinates": pixel_coordinates,
    }
