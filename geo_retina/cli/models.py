"""`geo-retina models`: what ships with the package, and what a checkpoint says of itself."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from geo_retina.cli.reporting import exit_codes
from geo_retina.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from geo_retina.model.checkpoint import CheckpointInfo


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
        from geo_retina.model.checkpoint import bundled_models, read_info

        if model is not None:
            info = read_info(model)
            if recipe:
                print(_recipe_of(info))
            else:
                print(info.card.model_dump_json(indent=2))
            return
        if recipe:
            raise ConfigError("--recipe needs the name of a model or the path of a checkpoint")
        for name in bundled_models():
            card = read_info(name).card
            print(f"{name:<16} {card.gsd_m:g} m, {len(card.bands)} bands: {card.summary}")


def _recipe_of(info: "CheckpointInfo") -> str:
    """The recipe that a checkpoint carries, as indented JSON."""
    if info.recipe is None:
        raise ModelError(f"{info.path} carries no recipe; its card says how it was made")
    try:
        return json.dumps(json.loads(info.recipe), indent=2)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the recipe in {info.path} is damaged: {error}") from error
