"""Runs under what Windows forbids: it has no fcntl, and open files cannot be moved or deleted."""

import contextlib
import errno
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from fixture_types import BlobModel, WriteRaster
from numpy.typing import NDArray

from geo_retina.detection import disk
from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.options import WorkOptions
from geo_retina.errors import GeoRetinaError, LedgerError, OutputError, WriteError

Field = Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]

fcntl = pytest.importorskip("fcntl", reason="needs Linux")
pytestmark = pytest.mark.skipif(
    not hasattr(fcntl, "F_OFD_SETLK") or not Path("/proc/self/fd").is_dir(), reason="needs Linux"
)


def is_open(path: Any) -> bool:
    wanted = Path(path).resolve()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the handle that lists them is gone by now
            if entry.readlink() == wanted:
                return True
    return False


def lock_one_byte(descriptor: int, _mode: int, length: int) -> None:
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


@pytest.fixture(autouse=True)
def _windows_rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refusing(do: Callable[..., None], *, both: bool) -> Callable[..., None]:
        def checked(*paths: Any, **options: Any) -> None:
            for path in paths[: 1 + both]:
                if is_open(path):
                    raise PermissionError(errno.EACCES, "used by another process", str(path))
            do(*paths, **options)

        return checked

    def open_files_only(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os_open(path, *arguments, **options)

    os_open = os.open
    monkeypatch.setattr(disk, "IS_WINDOWS", True)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=lock_one_byte, LK_NBLCK=2))
    monkeypatch.setattr(os, "unlink", refusing(os.unlink, both=False))
    monkeypatch.setattr(os, "remove", refusing(os.remove, both=False))
    monkeypatch.setattr(os, "replace", refusing(os.replace, both=True))
    monkeypatch.setattr(os, "rename", refusing(os.rename, both=True))
    monkeypatch.setattr(os, "open", open_files_only)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    if hasattr(shutil, "_rmtree_impl"):  # Python 3.14 and newer
        monkeypatch.setattr(shutil, "_rmtree_impl", shutil._rmtree_unsafe)
    monkeypatch.delattr(os, "pwrite")
    yield
    monkeypatch.undo()


@pytest.fixture
def raster(blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field) -> Path:
    blob_model()
    return write_raster("field.tif", field_of_objects(200, 200)[0])


def test_outputs_appear_and_nothing_else_is_left(raster: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    names = [f"a.{ending}" for ending in ("gpkg", "geojson", "fgb", "parquet", "csv", "coco.json")]

    for _ in range(2):  # the second time they replace what is there
        detect_to_files(raster, [folder / name for name in [*names, "b.shp"]])

    assert {path.name for path in folder.iterdir() if path.stem != "b"} == set(names)
    assert len(gpd.read_file(folder / "a.gpkg")) == len(gpd.read_file(folder / "b.shp")) > 0


def test_a_broken_run_goes_on(
    raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "a.csv", 0

    def full(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(*arguments)

    write_at = disk.write_at
    monkeypatch.setattr(disk, "write_at", full)
    with pytest.raises(WriteError, match="go on with --resume"):
        detect_to_files(raster, [out])
    assert (tmp_path / "a.csv.ledger").exists()
    assert not out.exists()

    detect_to_files(raster, [out], work=WorkOptions(resume=True))
    resumed = out.read_bytes()
    detect_to_files(raster, [out])

    assert out.read_bytes() == resumed
    assert not list(tmp_path.glob("*.ledger")) + list(tmp_path.glob(".*"))


def test_an_older_ledger_is_thrown_away(raster: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv.ledger").write_bytes(b"left")

    with pytest.raises(LedgerError, match="--resume"):
        detect_to_files(raster, [tmp_path / "a.csv"])
    detect_to_files(raster, [tmp_path / "a.csv"], work=WorkOptions(restart=True))

    assert (tmp_path / "a.csv").exists()


def test_two_runs_do_not_write_one_output(raster: Path, tmp_path: Path) -> None:
    seen: list[GeoRetinaError] = []

    def another(_done: float, _total: float, _found: int) -> None:
        if not seen:
            for work in (WorkOptions(), WorkOptions(resume=True), WorkOptions(restart=True)):
                with pytest.raises((LedgerError, OutputError)) as caught:
                    detect_to_files(raster, [tmp_path / "a.csv"], work=work)
                seen.append(caught.value)

    detect_to_files(raster, [tmp_path / "a.csv"], on_progress=another)

    assert "another run is using the ledger" in str(seen[1])
    assert "another run is using the ledger" in str(seen[2])
    assert (tmp_path / "a.csv").exists()
