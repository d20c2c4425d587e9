"""The program `geo-retina`: its commands, and how it ends.

Exit codes: 0 done, 1 failure, 2 bad usage or input.
"""

from typing import Annotated

import typer

from geo_retina.cli.anchors import anchors
from geo_retina.cli.chips import chips
from geo_retina.cli.convert import convert
from geo_retina.cli.detect import detect
from geo_retina.cli.evaluate import evaluate
from geo_retina.cli.export import export
from geo_retina.cli.info import info, plan
from geo_retina.cli.labels import labels
from geo_retina.cli.models import models
from geo_retina.cli.mosaic import mosaic
from geo_retina.cli.recipes import recipes
from geo_retina.cli.train import train

app = typer.Typer(
    name="geo-retina",
    help="Detect dense, small objects in large georeferenced rasters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS = (
    detect,
    info,
    plan,
    mosaic,
    models,
    evaluate,
    recipes,
    train,
    export,
    convert,
    chips,
    anchors,
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(labels, name="labels")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("geo-retina"))
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Detect dense, small objects in large georeferenced rasters."""
