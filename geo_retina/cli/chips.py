"""`geo-retina chips`: cut training chips out of labelled rasters."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_retina.cli import label_options as options
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import FAILURE, exit_codes, refuse_given
from geo_retina.errors import ConfigError
from geo_retina.wording import counted

if TYPE_CHECKING:
    from geo_retina.labels.choice import LabelChoice

_SPLITTING = "Dividing into train, val and test"
_SHARES = (0.7, 0.15, 0.15)


class DivideBy(StrEnum):
    """What stays together when rasters are divided."""

    FILE = "file"
    SITE = "site"
    BLOCK = "block"
    GROUND = "ground"


_SQUARES = {DivideBy.BLOCK: ("block_m",), DivideBy.GROUND: ("block_m", "guard_m")}
"""Measures that ways of dividing need."""


class ChipSuffix(StrEnum):
    """File format of chips."""

    TIF = "tif"
    PNG = "png"


@takes(choice=options.label_choice)
def chips(
    path: options.LabelsPath,
    out: Annotated[
        Path, typer.Option("--output", "--out", "-o", help="Folder for chips and COCO files.")
    ],
    chip: Annotated[int, typer.Option(min=1, help="Side of a chip, pixels.")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="Overlap of chips, pixels.")] = 0,
    gsd: Annotated[
        float | None,
        typer.Option(help="Metres per pixel of the chips. [default: the rasters' own]"),
    ] = None,
    visible: Annotated[
        float, typer.Option(help="Share of a cut object that must be seen to be a label.")
    ] = 0.3,
    empty: Annotated[float, typer.Option(help="Share of the chips without labels to keep.")] = 0.1,
    suffix: Annotated[ChipSuffix, typer.Option(help="tif keeps bands and CRS.")] = ChipSuffix.TIF,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the chips of an earlier cut first.")
    ] = False,
    divide_by: Annotated[
        DivideBy | None,
        typer.Option(
            help="What stays in one split. [default: as the labels say]", rich_help_panel=_SPLITTING
        ),
    ] = None,
    shares: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="TRAIN VAL TEST", help="Sizes of the splits.", rich_help_panel=_SPLITTING
        ),
    ] = _SHARES,
    block_m: Annotated[
        float | None,
        typer.Option(
            help="Side of the squares of block and ground, metres.", rich_help_panel=_SPLITTING
        ),
    ] = None,
    guard_m: Annotated[
        float | None,
        typer.Option(help="Metres between the splits of ground.", rich_help_panel=_SPLITTING),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Another seed divides otherwise.", rich_help_panel=_SPLITTING)
    ] = 0,
    *,
    choice: Callable[[str], "LabelChoice"],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Cut chips into a folder, with a COCO file for each split.

    Training needs no chips: it cuts its own from the rasters. They are for other programs.

    Exit codes: 0 done, 2 bad usage or input, 1 failure, or splits that share pixels or ground:
    their chips are written nevertheless.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.config import parse_settings
        from geo_retina.labels.chips import ChipOptions, cut_chips
        from geo_retina.labels.leakage import audit_splits
        from geo_retina.training.division import Division

        chip_options = ChipOptions(
            chip_px=chip,
            gsd_m=gsd,
            overlap_px=overlap,
            min_visible=visible,
            empty_share=empty,
            chip_format=suffix.value,
        )
        if divide_by is None:
            idle = {
                "--shares": shares != _SHARES,
                "--block-m": block_m,
                "--guard-m": guard_m,
                "--seed": seed or None,
            }
            refuse_given(idle, "for --divide-by; state it, or leave them out")
        labelled = choice(path).read()
        if divide_by is not None:
            given = {"block_m": block_m, "guard_m": guard_m}
            _check_squares(divide_by, given)
            division = parse_settings(
                {
                    "kind": divide_by.value,
                    "shares": dict(zip(("train", "val", "test"), shares, strict=True)),
                    "seed": seed,
                    **{key: value for key, value in given.items() if value is not None},
                },
                Division,
                source="--divide-by",
            )
            labelled = division.divide(labelled)
        cut = cut_chips(labelled, out, options=chip_options, overwrite=overwrite)
        print(
            f"cut      {counted(cut.chips, 'chip')}, {cut.empty_chips:,} of them empty; "
            f"{counted(cut.labels, 'label')}, and {cut.ignored:,} that show too little and are "
            "marked as ignored"
        )
        leaks = False
        if len({item.split for item in labelled}) > 1:
            leakage = audit_splits(labelled)
            leaks = leakage.leaks
            print(leakage.to_text())
        for annotations in cut.annotations:
            print(f"written  {annotations}")
    if leaks:
        raise typer.Exit(FAILURE)


def _check_squares(divide_by: DivideBy, given: Mapping[str, float | None]) -> None:
    """Check that the measures of squares are given where squares are divided, and only there.

    Raises:
        ConfigError: One lacks, or would have no effect.
    """
    needed = _SQUARES.get(divide_by, ())
    kind = f"--divide-by {divide_by.value}"
    lacking = [_flag(key) for key in needed if given[key] is None]
    if lacking:
        raise ConfigError(f"{kind}: state {' and '.join(lacking)}, metres")
    idle = {_flag(key): value for key, value in given.items() if key not in needed}
    refuse_given(idle, f"no effect with {kind}; leave out")


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"
