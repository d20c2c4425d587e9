"""What is done: an append-only file from which a killed run goes on.

A detection run works strip by strip. After each strip it commits one record: the detections that
became final, the ones the stitcher still carries, and the run's counters. The record is on the disk
(fsync) before `commit` returns. Outputs get the final detections of each strip once it is
committed; a run that goes on gives them those of the earlier strips first, from `replay`, in the
order of their commits. Why this way:

- *Same bytes.* An output is a function of the committed sequence. A resumed run starts at
  `next_strip` from the carried arrays, bit for bit those of the unbroken run, so it commits the
  same records, and an output cannot tell where the run was broken.
- *Nothing lost.* Only the strip under way is computed again, and no half-written format has to be
  repaired (no GeoPackage transaction or FlatGeobuf index can be resumed): outputs begin anew.
- *Bounded.* Memory is that of one record. The disk holds about 40 bytes a detection, less than any
  of the outputs.

A kill at any moment leaves a file whose last record is whole or torn. Each record carries its
length and a checksum; `resume` reads up to the first one that does not hold, and cuts the rest off.
The header, written before the first strip and moved into place at once, holds fingerprints of all
that the result depends on; a ledger of another job is refused, naming what differs.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from geo_retina.detection import disk
from geo_retina.detection.fingerprints import LedgerHeader
from geo_retina.detection.ledger_records import (
    StripRecord,
    framed,
    pack_strip,
    read_payload,
    read_record,
    unpack_detections,
)
from geo_retina.errors import LedgerError, WriteError
from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_log = logging.getLogger(__name__)

MAGIC = b"geo_retina ledger 1\n"
"""First bytes of a ledger; the number changes with the layout."""


class Ledger:
    """The record of one run; also a context manager that closes it (and keeps the file)."""

    def __init__(self, path: Path, file: BinaryIO, header: LedgerHeader) -> None:
        """Take over an open, locked file; use `create` or `resume` instead."""
        self._path = path.absolute()  # the caller may go to another folder
        self._file = file
        self._header = header
        self._end = file.tell()
        self._next_strip = 0
        self._carried = Detections.empty()
        self._counters: dict[str, Any] = {}

    @classmethod
    def create(cls, path: str | Path, header: LedgerHeader) -> Self:
        """Begin a ledger for a run from the first strip on.

        Args:
            path: Where to keep it, beside the output.
            header: What the run's result depends on.

        Raises:
            LedgerError: A ledger is already there.
            WriteError: The file cannot be written.
        """
        path = Path(path)
        begun = path.with_name(f".{path.name}.{os.getpid()}.part")
        locked: BinaryIO | None = None
        try:
            begun.touch()
            if not disk.IS_WINDOWS:  # where open files cannot be renamed
                locked = _open_locked(begun)  # before anyone takes it for a leftover
            with begun.open("wb") as file:
                file.write(MAGIC + framed(header.to_json().encode()))
                file.flush()
                os.fsync(file.fileno())
            disk.put_new(begun, path)
            disk.sync_folder(path.parent)
        except OSError as error:
            if locked is not None:
                locked.close()
            if isinstance(error, FileExistsError):
                cls.refuse_in_use(path)
                raise LedgerError(
                    f"expected no ledger yet, but {path} is left from an earlier run; resume that "
                    "run, or begin again with --restart (in Python restart=True)"
                ) from None
            raise WriteError(f"cannot write the ledger {path}: {error}") from error
        finally:
            with contextlib.suppress(OSError):  # what failed before is what is told
                begun.unlink(missing_ok=True)
        return cls._taken(path, locked or _open_locked(path), header)

    @classmethod
    def resume(cls, path: str | Path, header: LedgerHeader) -> Self:
        """Open the ledger of an earlier run and go to its last whole record.

        Raises:
            LedgerError: There is no ledger, it is damaged at its head, another run is using it, or
                the model, an option or the raster is not the one it was begun with.
        """
        path = Path(path)
        return cls._taken(path, _open_locked(path), header)

    @classmethod
    def _taken(cls, path: Path, file: BinaryIO, header: LedgerHeader) -> Self:
        """Take over a locked file, unless it is none of this job."""
        try:
            ledger = cls(path, file, _read_header(path, file))
            ledger._refuse_other_job(header)
            ledger._read_back()
        except BaseException:
            file.close()
            raise
        return ledger

    @staticmethod
    def refuse_in_use(path: str | Path) -> None:
        """Check that no run is using a ledger.

        Raises:
            LedgerError: One is.
        """
        if Path(path).exists():
            _open_locked(Path(path)).close()

    @staticmethod
    def discard(path: str | Path) -> None:
        """Delete the ledger that an earlier run left, if there is one.

        Raises:
            LedgerError: Another run is using it.
        """
        if Path(path).exists():
            disk.remove_locked(Path(path), _open_locked(Path(path)))

    @property
    def next_strip(self) -> int:
        """Index of the first strip that is not committed."""
        return self._next_strip

    @property
    def carried(self) -> Detections:
        """What the stitcher carried after the last committed strip."""
        return self._carried

    @property
    def counters(self) -> dict[str, Any]:
        """The counters given with the last commit; empty before the first."""
        return dict(self._counters)

    def commit(
        self,
        strip_index: int,
        final: Detections,
        carried: Detections,
        counters: Mapping[str, Any] | None = None,
    ) -> None:
        """Record one strip; it is on the disk when this returns.

        Args:
            strip_index: Must be `next_strip`.
            final: Detections that became final with this strip.
            carried: Detections the stitcher goes on with.
            counters: Totals of the run so far as JSON values (mappings may nest), given back by
                `counters` after a resume.

        Raises:
            ValueError: The strip is not the next one.
            WriteError: The disk is full or lost; the ledger stays at the strip before.
        """
        if strip_index != self._next_strip:
            raise ValueError(f"expected strip {self._next_strip} next, got {strip_index}")
        record = framed(pack_strip(strip_index, final, carried, dict(counters or {})))
        try:
            self._append(record)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise WriteError(
                f"cannot write the ledger {self._path}: {error}; make room and resume"
            ) from error
        self._end += len(record)
        self._next_strip += 1
        self._carried, self._counters = carried, dict(counters or {})

    def replay(self) -> Iterator[Detections]:
        """Yield the final detections of each committed strip, in their order.

        Raises:
            LedgerError: The file was damaged since it was opened.
        """
        for record in self._records():
            yield unpack_detections(record.final)

    def counters_of_strips(self) -> Iterator[dict[str, Any]]:
        """Yield the counters given with each commit, in their order.

        Raises:
            LedgerError: The file was damaged since it was opened.
        """
        for record in self._records():
            yield record.counters

    def _records(self) -> Iterator[StripRecord]:
        with self._path.open("rb") as file:
            _read_header(self._path, file)
            for strip in range(self._next_strip):
                record = read_record(file, self._end)
                if record is None or record.strip != strip:
                    raise LedgerError(
                        f"the ledger {self._path} is damaged at strip {strip}; resume the run to "
                        "compute again what is lost"
                    )
                yield record

    def close(self) -> None:
        """Let go of the file and its lock; the ledger stays for a later resume."""
        self._file.close()

    def remove(self) -> None:
        """Delete the ledger: the outputs are in place and nothing is left to resume.

        With it goes what runs left that were killed while they began it.
        """
        disk.remove_locked(self._path, self._file)
        for begun in self._path.parent.glob(f".{glob.escape(self._path.name)}.*.part"):
            with contextlib.suppress(OSError, LedgerError):  # another run is beginning one
                disk.remove_locked(begun, _open_locked(begun))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, record: bytes) -> None:
        """Write past the last whole record."""
        disk.write_at(self._file, record, self._end)

    def _refuse_other_job(self, header: LedgerHeader) -> None:
        differences = self._header.differences(header)
        if differences:
            raise LedgerError(
                f"the ledger {self._path} belongs to another job: {'; '.join(differences)}. Run "
                "with what it was begun with, or begin again with --restart (in Python "
                "restart=True)"
            )

    def _read_back(self) -> None:
        """Go over all whole records, keep the state of the last, cut a torn tail off."""
        size = os.fstat(self._file.fileno()).st_size
        last: StripRecord | None = None
        while (record := read_record(self._file, size)) is not None:
            if record.strip != self._next_strip:
                break
            last, self._end = record, self._file.tell()
            self._next_strip += 1
        if last is not None:
            self._carried, self._counters = unpack_detections(last.carried), last.counters
        if self._end < size:
            _log.warning(
                "the ledger %s ends in %d bytes of an unfinished record; going on from strip %d",
                self._path,
                size - self._end,
                self._next_strip,
            )
            self._file.truncate(self._end)


def _open_locked(path: Path) -> BinaryIO:
    """Open a ledger for one process at a time; the lock goes with the process, however it ends."""
    try:
        file = path.open("r+b")
    except FileNotFoundError as error:
        raise _none_at(path) from error
    except OSError as error:
        raise LedgerError(f"cannot open the ledger {path}: {error}") from error
    try:
        if not disk.lock(file):
            _log.debug("the file system of %s has no locks; going on without", path)
    except BlockingIOError as error:
        file.close()
        raise LedgerError(f"another run is using the ledger {path}; wait for it to end") from error
    if not disk.is_at(path, file):  # the run that had it is done
        file.close()
        raise _none_at(path)
    return file


def _none_at(path: Path) -> LedgerError:
    return LedgerError(
        f"expected the ledger of an earlier run at {path}, found none; run without resuming"
    )


def _read_header(path: Path, file: BinaryIO) -> LedgerHeader:
    size = os.fstat(file.fileno()).st_size
    payload = read_payload(file, size) if file.read(len(MAGIC)) == MAGIC else None
    if payload is None:
        raise LedgerError(
            f"expected a ledger of this version of geo_retina, {path} is none or is damaged at its "
            "head; begin again with --restart (in Python restart=True)"
        )
    return LedgerHeader.from_json(payload.decode())
