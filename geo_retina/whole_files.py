"""Files that are refused before the work where they cannot be, and appear when they are whole."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geo_retina.errors import OutputError, WriteError

LONGEST_NAME = 220
"""Bytes: most file systems take 255, and what lies beside a file while it is written has a longer
name."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Faults of the machine, not of what was asked for."""
NOT_IN_NAMES = '<>:"/\\|?*'
"""What a file name cannot hold everywhere."""


def check_place(path: Path, *, ending: str | None = None) -> None:
    """Find out whether a file could be written.

    Args:
        path: Where it shall appear.
        ending: That it must have, such as `.png`; None = any.

    Raises:
        OutputError: Another ending, a name too long, a missing folder, a folder of that name, or no
            permission.
    """
    if ending is not None and path.suffix.lower() != ending:
        raise OutputError(f"expected a file that ends in {ending}, got {path}")
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise OutputError(
            f"expected a file name of at most {LONGEST_NAME} bytes, got {path.name}; choose a "
            "shorter one"
        )
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} of {path.name} does not exist; make it first")
    if path.is_dir():
        raise OutputError(f"expected a file to write, got the folder {path}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"no permission to write {path.name} in the folder {folder}; choose another one"
        )


@contextmanager
def whole_file(path: Path, *, error: type[OutputError | WriteError] = WriteError) -> Iterator[Path]:
    """Give another path to write to, and move what was written to `path` at the end.

    Whatever fails, `path` is as it was. Where it is a link, that stays, and what it leads to is
    replaced.

    Args:
        path: Where the file shall appear.
        error: What to raise where it cannot be written.

    Raises:
        WriteError: The disk is full.
        OutputError, WriteError: As `error` says; the disk is lost, or there is no way to the file.
    """
    final = path.resolve()
    begun = final.with_name(f".{final.name}.part")
    try:
        yield begun
        begun.replace(final)
    except BaseException as failure:
        with contextlib.suppress(OSError):  # what failed first is what is told
            begun.unlink(missing_ok=True)
        if isinstance(failure, OSError) and not isinstance(failure, OutputError | WriteError):
            why = failure.strerror or str(failure)
            if failure.errno in DISK_FULL:
                raise WriteError(f"cannot write {path}: {why}; make room") from failure
            raise error(f"cannot write {path}: {why}; choose another place") from failure
        raise


def write_whole(
    path: Path, text: str, *, error: type[OutputError | WriteError] = WriteError
) -> None:
    """Write a text in UTF-8 that appears as `path` when it is whole; see `whole_file`."""
    with whole_file(path, error=error) as file:
        file.write_text(text, encoding="utf-8")
