"""Outputs that are being written: the life of a file from its first byte to its final name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import pyarrow as pa

from geo_retina.detection.staging import Staging
from geo_retina.errors import GeoRetinaError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from geo_retina.detection.formats import Format
    from geo_retina.detection.writers.layer import Layer, Sink
    from geo_retina.space.detections import Detections

ROWS_AT_ONCE = 16_384
"""Detections that are turned into features together: bounds memory for any size of a call."""


class Writer(Protocol):
    """An output that is being written, as a context manager."""

    def write(self, detections: Detections) -> None:
        """Append detections (raster pixel frame)."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class FileWriter:
    """One file: written in a private folder, moved to its final name on a clean exit.

    After an exception or Ctrl-C nothing is left, and a file that stood under the final name before
    is as it was.
    """

    def __init__(self, path: Path, kind: Format, layer: Layer) -> None:
        self._path = path
        self._format = kind
        self._layer = layer
        self._staging: Staging | None = None
        self._sink: Sink | None = None

    def __enter__(self) -> Self:
        self._staging = Staging(self._path, sidecars=self._format.sidecars)
        try:
            with _as_write_error(self._path):
                self._sink = self._format.open_sink(self._staging.path, self._layer)
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
                self.publish()
        finally:
            self.discard()

    def write(self, detections: Detections) -> None:
        """Append detections (raster pixel frame).

        Raises:
            GeoreferenceError: A box has no place in the output's CRS.
            WriteError: The disk is full or lost.
            ValueError: A class id has no name, or the writer is not open.
        """
        if self._sink is None:
            raise ValueError(
                f"the writer of {self._path} is not open; use it in a `with` statement"
            )
        for start in range(0, len(detections), ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, len(detections)))
            with _as_write_error(self._path):
                self._sink.write(detections.select(rows))

    def finish(self) -> None:
        """Make the file whole and durable, still under its private name.

        Raises:
            WriteError: The disk is full or lost.
        """
        if self._sink is not None and self._staging is not None:
            with _as_write_error(self._path):
                self._sink.close()
                self._sink = None
                self._staging.sync()

    def publish(self) -> None:
        """Give the finished file its final name.

        Raises:
            WriteError: The file cannot be moved.
        """
        if self._staging is not None:
            with _as_write_error(self._path):
                self._staging.publish()
            self._staging = None

    def discard(self) -> None:
        """Remove what was not published; harmless after `publish`."""
        sink, self._sink = self._sink, None
        staging, self._staging = self._staging, None
        try:
            if sink is not None:
                with contextlib.suppress(OSError, pa.ArrowException):
                    sink.abandon()
        finally:
            if staging is not None:
                staging.discard()


class MultiWriter:
    """Several files that get the same detections and appear together."""

    def __init__(self, writers: Sequence[FileWriter]) -> None:
        self._writers = tuple(writers)

    def __enter__(self) -> Self:
        try:
            for writer in self._writers:
                writer.__enter__()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for writer in self._writers:
                    writer.finish()
                for writer in self._writers:
                    writer.publish()
        finally:
            self._discard()

    def write(self, detections: Detections) -> None:
        """Append detections (raster pixel frame) to every file; raises what `FileWriter` does."""
        for writer in self._writers:
            writer.write(detections)

    def _discard(self) -> None:
        for writer in self._writers:
            writer.discard()


@contextlib.contextmanager
def _as_write_error(path: Path) -> Iterator[None]:
    """Failures of the disk, as one kind of error that names the output."""
    try:
        yield
    except GeoRetinaError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise WriteError(
            f"writing {path} failed: {error}; nothing was left under that name that is not whole"
        ) from error
