"""`geo-retina labels check`: what is wrong with labels, before anything is learned from them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli import label_options as options
from geo_retina.cli.reporting import FAILURE, exit_codes

labels = typer.Typer(help="Look at labels.", no_args_is_help=True)


@labels.callback()
def _labels() -> None:
    """Look at labels."""


@labels.command()
def check(
    path: options.LabelsPath,
    images: options.Images = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG with the labels drawn on some rasters.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the outcome to this file.")
    ] = None,
    label_format: options.Format = None,
    classes: options.Classes = None,
    class_column: options.ClassColumn = None,
    point_size_m: options.PointSize = None,
    crs: options.LabelCrs = None,
    layer: options.Layer = None,
    area: options.Area = None,
    first_pixel: options.FirstPixel = 0,
    only: options.Only = None,
    split: options.Split = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Count swapped, empty, outside and double labels; suspect misregistration and leaks.

    Exit codes: 0 nothing to mend, 1 something to mend, 2 bad usage or input.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.labels.checks import check_labels
        from geo_retina.labels.leakage import audit_splits
        from geo_retina.labels.pictures import contact_sheet

        labelled = options.label_choice(
            path,
            images,
            label_format=label_format,
            classes=classes,
            class_column=class_column,
            point_size_m=point_size_m,
            crs=crs,
            layer=layer,
            area=area,
            first_pixel=first_pixel,
            only=only,
            split=split,
        ).read()
        report = check_labels(labelled)
        print(report.to_text())
        content = report.to_dict()
        leaks = False
        if len({item.split for item in labelled}) > 1:
            leakage = audit_splits(labelled)
            leaks = leakage.leaks
            print(leakage.to_text())
            content["splits"] = leakage.to_dict()
        if as_json is not None:
            options.write_text(as_json, json.dumps(content, indent=2) + "\n")
        if sheet is not None:
            print(f"sheet    {contact_sheet(labelled, options.writable(sheet))}")
    if leaks or not report.is_clean:
        raise typer.Exit(FAILURE)
