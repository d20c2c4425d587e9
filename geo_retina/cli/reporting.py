"""What the commands share: logs on stderr, exit codes, units."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

import typer

from geo_retina.errors import ConfigError, GeoRetinaError, UsageError
from geo_retina.whole_files import DISK_FULL

BAD_INPUT = 2
FAILURE = 1
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@contextmanager
def exit_codes(*, quiet: bool, interrupted: str = "interrupted") -> Iterator[None]:
    """Send logs to stderr and turn the package's errors into one line and an exit code.

    Args:
        quiet: Only warnings and errors.
        interrupted: The line that Ctrl-C leaves.
    """
    _start_logging(quiet=quiet)
    try:
        with _library_warnings():
            yield
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from error
    except GeoRetinaError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise typer.Exit(FAILURE) from error
    except ModuleNotFoundError as error:
        if (error.name or "geo_retina").startswith("geo_retina"):
            raise
        print(
            f"error: this needs {error.name}, which is not installed; install geo_retina with all "
            "its dependencies (in a checkout: `pip install .`)",
            file=sys.stderr,
        )
        raise typer.Exit(BAD_INPUT) from error
    except OSError as error:
        if error.errno not in DISK_FULL:  # met by what is printed, or by a library
            raise
        print(f"error: {one_line(error)}; make room and run again", file=sys.stderr)
        raise typer.Exit(FAILURE) from error
    except KeyboardInterrupt as error:
        print(interrupted, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error


def refuse_given(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect.

    Args:
        options: Value of each option by its flag; None or False where it was not given.
        why: What to do about it, for the error's text.

    Raises:
        ConfigError: One of them was given.
    """
    given = [flag for flag, value in options.items() if value not in (None, False)]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}")


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


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print names and texts to stdout, one a line."""
    for name, text in lines:
        print(f"{name:<13} {text}")


def megapixels(number: float) -> str:
    """Millions of pixels, to three digits."""
    return f"{number:,.0f} Mpix" if number >= 100 else f"{number:.3g} Mpix"  # noqa: PLR2004


def memory(mib: float) -> str:
    """Memory in the unit that fits, to two or three digits."""
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"  # noqa: PLR2004


def _start_logging(*, quiet: bool) -> None:
    package = logging.getLogger("geo_retina")
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    for earlier in [item for item in package.handlers if isinstance(item, _StderrHandler)]:
        package.removeHandler(earlier)  # of another command in this process
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    handler.addFilter(_Once())
    package.addHandler(handler)
    package.propagate = False


@contextmanager
def _library_warnings() -> Iterator[None]:
    """Show what a library warns of as a line like all others, without its place in the source."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: print(
            f"warning: {one_line(message)}", file=sys.stderr
        )
        yield


_ESCAPED = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"
}
"""Control characters, which a name of a file or a band may hold: a terminal would obey them."""


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the moment of the message."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Once(logging.Filter):
    """Lets each warning pass once: rasters are opened to be checked, and again to be read."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        is_new = text not in self._told
        self._told.add(text)
        return is_new


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().translate(_ESCAPED)
        if record.levelno >= logging.WARNING:
            return f"{record.levelname.lower()}: {text}"
        return text


def one_line(error: object) -> str:
    """A text without line breaks, and without what a terminal would obey."""
    return " ".join(str(error).split()).translate(_ESCAPED)
