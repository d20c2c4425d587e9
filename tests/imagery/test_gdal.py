import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeCard, Noise, WriteRaster
from rasterio.env import get_gdal_config

from geo_retina.imagery import gdal
from geo_retina.imagery.gdal import (
    LARGEST_BLOCK_CACHE_BYTES,
    SMALLEST_BLOCK_CACHE_BYTES,
    block_cache,
    session,
)
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.space.windows import WindowPlan


def cache_size() -> int:
    return int(get_gdal_config("GDAL_CACHEMAX"))


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (0, SMALLEST_BLOCK_CACHE_BYTES),
        (100 * 2**20, 100 * 2**20),
        (2**40, LARGEST_BLOCK_CACHE_BYTES),
    ],
)
def test_block_cache_is_bounded_while_it_lasts(wanted: int, given: int) -> None:
    before = cache_size()
    with block_cache(wanted):
        with session():
            assert cache_size() == given
        assert cache_size() == given
    assert cache_size() == before


def test_environment_outdoes_our_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "9")
    with session():
        assert get_gdal_config("GDAL_HTTP_CONNECTTIMEOUT") == 15
        assert get_gdal_config("GDAL_HTTP_MAX_RETRY") == 9


def bytes_read() -> int:
    """What this process has read from files so far."""
    line, *_ = Path("/proc/self/io").read_text().splitlines()
    return int(line.removeprefix("rchar: "))


def read_all(source: ChipSource) -> int:
    """Read a plan of overlapping windows; bytes read from the file for it."""
    before = bytes_read()
    for strip in WindowPlan(source.grid.width, source.grid.height, 64, 24).strips():
        for window in strip.windows:
            source.read(window)
    return bytes_read() - before


@pytest.mark.skipif(not os.access("/proc/self/io", os.R_OK), reason="needs /proc/self/io")
@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 128, "blockysize": 128}, {}])
@pytest.mark.parametrize("gsd", [0.1, 0.06])
def test_blocks_are_decoded_about_once(
    layout: dict[str, Any],
    gsd: float,
    write_raster: WriteRaster,
    make_card: MakeCard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file holds noise, so what is read of it tells how often its blocks were decoded."""
    pixels = np.random.default_rng(1).integers(0, 255, (3, 1300, 4100), dtype=np.uint8)
    path = write_raster("a.tif", pixels, compress="DEFLATE", gsd=gsd, **layout)
    monkeypatch.setattr(gdal, "SMALLEST_BLOCK_CACHE_BYTES", 0)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        needed = source.block_cache_bytes(64)
        assert needed < pixels.nbytes / 3
        with block_cache(needed):
            assert read_all(source) < 1.1 * path.stat().st_size
    with open_raster(path) as raster, block_cache(needed // 8):
        assert read_all(open_chip_source(raster, make_card())) > 1.3 * path.stat().st_size


@pytest.mark.skipif(not os.access("/proc/self/io", os.R_OK), reason="needs /proc/self/io")
def test_each_handle_decodes_a_block_about_once(
    write_raster: WriteRaster, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (3, 500, 3000), dtype=np.uint8)
    path = write_raster("a.tif", pixels, compress="DEFLATE")
    monkeypatch.setattr(gdal, "SMALLEST_BLOCK_CACHE_BYTES", 0)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        with source.clone() as clone, block_cache(2 * source.block_cache_bytes(64)):
            turns = itertools.cycle([source, clone])
            before = bytes_read()
            for strip in WindowPlan(source.grid.width, source.grid.height, 64, 24).strips():
                for window in strip.windows:
                    next(turns).read(window)
            assert bytes_read() - before < 2.2 * path.stat().st_size


def test_cache_for_a_strip_depends_on_its_width_alone(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    sizes = []
    for height in (100, 1000):
        path = write_raster(f"{height}.tif", noise(3, height, 300), **layout)
        with open_raster(path) as raster:
            sizes.append(open_chip_source(raster, make_card()).block_cache_bytes(100))
    assert sizes[0] == sizes[1] == int(3 * 5 * (64 * 64 * 4 + 4 * 256) * 1.2)


def test_the_largest_of_bounds_at_the_same_time_holds_and_none_stays() -> None:
    before = cache_size()
    small, large = block_cache(20 * 2**20), block_cache(40 * 2**20)
    small.__enter__()
    large.__enter__()
    assert cache_size() == 40 * 2**20
    small.__exit__(None, None, None)  # who came first goes first
    assert cache_size() == 40 * 2**20
    large.__exit__(None, None, None)
    assert cache_size() == before
