"""A detection run for a process of its own, which may be killed at any moment.

The processes are forked from a server that has imported everything once, so that one takes a
fraction of a second. Only the network is a stand-in, slowed down so that kills find it at work.
"""

import os
import resource
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import geopandas  # noqa: F401  loaded before the fork, as is all that a run loads late
import pyogrio  # noqa: F401
from blobs import BlobDetector
from conftest import card_of

from geo_retina.detection import backends, file_run, file_writer, ledger
from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.options import WorkOptions
from geo_retina.detection.writers import geojson, ogr  # noqa: F401  loaded before the fork
from geo_retina.errors import GeoRetinaError
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.model.settings import NetworkSettings

NAMES = ("a.geojson", "a.fgb", "a.csv", "a.gpkg")
"""Outputs of a run."""

SECONDS_PER_CHIP = 0.002

MOMENTS: dict[str, tuple[object, str, int]] = {
    "before the first strip is committed": (ledger.Ledger, "commit", 1),
    "while a record is written": (ledger.Ledger, "_append", 4),
    "after a strip is committed": (file_run.Ledger, "commit", 6),
    "when outputs are begun": (file_writer.FileWriter, "__enter__", 3),
    "while outputs are written": (file_writer.FileWriter, "write", 9),
    "when an output is whole": (file_writer.FileWriter, "publish", 1),
    "when some outputs have their names": (file_writer.FileWriter, "publish", 3),
    "when all outputs have their names": (ledger.Ledger, "remove", 1),
}
"""Class, method, and at which of its calls a run kills itself."""


def start(
    raster: Path, folder: Path, *, moment: str | None = None, most_bytes: int | None = None
) -> "tuple[BaseProcess, Connection]":
    """Begin a run, or go on with the one in `folder`, in a process of its own.

    Args:
        raster: What to search.
        folder: Where the outputs `NAMES` go.
        moment: A key of `MOMENTS`; None = the run does not kill itself.
        most_bytes: No file may grow larger: stands for a full disk.

    Returns:
        The process, and where it sends the error that it ended with, or None.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["killable"])
    os.environ["PYTHONPATH"] = os.pathsep.join(
        sys.path
    )  # the server of Python 3.11 needs to be told
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(raster, folder, moment, most_bytes, sender))
    process.start()
    sender.close()
    return process, receiver


def finish(process: BaseProcess, receiver: Connection) -> tuple[type[Exception], str] | None:
    """Wait for a run; the error that it ended with."""
    answer: tuple[type[Exception], str] | None = receiver.recv()
    process.join()
    return answer


def _run(
    raster: Path, folder: Path, moment: str | None, most_bytes: int | None, sender: Connection
) -> None:
    card = card_of()
    info = CheckpointInfo(
        raster.with_name("blobs.safetensors"), card, NetworkSettings(num_classes=1)
    )
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    with ExitStack() as stack:
        for module in ("job", "backends"):
            stack.enter_context(
                patch(f"geo_retina.detection.{module}.read_info", lambda _model: info)
            )
        stack.enter_context(patch("geo_retina.detection.chip_size.LARGEST_GROWTH", 1))
        stub = SimpleNamespace(name="stub")
        stack.enter_context(patch.object(backends, "choose_backend", lambda *_, **__: stub))
        stack.enter_context(
            patch.object(backends, "load_backend", lambda *_, **__: SlowDetector(card))
        )
        if moment is not None:
            stack.enter_context(_killed_at(*MOMENTS[moment]))
        try:
            detect_to_files(
                raster, [folder / name for name in NAMES], work=WorkOptions(resume=True)
            )
        except GeoRetinaError as error:
            sender.send((type(error), str(error)))
        else:
            sender.send(None)


class SlowDetector(BlobDetector):
    """Gives a kill the time to find the run at work."""

    def detect(self, pixels: Any, thresholds: Any) -> Any:
        time.sleep(SECONDS_PER_CHIP * len(pixels))
        return super().detect(pixels, thresholds)


@contextmanager
def _killed_at(owner: type, name: str, call: int) -> Any:
    calls = 0
    original = getattr(owner, name)

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and name == "_append":
            original(self, arguments[0][: len(arguments[0]) // 2])
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments)

    with patch.object(owner, name, counted):
        yield
