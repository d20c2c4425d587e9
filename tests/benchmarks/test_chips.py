"""Speed of reading chips: run with `pytest -m benchmark tests/benchmarks`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from geo_retina.card import ModelCard
from geo_retina.detection.reading import read_windows
from geo_retina.imagery.gdal import block_cache, session
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.space.windows import WindowPlan

pytestmark = pytest.mark.benchmark

EDGE = 2048


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Smooth noise: it deflates to about half, as photographs do."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 200, (3, EDGE // 16, EDGE // 16), dtype=np.uint8)
    fine = generator.integers(0, 16, (3, EDGE, EDGE), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2) + fine


@pytest.fixture(scope="module", params=["tiles", "tiles of 0.05 m", "strips"])
def source(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    write_raster_at: Callable[..., Path],
    make_card: Callable[..., ModelCard],
    pixels: NDArray[np.uint8],
) -> Iterator[ChipSource]:
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    path = write_raster_at(
        tmp_path_factory.mktemp("chips") / "raster.tif",
        pixels,
        gsd=0.05 if "0.05" in request.param else 0.1,
        compress="deflate",
        interleave="pixel",
        **({} if request.param == "strips" else layout),
    )
    with session(), open_raster(path) as raster:
        yield open_chip_source(raster, make_card())


def test_all_chips(benchmark: BenchmarkFixture, source: ChipSource) -> None:
    plan = WindowPlan(source.grid.width, source.grid.height, 512, 128)

    def read() -> int:
        with block_cache(2 * source.block_cache_bytes(512)):
            chips = [item.chip for item in read_windows(source, plan)]
        return sum(chip.pixels.size for chip in chips if chip is not None)

    samples = benchmark.pedantic(read, rounds=3, warmup_rounds=1)
    assert samples == 3 * 512 * 512 * len(plan)
    benchmark.extra_info["chip_mpix_per_s"] = samples / 3e6 / benchmark.stats.stats.median
