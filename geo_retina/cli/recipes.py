"""`geo-retina recipes`: the recipes that come with the package, to train by or to copy."""

from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def recipes(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Recipe or card to print; none lists them."),
    ] = None,
) -> None:
    """List the recipes for `train` and cards for `convert`; print one.

    To make one your own: geo-retina recipes two-cores > mine.toml
    """
    with exit_codes(quiet=False):
        from geo_retina.config import bundled_cards, bundled_recipes
        from geo_retina.errors import ConfigError

        known = bundled_recipes() | bundled_cards()
        if recipe is None:
            for name, path in known.items():
                first = path.read_text(encoding="utf-8").partition("\n")[0]
                print(f"{name:<20} {first.lstrip('# ')}")
        elif recipe in known:
            print(known[recipe].read_text(encoding="utf-8"), end="")
        else:
            raise ConfigError(f"unknown recipe {recipe!r}: expected one of {', '.join(known)}")
