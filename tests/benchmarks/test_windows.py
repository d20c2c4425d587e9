"""Speed of planning windows: run with `pytest -m benchmark tests/benchmarks`."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from geo_retina.space.windows import CUT_MARGIN_PX, WindowPlan

pytestmark = pytest.mark.benchmark

GIGAPIXEL = WindowPlan(31_623, 31_623, 512, 128)


def test_all_windows_of_a_gigapixel(benchmark: BenchmarkFixture) -> None:
    def count() -> int:
        return sum(len(strip.windows) for strip in GIGAPIXEL.strips())

    assert benchmark(count) == len(GIGAPIXEL) == 83 * 83


def test_boxes_cut_at_the_edges_of_their_window(benchmark: BenchmarkFixture) -> None:
    window = GIGAPIXEL.window(1000)
    low = np.random.default_rng(0).uniform(0, 480, (1000, 2))
    boxes = np.hstack([low, low + 32]) + [window.col_off, window.row_off] * 2
    marked = benchmark(
        lambda: GIGAPIXEL.cut_and_seen_whole_by_neighbour(boxes, window, margin_px=CUT_MARGIN_PX)
    )
    assert 0 < marked.sum() < len(boxes)
