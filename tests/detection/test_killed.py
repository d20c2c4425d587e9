"""Nothing lost: runs are killed with SIGKILL, or run out of disk, and go on to the same files."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
from fixture_types import WriteRaster

from geo_retina.errors import WriteError

pytest.importorskip("resource", reason="processes are forked, and the size of files limited")
from killable import MOMENTS, NAMES, finish, start

SAME_BYTES = [name for name in NAMES if not name.endswith(".gpkg")]


@pytest.fixture(scope="module")
def raster(
    tmp_path_factory: pytest.TempPathFactory,
    write_raster_at: WriteRaster,
    field_of_objects: Callable[..., Any],
) -> Path:
    """Eleven strips of four windows."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "blobs.safetensors").write_bytes(b"stands for weights")
    return write_raster_at(folder / "field.tif", field_of_objects(200, 540)[0])


@pytest.fixture(scope="module")
def whole(raster: Path) -> tuple[Path, float]:
    """Outputs of a run that nothing disturbs, and how many seconds it takes."""
    finish(*start(raster, _made(raster.with_name("warm"))))  # the first process waits for imports
    folder = _made(raster.with_name("whole"))
    started = time.monotonic()
    assert finish(*start(raster, folder)) is None
    return folder, time.monotonic() - started


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _check(folder: Path, whole: Path) -> None:
    """All outputs are those of the undisturbed run, and nothing else is left."""
    for name in SAME_BYTES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    rows, expected = gpd.read_file(folder / "a.gpkg"), gpd.read_file(whole / "a.gpkg")
    assert len(expected) > 0
    pd.testing.assert_frame_equal(rows, expected)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def _check_whole_or_absent(folder: Path, whole: Path) -> None:
    for name in SAME_BYTES:
        if (folder / name).exists():
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_bad_moment(
    moment: str, raster: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    process, _ = start(raster, tmp_path, moment=moment)
    process.join()
    assert process.exitcode == -9
    _check_whole_or_absent(tmp_path, whole[0])
    assert finish(*start(raster, tmp_path)) is None
    _check(tmp_path, whole[0])


@pytest.mark.parametrize(
    "kills", [4, pytest.param(20, marks=pytest.mark.slow)], ids=lambda kills: f"{kills}-kills"
)
def test_killed_at_random_moments(
    kills: int, raster: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """Each kill hits a run that is new, or was killed before, with equal odds."""
    reference, seconds = whole
    chance = random.Random(kills)  # noqa: S311
    hits, number = 0, 0
    while hits < kills:
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        process, receiver = start(raster, folder)
        time.sleep(chance.uniform(0, seconds))
        process.kill()
        process.join()
        receiver.close()
        hits += process.exitcode == -9
        _check_whole_or_absent(folder, reference)
        number += chance.random() < 0.5
    for folder in tmp_path.iterdir():
        assert finish(*start(raster, folder)) is None
        _check(folder, reference)


@pytest.mark.parametrize("most_bytes", [1_000, 12_000, 40_000, 80_000])
def test_full_disk_keeps_what_was_done(
    most_bytes: int, raster: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """The disk fills up with the ledger, or with one or another output."""
    ended = finish(*start(raster, tmp_path, most_bytes=most_bytes))
    assert ended is not None
    kind, text = ended
    assert kind is WriteError
    assert "\n" not in text
    _check_whole_or_absent(tmp_path, whole[0])
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".ledger")]
    assert finish(*start(raster, tmp_path)) is None
    _check(tmp_path, whole[0])
