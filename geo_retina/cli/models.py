"""`geo-retina models`: what ships with the package, and what a checkpoint says of itself."""

import json
from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def models(
    model: Annotated[
        str | None,
        typer.Argument(help="Bundled model or checkpoint whose card to show; none lists them."),
    ] = None,
    recipe: Annotated[
        bool,
        typer.Option("--recipe", help="Print the recipe it was trained with instead."),
    ] = False,
) -> None:
    """List the bundled models; print the card or recipe of one."""
    with exit_codes(quiet=False):
        from geo_retina.errors import ConfigError, ModelError
        from geo_retina.model.checkpoint import bundled_models, read_info

        if model is not None:
            info = read_info(model)
            if recipe and info.recipe is None:
                raise ModelError(f"{info.path} carries no recipe; its card says how it was made")
            if recipe:
                print(json.dumps(json.loads(info.recipe or ""), indent=2))
            else:
                print(info.card.model_dump_json(indent=2))
            return
        if recipe:
            raise ConfigError("--recipe needs the name of a model or the path of a checkpoint")
        for name in bundled_models():
            card = read_info(name).card
            print(f"{name:<16} {card.gsd_m:g} m, {len(card.bands)} bands: {card.summary}")
