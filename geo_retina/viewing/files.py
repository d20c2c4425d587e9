"""Files to look at: refused before the work starts where they cannot be, in place when whole."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from geo_retina.detection.paths import check_name
from geo_retina.errors import OutputError, WriteError


def check_place(path: Path, *, what: str, ending: str) -> None:
    """Find out whether a file could be written.

    Args:
        path: Where it shall appear.
        what: What it is, for messages.
        ending: That it must have, such as `.png`.

    Raises:
        OutputError: Another ending, a missing folder, or no permission.
    """
    if path.suffix.lower() != ending:
        raise OutputError(f"expected a {what} that ends in {ending}, got {path}")
    check_name(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"the folder of {path} does not exist; make it first")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"no {what} can be written to {path}; choose another name or folder")


def put(path: Path, write: Callable[[Path], object], *, what: str) -> None:
    """Write a file under another name first, so that it appears when it is whole.

    Args:
        path: Where it shall appear.
        write: Writes it to the path that it is given.
        what: What it is, for messages.

    Raises:
        WriteError: The disk is full or lost.
    """
    final = path.resolve()  # a link stays, and what it leads to is replaced
    begun = final.with_name(f".{final.name}.part")
    try:
        write(begun)
        begun.replace(final)
    except OSError as problem:
        with contextlib.suppress(OSError):  # what failed first is what is told
            begun.unlink(missing_ok=True)
        raise WriteError(f"cannot write the {what} {path}: {problem}") from problem
