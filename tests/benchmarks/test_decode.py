"""Speed of decoding raw outputs: run with `pytest -m benchmark tests/benchmarks`."""

import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from geo_retina.detection.decoding import LevelGrid, RawOutputs, decode_chip, level_grids
from geo_retina.detection.detector import ChipResult
from geo_retina.model.settings import AnchorSettings, NetworkSettings
from geo_retina.model.thresholds import Thresholds

pytestmark = pytest.mark.benchmark

EDGE = 512
LIMITS = Thresholds(score=0.3, nms_iou=0.4, candidates_per_level=10_000, detections_per_chip=3000)


def grids_of(sizes: int) -> list[LevelGrid]:
    """P2 to P5, with some anchors at each position."""
    rows = tuple(tuple(float(4 * 2**level + n) for n in range(sizes)) for level in (2, 3, 4, 5))
    settings = NetworkSettings(
        num_classes=1, levels=(2, 3, 4, 5), anchors=AnchorSettings(sizes=rows, ratios=(1.0,))
    )
    return level_grids(settings, height=EDGE, width=EDGE)


def outputs_of(grids: list[LevelGrid], *, passing: int) -> RawOutputs:
    """Outputs of which `passing` anchors score above the threshold."""
    generator, count = np.random.default_rng(0), sum(map(len, grids))
    logits = generator.uniform(-8, -2, (count, 1)).astype(np.float32)
    logits[generator.choice(count, passing, replace=False)] = generator.uniform(0, 4, (passing, 1))
    return RawOutputs(logits, generator.normal(0, 0.2, (count, 4)).astype(np.float32))


def decode(raw: RawOutputs, grids: list[LevelGrid]) -> ChipResult:
    return decode_chip(raw, grids, height=EDGE, width=EDGE, thresholds=LIMITS)


@pytest.mark.parametrize("passing", [0, 300, 3000])
def test_one_chip(benchmark: BenchmarkFixture, passing: int) -> None:
    grids = grids_of(1)
    raw = outputs_of(grids, passing=passing)
    result = benchmark(lambda: decode(raw, grids))
    assert (len(result.detections) > 0) == (passing > 0)


def test_candidates_cost_more_than_anchors() -> None:
    """Nine times the anchors must not take nine times as long for the same candidates."""

    def seconds(sizes: int) -> float:
        grids = grids_of(sizes)
        raw = outputs_of(grids, passing=2000)
        decode(raw, grids)
        times = []
        for _ in range(7):
            started = time.process_time()
            decode(raw, grids)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(9) < 4 * seconds(1)
