"""Options of all commands that read labels, and what they make of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from geo_retina.labels.choice import LabelChoice

_LABELS = "Reading the labels"
_FORMATS = "coco, deepforest, dota, points, vector, voc, xview or yolo"

LabelsPath = Annotated[str, typer.Argument(help="Label file or folder, any known format.")]
Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        "--rasters",
        help="Raster, or folder of the rasters. [default: beside the labels]",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help=f"{_FORMATS}. [default: told by the file]", rich_help_panel=_LABELS
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        help="Class names in the order of their ids, such as car,truck.", rich_help_panel=_LABELS
    ),
]
ClassColumn = Annotated[
    str | None,
    typer.Option(
        help='Column with the class; "" = all is one class. '
        "[default: class, else label, of a vector file; label of a CSV]",
        rich_help_panel=_LABELS,
    ),
]
PointSize = Annotated[
    float | None,
    typer.Option(help="Side of the box around a point, metres.", rich_help_panel=_LABELS),
]
LabelCrs = Annotated[
    str | None,
    typer.Option(
        "--labels-crs",
        "--crs",
        help="CRS of labels that state none, such as EPSG:4326.",
        rich_help_panel=_LABELS,
    ),
]
Layer = Annotated[str | None, typer.Option(help="Layer of a vector file.", rich_help_panel=_LABELS)]
Area = Annotated[
    str | None,
    typer.Option(
        help="Vector file: polygons inside which all is labelled.", rich_help_panel=_LABELS
    ),
]
AreaLayer = Annotated[str | None, typer.Option(help="Layer of --area.", rich_help_panel=_LABELS)]
FirstPixel = Annotated[
    int,
    typer.Option(min=0, max=1, help="VOC: number of the first pixel.", rich_help_panel=_LABELS),
]
Only = Annotated[
    Path | None,
    typer.Option(help="Text file that names the images to take.", rich_help_panel=_LABELS),
]
Split = Annotated[
    str | None, typer.Option(help="Only rasters of this split.", rich_help_panel=_LABELS)
]


def label_choice(
    path: str,
    images: Images = None,
    label_format: Format = None,
    classes: Classes = None,
    class_column: ClassColumn = None,
    point_size_m: PointSize = None,
    crs: LabelCrs = None,
    layer: Layer = None,
    area: Area = None,
    area_layer: AreaLayer = None,
    first_pixel: FirstPixel = 0,
    only: Only = None,
    split: Split = None,
) -> "LabelChoice":
    """The labels at a path that these options describe."""
    from geo_retina.labels.choice import LabelChoice
    from geo_retina.labels.formats import LabelSource
    from geo_retina.labels.vector import VectorOptions

    source = LabelSource(
        path=path,
        images=images,
        class_names=None if classes is None else tuple(map(str.strip, classes.split(","))),
        vector=VectorOptions(
            class_column=class_column,
            point_size_m=point_size_m,
            crs=crs,
            layer=layer,
            area=area,
            area_layer=area_layer,
        ),
        first_pixel=first_pixel,
    )
    return LabelChoice(source=source, label_format=label_format, only=only, split=split)
