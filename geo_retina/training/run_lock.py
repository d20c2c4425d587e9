"""One training a run folder: a lock that goes with its process, however that ends."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geo_retina.detection import disk
from geo_retina.errors import ConfigError, OutputError

_log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
"""File in the run folder while a training is using it."""

_held: set[BinaryIO] = set()


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep a run folder for this process; it is made, and gone again if nothing came into it.

    Raises:
        ConfigError: Another training is using it.
        OutputError: It cannot be written.
    """
    path = folder / LOCK_NAME
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        file = _open_locked(path)
    except BlockingIOError as error:
        raise ConfigError(
            f"another training is using the run folder {folder}; wait for it to end, or choose "
            "another --out"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write the run folder {folder}: {error}; mend its permissions, or choose "
            "another --out"
        ) from error
    _held.add(file)
    try:
        yield
    finally:
        if file in _held:
            _held.discard(file)
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                disk.remove_locked(path, file)
                for place in made:
                    place.rmdir()


def _open_locked(path: Path) -> BinaryIO:
    """Open and lock a file, which is made with its folder.

    Raises:
        BlockingIOError: Another process has locked it.
        OSError: It cannot be written.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
        try:
            if not disk.lock(file):
                _log.debug("the file system of %s has no locks; going on without", path)
        except BlockingIOError:
            file.close()
            raise
        if disk.is_at(path, file):
            return file
        file.close()  # the run that had it is done and has removed it


def _let_go() -> None:
    """Close what a forked process has of the locks: they are those of its parent alone."""
    while _held:
        _held.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
