"""`geo-retina labels check`: what is wrong with labels, before anything is learned from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_retina.cli import label_options as options
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import FAILURE, exit_codes

if TYPE_CHECKING:
    from geo_retina.labels.choice import LabelChoice

labels = typer.Typer(help="Check labels.", no_args_is_help=True)


@labels.callback()
def _labels() -> None:
    """Check labels."""


@labels.command()
@takes(choice=options.label_choice)
def check(
    path: options.LabelsPath,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG with the labels drawn on some rasters.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the outcome to this file.")
    ] = None,
    *,
    choice: Callable[[str], "LabelChoice"],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Find faults of labels: swapped, empty, double, shifted, leaking.

    Exit codes: 0 nothing to mend, 1 something to mend, 2 bad usage or input.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.detection.paths import refuse_overwriting
        from geo_retina.errors import OutputError
        from geo_retina.labels.checks import check_labels
        from geo_retina.labels.leakage import audit_splits
        from geo_retina.labels.pictures import contact_sheet
        from geo_retina.whole_files import check_place, write_whole

        known = choice(path)
        refuse_overwriting(known.files, [sheet, as_json])
        if sheet is not None:
            check_place(sheet, ending=".png")
        if as_json is not None:
            check_place(as_json)
        labelled = known.read()
        refuse_overwriting([item.raster for item in labelled], [sheet, as_json])
        report = check_labels(labelled)
        print(report.to_text())
        content = report.to_dict()
        leaks = False
        labelled = [item for item in labelled if item.raster not in report.unreadable]
        if len({item.split for item in labelled}) > 1:
            leakage = audit_splits(labelled)
            leaks = leakage.leaks
            print(leakage.to_text())
            content["splits"] = leakage.to_dict()
        if as_json is not None:
            write_whole(as_json, json.dumps(content, indent=2) + "\n", error=OutputError)
        if sheet is not None and labelled:
            print(f"sheet    {contact_sheet(labelled, sheet)}")
    if leaks or not report.is_clean:
        raise typer.Exit(FAILURE)
