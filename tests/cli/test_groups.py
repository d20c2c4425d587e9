from collections.abc import Callable
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from geo_retina.cli.groups import takes


def size(width: Annotated[int, typer.Option(min=1)] = 1, height: int = 2) -> tuple[int, int]:
    if height > 9:
        raise ValueError("too high")
    return width, height


@pytest.fixture
def seen() -> dict[str, Any]:
    return {}


@pytest.fixture
def app(seen: dict[str, Any]) -> typer.Typer:
    found = typer.Typer()

    @found.command()
    @takes(area=size)
    def draw(
        name: str,
        *,
        area: Callable[[], tuple[int, int]],
        colour: Annotated[str, typer.Option(help="Of the line.")] = "red",
    ) -> None:
        """Draw."""
        seen.update(name=name, colour=colour, area=area)

    return found


def test_options_of_a_group_stand_in_place_of_its_parameter(
    app: typer.Typer, seen: dict[str, Any]
) -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert text.index("--width") < text.index("--height") < text.index("--colour")
    assert "--area" not in text
    assert CliRunner().invoke(app, ["a", "--height", "5"]).exit_code == 0
    assert (seen["name"], seen["colour"], seen["area"]()) == ("a", "red", (1, 5))


def test_what_is_wrong_with_a_group_shows_when_the_command_asks_for_it(
    app: typer.Typer, seen: dict[str, Any]
) -> None:
    assert CliRunner().invoke(app, ["a", "--width", "0"]).exit_code == 2
    assert CliRunner().invoke(app, ["a", "--height", "10"]).exit_code == 0
    with pytest.raises(ValueError, match="too high"):
        seen["area"]()
