"""Speed of writing vector files: run with `pytest -m benchmark tests/benchmarks`."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
from affine import Affine
from pytest_benchmark.fixture import BenchmarkFixture

from geo_retina.detection.vector import open_writer
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

pytestmark = pytest.mark.benchmark

COUNT = 50_000
EXTENSIONS = ["gpkg", "fgb", "geojson", "parquet", "shp", "csv"]


@pytest.fixture(scope="module")
def found() -> Detections:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 10_000, (COUNT, 2))
    boxes = np.hstack([low, low + generator.uniform(10, 60, (COUNT, 2))])
    return Detections.of(boxes, generator.random(COUNT), np.zeros(COUNT, dtype=np.int64))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_fifty_thousand_polygons(
    benchmark: BenchmarkFixture, tmp_path: Path, found: Detections, extension: str
) -> None:
    grid = Grid(10_100, 10_100, Affine(0.1, 0, 5e5, 0, -0.1, 5.4e6), pyproj.CRS("EPSG:32633"))
    path = tmp_path / f"found.{extension}"

    def write() -> None:
        path.unlink(missing_ok=True)
        with open_writer(path, grid=grid, class_names=["tree"]) as writer:
            for start in range(0, COUNT, 5000):
                writer.write(found.select(np.arange(start, start + 5000)))

    benchmark.pedantic(write, rounds=3, warmup_rounds=1)
    assert path.stat().st_size > 40 * COUNT
    benchmark.extra_info["objects_per_s"] = COUNT / benchmark.stats.stats.median
