"""What the commands share: logs on stderr, exit codes, the progress bar."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from geo_retina.errors import ConfigError, GeoRetinaError, UsageError

if TYPE_CHECKING:
    from geo_retina.detection.run import OnProgress

BAD_INPUT = 2
FAILURE = 1


@contextmanager
def exit_codes(*, quiet: bool) -> Iterator[None]:
    """Send logs to stderr and turn the package's errors into one line and an exit code."""
    _start_logging(quiet=quiet)
    try:
        yield
    except UsageError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from error
    except GeoRetinaError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise typer.Exit(FAILURE) from error


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator["OnProgress"]:
    """Show a bar with Mpix/s, objects and time left; nothing where stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total, _found: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("detecting"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]:.2f} Mpix/s"),
        TextColumn("{task.fields[found]} objects"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None, rate=0.0, found=0)

        def update(done: float, total: float, found: int) -> None:
            elapsed = bar.tasks[task].elapsed or 0.0
            rate = done / elapsed if elapsed > 0 else 0.0
            bar.update(task, completed=done, total=total, rate=rate, found=f"{found:,}")

        yield update


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Band numbers from a text such as `3,2,1`.

    Raises:
        ConfigError: The text is something else.
    """
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--bands takes numbers such as 3,2,1, got {text!r}") from error
    return numbers


def _start_logging(*, quiet: bool) -> None:
    package = logging.getLogger("geo_retina")
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    if not package.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        package.addHandler(handler)
        package.propagate = False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            return f"{record.levelname.lower()}: {text}"
        return text


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
