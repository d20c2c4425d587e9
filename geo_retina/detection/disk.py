"""What POSIX and Windows do differently: locks, bytes that are on the disk, removing open files.

A lock holds between processes until the file is closed or the process ends, however it ends.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO

IS_WINDOWS = sys.platform == "win32"

_LOCKED_BYTE = 2**40  # past the end of any file here: on Windows nobody else reads a locked byte


def lock(file: BinaryIO) -> bool:
    """Lock an open file, without waiting.

    Returns:
        False where the file system has no locks.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        (_lock_on_windows if IS_WINDOWS else _lock_on_posix)(file.fileno())
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _lock_on_posix(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_on_windows(descriptor: int) -> None:
    import msvcrt

    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)


def is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file is still what stands under a name: a lock on a deleted file is none."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def put_new(source: Path, target: Path) -> None:
    """Give a file another name, in one step.

    Raises:
        FileExistsError: Something has that name.
    """
    if IS_WINDOWS:
        source.rename(target)
        return
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)
    else:
        source.unlink()


def write_at(file: BinaryIO, data: bytes, place: int) -> None:
    """Write past what Python buffers, and return when it is on the disk.

    Raises:
        OSError: The disk is full or lost; a part may have been written.
    """
    descriptor, rest = file.fileno(), memoryview(data)
    os.lseek(descriptor, place, os.SEEK_SET)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Return when what was written to a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk; Windows sees to that by itself."""
    if IS_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_locked(path: Path, file: BinaryIO) -> None:
    """Close a locked file and delete it; where the system can, it is locked until it is gone."""
    if IS_WINDOWS:
        file.close()
    path.unlink(missing_ok=True)
    file.close()
