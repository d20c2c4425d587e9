"""`geo-retina anchors`: anchors that fit some labels, and what they could ever find."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_retina.cli import label_options as options
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import exit_codes

if TYPE_CHECKING:
    from geo_retina.labels.choice import LabelChoice


@takes(choice=options.label_choice)
def anchors(
    path: options.LabelsPath,
    gsd: Annotated[
        float | None,
        typer.Option(help="GSD of the model, metres. [default: the rasters' own pixels]"),
    ] = None,
    chip: Annotated[int, typer.Option(min=32, help="Side of a chip, model pixels.")] = 512,
    sizes: Annotated[int, typer.Option(min=1, help="Anchor sizes of each level.")] = 3,
    ratios: Annotated[int, typer.Option(min=1, help="Shapes of each size.")] = 3,
    picture: Annotated[
        Path | None, typer.Option(help="PNG: share of the objects found at best, by size.")
    ] = None,
    *,
    choice: Callable[[str], "LabelChoice"],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Propose pyramid levels and anchors that fit labels.

    The share of the objects that they can find is compared with that of the RetinaNet paper's, of
    many objects on a sample of the chips.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.detection.paths import refuse_overwriting
        from geo_retina.training.anchors import propose_anchors
        from geo_retina.whole_files import check_place

        if picture is not None:
            check_place(picture, ending=".png")
        labelled = choice(path).read()
        refuse_overwriting([item.raster for item in labelled], [picture])
        proposed = propose_anchors(
            labelled, gsd_m=gsd, chip_px=chip, sizes_per_level=sizes, ratios=ratios
        )
        print(proposed.to_text())
        if picture is not None:
            print(f"picture  {proposed.draw(picture)}")
