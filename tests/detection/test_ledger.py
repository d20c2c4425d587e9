import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geo_retina.detection import disk
from geo_retina.detection import ledger as ledgers
from geo_retina.detection.fingerprints import LedgerHeader, hash_file, raster_fingerprint
from geo_retina.detection.ledger import Ledger
from geo_retina.errors import LedgerError, WriteError
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

SECOND_NS = 10**9
HEADER = LedgerHeader(
    model={"name": "trees", "hash": "abc"},
    options={"score": 0.3, "nms": {"iou": 0.5}},
    raster={"path": "/data/a.tif", "bytes": 100},
)


def strip_of(index: int, count: int) -> Detections:
    rng = np.random.default_rng(index)
    boxes = rng.uniform(0, 1000, (count, 4))
    return Detections(
        boxes,
        rng.uniform(0, 1, count).astype(np.float32),
        rng.integers(0, 3, count),
        rng.integers(0, 99, count),
    )


def same(first: Detections, second: Detections) -> bool:
    return all(
        getattr(first, name).tobytes() == getattr(second, name).tobytes()
        and getattr(first, name).dtype == getattr(second, name).dtype
        for name in ("boxes", "scores", "class_ids", "window_ids")
    )


def filled(path: Path, strips: int) -> Path:
    with Ledger.create(path, HEADER) as ledger:
        for index in range(strips):
            ledger.commit(index, strip_of(index, index), strip_of(100 + index, 2), {"seen": index})
    return path


def assert_holds(ledger: Ledger, strips: int) -> None:
    assert ledger.next_strip == strips
    carried = strip_of(100 + strips - 1, 2) if strips else Detections.empty()
    assert same(ledger.carried, carried)
    assert ledger.counters == ({"seen": strips - 1} if strips else {})
    replayed = list(ledger.replay())
    assert len(replayed) == strips
    assert all(same(found, strip_of(index, index)) for index, found in enumerate(replayed))


def test_a_new_ledger_is_at_the_first_strip(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "a.ledger", HEADER) as ledger:
        assert_holds(ledger, 0)


def test_gives_back_what_was_committed(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "a.ledger", HEADER) as ledger:
        for index in range(4):
            ledger.commit(index, strip_of(index, index), strip_of(100 + index, 2), {"seen": index})
            assert_holds(ledger, index + 1)
    with Ledger.resume(tmp_path / "a.ledger", HEADER) as ledger:
        assert_holds(ledger, 4)


def test_a_strip_may_hold_thousands(tmp_path: Path) -> None:
    many = strip_of(0, 5000)
    with Ledger.create(tmp_path / "a.ledger", HEADER) as ledger:
        ledger.commit(0, many, many)
    with Ledger.resume(tmp_path / "a.ledger", HEADER) as ledger:
        assert same(ledger.carried, many)
        assert same(next(ledger.replay()), many)


@given(
    boxes=hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4))),
    score=st.floats(0, 1, width=32),
)
def test_every_bit_of_every_number_survives(
    tmp_path_factory: pytest.TempPathFactory, boxes: np.ndarray, score: float
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "a.ledger"
    count = len(boxes)
    found = Detections.of(boxes, np.full(count, score), np.arange(count), 2**40)
    with Ledger.create(path, HEADER) as ledger:
        ledger.commit(0, found, found)
    with Ledger.resume(path, HEADER) as ledger:
        assert same(ledger.carried, found)
        assert same(next(ledger.replay()), found)


def test_a_file_cut_anywhere_holds_the_whole_strips_before_the_cut(tmp_path: Path) -> None:
    ends = []
    path = tmp_path / "whole.ledger"
    with Ledger.create(path, HEADER) as ledger:
        ends.append(path.stat().st_size)
        for index in range(3):
            ledger.commit(index, strip_of(index, index), strip_of(100 + index, 2), {"seen": index})
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    assert ends[-1] == len(whole)
    cut = tmp_path / "cut.ledger"
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        if length < ends[0]:
            with pytest.raises(LedgerError, match="damaged at its head"):
                Ledger.resume(cut, HEADER)
            continue
        with Ledger.resume(cut, HEADER) as ledger:
            done = sum(end <= length for end in ends) - 1
            assert_holds(ledger, done)
            if length % 16:  # going on from every length would take long on a slow disk
                continue
            for index in range(done, 3):
                ledger.commit(
                    index, strip_of(index, index), strip_of(100 + index, 2), {"seen": index}
                )
        assert cut.read_bytes() == whole


def test_a_flipped_byte_ends_the_ledger_before_its_strip(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.ledger", 3)
    whole = bytearray(path.read_bytes())
    head = filled(tmp_path / "head.ledger", 0).stat().st_size
    two = filled(tmp_path / "two.ledger", 2).stat().st_size
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        if place < head:
            with pytest.raises(LedgerError):
                Ledger.resume(path, HEADER)
            continue
        with Ledger.resume(path, HEADER) as ledger:
            assert ledger.next_strip == (2 if place >= two else ledger.next_strip)
            assert ledger.next_strip < 3
            assert_holds(ledger, ledger.next_strip)


def test_a_record_of_impossible_length_is_not_read(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.ledger", 1)
    with path.open("ab") as file:
        file.write(b"\xff" * 64)
    with Ledger.resume(path, HEADER) as ledger:
        assert_holds(ledger, 1)


def test_only_the_next_strip_may_be_committed(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "a.ledger", HEADER) as ledger:
        with pytest.raises(ValueError, match="expected strip 0 next, got 1"):
            ledger.commit(1, Detections.empty(), Detections.empty())
        assert_holds(ledger, 0)


def test_an_earlier_ledger_is_not_overwritten(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.ledger", 2)
    with pytest.raises(LedgerError, match="left from an earlier run"):
        Ledger.create(path, HEADER)
    with Ledger.resume(path, HEADER) as ledger:
        assert_holds(ledger, 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            replace(HEADER, model={"name": "trees", "hash": "xyz"}),
            'model.hash was "abc", now is "xyz"',
        ),
        (
            replace(HEADER, options={"score": 0.4, "nms": {"iou": 0.5}}),
            "options.score was 0.3, now is 0.4",
        ),
        (
            replace(HEADER, options={"score": 0.3, "nms": {"iou": 0.5, "soft": True}}),
            "options.nms.soft was absent, now is true",
        ),
        (
            replace(HEADER, raster={"path": "/data/a.tif", "bytes": 101}),
            "raster.bytes was 100, now is 101",
        ),
    ],
)
def test_another_job_is_refused_naming_what_changed(
    tmp_path: Path, changed: LedgerHeader, said: str
) -> None:
    path = filled(tmp_path / "a.ledger", 2)
    with pytest.raises(LedgerError) as refusal:
        Ledger.resume(path, changed)
    assert said in str(refusal.value)
    assert str(refusal.value).count(", now is ") == 1
    with Ledger.resume(path, HEADER) as ledger:
        assert_holds(ledger, 2)


def test_the_order_of_options_and_tuples_do_not_matter(tmp_path: Path) -> None:
    first = LedgerHeader({"bands": (1, 2)}, {"a": 1, "b": 2}, {})
    second = LedgerHeader({"bands": [1, 2]}, {"b": 2, "a": 1}, {})
    Ledger.create(tmp_path / "a.ledger", first).close()
    Ledger.resume(tmp_path / "a.ledger", second).close()


def test_a_missing_ledger_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="found none"):
        Ledger.resume(tmp_path / "a.ledger", HEADER)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    path.write_text("something else, longer than the magic bytes")
    with pytest.raises(LedgerError, match="expected a ledger"):
        Ledger.resume(path, HEADER)
    assert path.read_text().startswith("something else")


def test_two_runs_cannot_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    with (
        Ledger.create(path, HEADER),
        pytest.raises(LedgerError, match="another run is using"),
    ):
        Ledger.resume(path, HEADER)
    Ledger.resume(path, HEADER).close()


def test_a_name_too_long_for_the_disk_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot write the ledger"):
        Ledger.create(tmp_path / ("a" * 250), HEADER)


def test_a_missing_folder_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot write the ledger"):
        Ledger.create(tmp_path / "none" / "a.ledger", HEADER)


def test_a_full_disk_leaves_the_strips_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "a.ledger", 2)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Ledger.resume(path, HEADER) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(ledgers.os, "fsync", full)
            with pytest.raises(WriteError, match="No space left"):
                ledger.commit(2, strip_of(7, 50), strip_of(8, 50), {})
        assert path.stat().st_size == filled(tmp_path / "two.ledger", 2).stat().st_size
        assert_holds(ledger, 2)
        ledger.commit(2, strip_of(2, 2), strip_of(102, 2), {"seen": 2})
    with Ledger.resume(path, HEADER) as ledger:
        assert_holds(ledger, 3)


def test_it_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with Ledger.create("a.ledger", HEADER) as ledger:
        ledger.commit(0, strip_of(0, 0), strip_of(100, 2), {"seen": 0})
        monkeypatch.chdir(tmp_path / "other")
        assert_holds(ledger, 1)
        ledger.remove()
    assert not (tmp_path / "a.ledger").exists()


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "a.ledger", HEADER)
    ledger.commit(0, strip_of(0, 3), Detections.empty())
    ledger.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there a ledger has one name")
def test_with_it_goes_what_killed_runs_left_but_not_what_another_begins(tmp_path: Path) -> None:
    path = tmp_path / "[a].ledger"
    ledger = Ledger.create(path, HEADER)
    (tmp_path / ".[a].ledger.12.part").hardlink_to(path)  # killed between two names
    (tmp_path / ".[a].ledger.13.part").write_bytes(b"GEO")  # killed before
    with (tmp_path / ".[a].ledger.14.part").open("wb") as of_other:
        assert disk.lock(of_other)
        ledger.remove()
        assert [file.name for file in tmp_path.iterdir()] == [".[a].ledger.14.part"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_ledger import *
path = Path({path!r})
begin = Ledger.resume if path.exists() else Ledger.create
ledger = begin(path, HEADER)
done = ledger.next_strip
real = os.fsync
def torn(descriptor):
    # the disk has taken only a part of the record when the process dies
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - 5)
    os.kill(os.getpid(), signal.SIGKILL)
for index in range(done, 5):
    if index == done + 2:
        os.fsync = torn
    ledger.commit(index, strip_of(index, index), strip_of(100 + index, 2), {{"seen": index}})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills itself as POSIX does")
def test_a_run_killed_in_the_middle_of_commits_ends_in_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(path))
    codes = []
    while not codes or codes[-1] != 0:
        codes.append(subprocess.run([sys.executable, "-c", code], check=False).returncode)
        assert codes[-1] in (0, -signal.SIGKILL)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    with Ledger.resume(path, HEADER) as ledger:
        assert_holds(ledger, 5)
    assert path.read_bytes() == filled(tmp_path / "unbroken.ledger", 5).read_bytes()


class TestFingerprints:
    def test_a_hash_follows_the_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"weights")
        (tmp_path / "b").write_bytes(b"weights")
        (tmp_path / "c").write_bytes(b"Weights")
        assert hash_file(tmp_path / "a") == hash_file(tmp_path / "b")
        assert hash_file(tmp_path / "a") != hash_file(tmp_path / "c")

    def test_a_raster_is_known_by_place_size_time_and_grid(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(b"1234")
        grid = Grid(10, 20, Affine(1, 0, 5, 0, -1, 6), pyproj.CRS.from_epsg(32633))
        first = raster_fingerprint(path, grid)
        assert json.loads(json.dumps(first)) == first
        assert (first["path"], first["bytes"]) == (str(path), 4)
        os.utime(path, ns=(2 * SECOND_NS, 2 * SECOND_NS))
        assert raster_fingerprint(path, grid) == {**first, "modified_ns": 2 * SECOND_NS}
        moved = replace(grid, transform=Affine(1, 0, 5.5, 0, -1, 6))
        assert raster_fingerprint(path, moved)["transform"] != first["transform"]

    def test_any_file_that_changes_is_noticed(self, tmp_path: Path) -> None:
        grid = Grid(1, 1, Affine.identity(), None)
        paths = [tmp_path / name for name in ("a.vrt", "b.tif", "c.tif")]
        for path in paths:
            path.write_bytes(b"12")
        os.utime(paths[0], (18, 18))  # the newest
        for path, time in zip(paths[1:], (10, 12), strict=True):
            os.utime(path, (time, time))
        first = raster_fingerprint(paths[0], grid, files=[str(path) for path in paths])

        os.utime(paths[1], (14, 14))  # still older than the VRT
        later = raster_fingerprint(paths[0], grid, files=[str(path) for path in paths])
        os.utime(paths[1], (12, 12))
        os.utime(paths[2], (10, 10))
        swapped = raster_fingerprint(paths[0], grid, files=[str(path) for path in paths])

        assert first["files"] != later["files"]
        assert first["files"] != swapped["files"]

    def test_an_archive_that_changes_is_noticed(self, tmp_path: Path) -> None:
        grid, archive = Grid(1, 1, Affine.identity(), None), tmp_path / "plots.zip"
        name = f"/vsizip/{archive}/north/a.tif"
        archive.write_bytes(b"12")
        first = raster_fingerprint(name, grid, files=[name])
        archive.write_bytes(b"123")
        later = raster_fingerprint(name, grid, files=[name])

        assert first["files"]["count"] == 1
        assert first["files"] != later["files"]

    def test_a_remote_raster_has_no_size(self) -> None:
        found = raster_fingerprint("https://example.org/a.tif", Grid(1, 1, Affine.identity(), None))
        assert found["path"] == "https://example.org/a.tif"
        assert found["bytes"] is None
        assert found["crs"] is None
