"""`geo-retina train`: a recipe and labelled images in, a checkpoint out."""

from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def train(
    config: Annotated[Path, typer.Argument(help="TOML file with the recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as schedule.steps=200."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder that the recipe's paths are relative to.")
    ] = Path(),
    out: Annotated[
        Path | None, typer.Option(help="Run folder. [default: runs/NAME of the recipe]")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare chips.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last state in the run folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs, no progress bar.")] = False,
) -> None:
    """Train a model from a recipe."""
    with exit_codes(quiet=quiet):
        from geo_retina.config import load_settings
        from geo_retina.training.fit import fit
        from geo_retina.training.settings import TrainingSettings

        settings = load_settings(config, TrainingSettings, overrides=overrides or ())
        folder = out or Path("runs") / settings.card.name
        path = fit(
            settings,
            data_folder=data,
            run_folder=folder,
            workers=workers,
            device=device,
            resume=resume,
            quiet=quiet,
        )
        print(f"written  {path}")
