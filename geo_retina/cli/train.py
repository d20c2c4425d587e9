"""`geo-retina train`: a recipe and labelled images in, a checkpoint out."""

from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli.bars import training_bar
from geo_retina.cli.reporting import exit_codes

_INTERRUPTED = "interrupted; a run that has finished an epoch goes on with --resume"


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="TOML file with the recipe, the recipe.json of a run, or a name that "
            "`geo-retina recipes` lists.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as schedule.steps=200."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder that the recipe's paths are relative to.")
    ] = Path(),
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "--out", "-o", help="Run folder. [default: runs/NAME of the recipe]"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that prepare chips. [default: 0; on a GPU up to 8]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="CUDA devices, or CPU processes, that train together.")
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last finished epoch of the run.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs, no progress bar.")] = False,
) -> None:
    """Train a model from a recipe.

    An interrupted run goes on with --resume; on the CPU, the result is the same.
    """
    with exit_codes(quiet=quiet, interrupted=_INTERRUPTED):
        from geo_retina.config import find_recipe, load_settings
        from geo_retina.training.fit import fit, is_first_process
        from geo_retina.training.settings import TrainingSettings

        settings = load_settings(find_recipe(config), TrainingSettings, overrides=overrides or ())
        folder = out or Path("runs") / settings.card.name
        with training_bar(quiet=quiet or not is_first_process()) as on_progress:
            path = fit(
                settings,
                data_folder=data,
                run_folder=folder,
                workers=workers,
                device=device,
                devices=devices,
                resume=resume,
                on_progress=on_progress,
            )
        if is_first_process():
            print(f"written  {path}")
