"""`geo-retina models`: what ships with the package, and what a checkpoint says of itself."""

from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def models(
    model: Annotated[
        str | None,
        typer.Argument(help="Bundled model or checkpoint whose card to show; none lists them."),
    ] = None,
) -> None:
    """List the bundled models, or print the card of one as JSON."""
    with exit_codes(quiet=False):
        from geo_retina.model.checkpoint import bundled_models, read_info

        if model is not None:
            print(read_info(model).card.model_dump_json(indent=2))
            return
        for name in bundled_models():
            card = read_info(name).card
            print(f"{name:<16} {card.gsd_m:g} m, {len(card.bands)} bands: {card.summary}")
