"""Speed of NMS: run with `pytest -m benchmark tests/benchmarks`."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from geo_retina.space.boxes import Overlap
from geo_retina.space.nms import nms

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from benchmarking.box_layouts import LAYOUTS, spread

pytestmark = pytest.mark.benchmark

Boxes = NDArray[np.float64]


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time, which other work on the machine disturbs less."""
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize("overlap", list(Overlap), ids=lambda overlap: overlap.name)
@pytest.mark.parametrize("count", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_speed(
    benchmark: BenchmarkFixture,
    layout: Callable[[np.random.Generator, int], Boxes],
    count: int,
    overlap: Overlap,
) -> None:
    generator = np.random.default_rng(0)
    boxes, scores = layout(generator, count), generator.random(count)
    nms(boxes[:2000], scores[:2000], threshold=0.5, overlap=overlap)  # compiles
    benchmark.pedantic(
        lambda: nms(boxes, scores, threshold=0.5, overlap=overlap), rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("overlap", list(Overlap), ids=lambda overlap: overlap.name)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_time_grows_about_as_the_count(
    layout: Callable[[np.random.Generator, int], Boxes], overlap: Overlap
) -> None:
    generator = np.random.default_rng(0)
    seconds = {}
    for count in (50_000, 800_000):
        boxes, scores = layout(generator, count), generator.random(count)

        def run(boxes: Boxes = boxes, scores: NDArray[np.float64] = scores) -> object:
            return nms(boxes, scores, threshold=0.5, overlap=overlap)

        run()
        seconds[count] = min(timed(run) for _ in range(3))
    # 16 times the boxes; as much again for caches that no longer hold them
    assert seconds[800_000] < 2.5 * 16 * seconds[50_000]


def test_a_million_spread_boxes_take_a_quarter_of_the_time_of_an_r_tree() -> None:
    powerboxes = pytest.importorskip("powerboxes")
    generator = np.random.default_rng(0)
    boxes, scores = spread(generator, 1_000_000), generator.random(1_000_000)
    kept = nms(boxes, scores, threshold=0.5)
    others = powerboxes.rtree_nms(boxes, scores, 0.5, 0.0)
    assert np.array_equal(np.sort(kept), np.sort(others.astype(np.int64)))
    ours, theirs = [], []
    for _ in range(3):
        ours.append(timed(lambda: nms(boxes, scores, threshold=0.5)))
        theirs.append(timed(lambda: powerboxes.rtree_nms(boxes, scores, 0.5, 0.0)))
    assert statistics.median(ours) < statistics.median(theirs) / 4
