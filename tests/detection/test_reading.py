import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from fixture_types import MakeCard, Noise, WriteRaster

from geo_retina.detection.aoi import Aoi
from geo_retina.detection.reading import (
    LARGEST_RUN_BYTES,
    MOST_READERS,
    ReadingOrder,
    WindowState,
    read_windows,
)
from geo_retina.errors import RasterReadError
from geo_retina.imagery.gdal import block_cache
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.space.windows import Window, WindowPlan

OpenSource = Callable[[Path], ChipSource]


@pytest.fixture
def open_source(make_card: MakeCard) -> Iterator[OpenSource]:
    opened = []

    def open_it(path: Path) -> ChipSource:
        opened.append(open_raster(path))
        return open_chip_source(opened[-1], make_card())

    yield open_it
    for raster in opened:
        raster.close()


def _readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


ORDERS = [ReadingOrder(1, 1), ReadingOrder(2, 3), ReadingOrder(3, 1), ReadingOrder(4, 8)]


@pytest.mark.parametrize("order", [None, *ORDERS], ids=str)
@pytest.mark.parametrize("ahead", [0, 1, 50])
def test_every_window_in_the_plans_order(
    order: ReadingOrder | None,
    ahead: int,
    open_source: OpenSource,
    write_raster: WriteRaster,
    noise: Noise,
) -> None:
    pixels = noise(3, 200, 330)
    source = open_source(
        write_raster("noise.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    )
    plan = WindowPlan(330, 200, 64, 16)
    reads = list(read_windows(source, plan, start=1, order=order, ahead=ahead))
    columns = len(plan.col_offs)
    assert [read.window_id for read in reads] == list(range(columns, len(plan)))
    for read in reads:
        assert read.window == plan.window(read.window_id)
        assert read.strip_index == read.window_id // columns
        assert read.chip is not None
        col, row, col_end, row_end = read.window.box
        np.testing.assert_array_equal(read.chip.pixels, pixels[:, row:row_end, col:col_end])


def test_what_is_outside_empty_or_unreadable_carries_no_pixels(
    open_source: OpenSource,
    write_raster: WriteRaster,
    noise: Noise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = np.ones((64, 400), np.bool_)
    mask[:, :112] = False
    source = open_source(write_raster("noise.tif", noise(3, 64, 400), mask=mask))
    read = ChipSource.read

    def failing(self: ChipSource, window: Window) -> Any:
        if window.col_off == 96:
            raise RasterReadError("damaged")
        return read(self, window)

    monkeypatch.setattr(ChipSource, "read", failing)
    plan = WindowPlan(400, 64, 64, 16)
    reads = list(read_windows(source, plan, aoi=Aoi(shapely.box(0, 0, 199, 64))))
    states = [item.state for item in reads]
    assert states[:4] == [
        WindowState.EMPTY,
        WindowState.EMPTY,
        WindowState.FAILED,
        WindowState.READ,
    ]
    assert set(states[5:]) == {WindowState.OUTSIDE}
    assert [item.chip is not None for item in reads] == [
        state is WindowState.READ for state in states
    ]
    assert str(reads[2].error) == "damaged"


def test_reads_ahead_by_a_bounded_number(
    open_source: OpenSource,
    write_raster: WriteRaster,
    noise: Noise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = open_source(write_raster("noise.tif", noise(3, 1000, 330), tiled=True,
                                      blockxsize=64, blockysize=64))  # fmt: skip
    done: list[Window] = []
    read = ChipSource.read

    def counted(self: ChipSource, window: Window) -> Any:
        done.append(window)
        return read(self, window)

    monkeypatch.setattr(ChipSource, "read", counted)
    order = ReadingOrder(2, 3)
    reads = read_windows(source, WindowPlan(330, 1000, 64, 16), order=order, ahead=6)
    for _ in range(20):
        next(reads)
    reads.close()
    assert 20 <= len(done) <= 20 + (2 + 2) * order.run


def test_closing_ends_threads(
    open_source: OpenSource, write_raster: WriteRaster, noise: Noise
) -> None:
    source = open_source(write_raster("noise.tif", noise(3, 300, 330)))
    reads = read_windows(source, WindowPlan(330, 300, 64, 16), order=ReadingOrder(2, 2))
    next(reads)
    assert _readers()
    reads.close()
    assert not _readers()


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("layout", "most"),
    [
        ({"tiled": True, "blockxsize": 128, "blockysize": 128}, 1.35),
        ({"tiled": False, "blockysize": 8}, 1.1),
    ],
    ids=["tiled", "striped"],
)
def test_blocks_are_decoded_about_once(
    layout: dict[str, Any],
    most: float,
    open_source: OpenSource,
    write_raster: WriteRaster,
    noise: Noise,
) -> None:
    """Windows overlap so much that they hold every pixel 2.25 times on average."""
    path = write_raster("large.tif", noise(3, 2400, 2400), interleave="pixel", **layout)
    source = open_source(path)
    plan = WindowPlan(2400, 2400, 192, 64)
    order = ReadingOrder.of(source, plan)
    with block_cache(order.block_cache_bytes(source, plan)):
        before = _bytes_read()
        for _ in read_windows(source, plan, ahead=8):
            pass
        decoded = _bytes_read() - before
    assert decoded < most * path.stat().st_size


def test_one_reader_where_blocks_span_the_rows(
    open_source: OpenSource, write_raster: WriteRaster, noise: Noise
) -> None:
    pixels = noise(3, 300, 1000)
    plan = WindowPlan(1000, 300, 64, 16)
    striped = open_source(write_raster("striped.tif", pixels))
    tiled = open_source(write_raster("t.tif", pixels, tiled=True, blockxsize=64, blockysize=64))
    assert ReadingOrder.of(striped, plan) == ReadingOrder(1, 8)
    assert ReadingOrder.of(tiled, plan).readers == MOST_READERS
    assert ReadingOrder.of(tiled, WindowPlan(64, 300, 64, 16)).readers == 1
    assert ReadingOrder.of(striped, plan, readers=5).readers == 5
    assert ReadingOrder.of(tiled, plan, readers=99).readers == len(plan.col_offs)


def test_runs_of_large_chips_are_short(
    open_source: OpenSource, write_raster: WriteRaster, noise: Noise
) -> None:
    tiled = open_source(
        write_raster("t.tif", noise(3, 64, 640), tiled=True, blockxsize=64, blockysize=64)
    )
    plan = WindowPlan(400_000, 4000, 4000, 100)
    order = ReadingOrder.of(tiled, plan)
    assert order.run * 3 * 4000**2 <= LARGEST_RUN_BYTES or order.run == 1
    assert order.run < ReadingOrder.of(tiled, WindowPlan(400_000, 64, 64, 16)).run
