"""A private folder beside an output, whose files take their final names only when whole.

The folder lies beside the output because only a rename within one file system is atomic. Its name
is fixed (`.trees.gpkg.part`) and it is locked while in use: what a killed run left behind is
cleared by the next one, and two runs cannot write one output.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from geo_retina.detection import disk
from geo_retina.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

_LOCK = "lock"
"""Name of the file, in the folder, that is locked while the folder is in use."""


class Staging:
    """Where one output is written until it is whole."""

    def __init__(self, final: Path, *, sidecars: Sequence[str] = ()) -> None:
        """Claim the folder.

        Args:
            final: Where the output's main file will appear.
            sidecars: Endings, after the final name's stem, of further files that belong to the
                output. Those that an earlier output left and this one lacks are removed.

        Raises:
            OutputError: Another run is writing this output, or the folder cannot be made.
        """
        final = final.resolve()  # a link stays, and what it leads to is replaced
        self._final = final
        self._sidecars = [final.with_name(final.stem + ending) for ending in sidecars]
        self._folder = final.with_name(f".{final.name}.part")
        try:
            self._lock: BinaryIO | None = _claimed(self._folder)
            for left in self._files():
                left.unlink(missing_ok=True)
        except BlockingIOError as error:
            raise OutputError(
                f"another run is writing {final}; wait for it or choose another output"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot write beside {final}: {error}") from error

    @property
    def path(self) -> Path:
        """Where to write the main file; further files may lie beside it."""
        return self._folder / self._final.name

    def sync(self) -> None:
        """Make sure that what was written survives a power cut."""
        for file in self._files():
            disk.sync_file(file)

    def publish(self) -> None:
        """Move all files to their final names, the main file last, and remove the folder.

        A single file is replaced atomically. Where a format has several (Shapefile), the old main
        file goes first, so that at no moment the new parts stand beside the old main file.
        """
        files = sorted(self._files(), key=lambda file: file == self.path)
        stale = [path for path in self._sidecars if path.exists()]
        if len(files) > 1 or stale:
            self._final.unlink(missing_ok=True)
        for path in stale:
            path.unlink()
        for file in files:
            file.replace(self._final.with_name(file.name))
        disk.sync_folder(self._final.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            if disk.IS_WINDOWS:  # which could not remove the open file
                shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """What was written into the folder."""
        return [file for file in self._folder.iterdir() if file.name != _LOCK]


def _claimed(folder: Path) -> BinaryIO:
    """Make a folder, and lock a file in it until that is closed or the process ends.

    Raises:
        BlockingIOError: Another process has it.
        OSError: It cannot be made.
    """
    path = folder / _LOCK
    while True:
        try:
            folder.mkdir(exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:  # another run has just removed the folder
            if not folder.parent.is_dir():
                raise
            continue
        except FileExistsError:  # the same, unless something else has that name
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            continue
        try:
            disk.lock(file)
        except BlockingIOError:
            file.close()
            raise
        if disk.is_at(path, file):
            return file
        file.close()  # another run has just removed it
