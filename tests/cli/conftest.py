"""The program, in the process of the tests."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from geo_retina.cli.main import app


@pytest.fixture
def run() -> Callable[..., Any]:
    """`run("detect", ...)`: the program in this process; standard error is kept apart."""

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke
