"""Reading, inference and what follows go on side by side, also on a slow disk."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from blobs import BlobDetector
from fixture_types import BlobModel, MakeCard, WriteRaster
from numpy.typing import NDArray

from geo_retina.detection.detector import BackgroundDetector, ChipResult
from geo_retina.detection.inference import find_objects
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.pipeline import run_strips
from geo_retina.detection.reading import ReadingOrder, WindowRead, WindowState
from geo_retina.detection.run import new_stitcher
from geo_retina.imagery.source import Chip, ChipSource
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.windows import Window

SECONDS = 0.03
Spans = list[tuple[float, float]]


@contextmanager
def noted(spans: Spans) -> Any:
    started = time.monotonic()
    try:
        yield
    finally:
        spans.append((started, time.monotonic()))


def shared(first: Spans, second: Spans) -> float:
    """Seconds in which both were at work."""
    return sum(
        max(min(end, stop) - max(start, begin), 0) for start, end in first for begin, stop in second
    )


@dataclass
class SlowDetector(BlobDetector):
    """Takes its time, as a device does: the host sleeps."""

    spans: Spans = field(default_factory=list)

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        with noted(self.spans):
            time.sleep(SECONDS)
            return super().detect(pixels, thresholds)


@pytest.mark.parametrize("readers", [1, 2])
def test_a_slow_disk_is_read_while_chips_are_searched(
    blob_model: BlobModel,
    write_raster: WriteRaster,
    field_of_objects: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    readers: int,
) -> None:
    card = blob_model().card
    pixels, boxes = field_of_objects(250, 250)
    reads: Spans = []
    read = ChipSource.read

    def slow(self: ChipSource, window: Window) -> Chip:
        with noted(reads):
            time.sleep(SECONDS)
            return read(self, window)

    monkeypatch.setattr(ChipSource, "read", slow)
    detector = SlowDetector(card)
    with open_job(write_raster("field.tif", pixels), "blobs", DetectOptions()) as job:
        strips = run_strips(job, detector, new_stitcher(job), order=ReadingOrder(readers, 2))
        found = sum(len(strip.final) for strip in strips)
        assert found == len(boxes)
        assert len(reads) == len(job.plan) == 25
    searching = sum(end - start for start, end in detector.spans)
    assert shared(reads, detector.spans) > 0.6 * searching


class Later:
    """A batch that is done when it is asked for."""

    def __init__(self, detector: "FakeDevice", results: list[ChipResult]) -> None:
        self._detector, self._results = detector, results

    def result(self) -> list[ChipResult]:
        self._detector.running -= 1
        return self._results


@dataclass
class FakeDevice(BlobDetector):
    """Works in the background, and notes how much it has to do."""

    in_flight: int = 1
    running: int = 0
    most_running: int = 0

    def start(self, chips: Any, thresholds: Thresholds) -> Later:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        return Later(self, self.detect(np.stack(chips), thresholds))


@pytest.mark.parametrize("in_flight", [0, 1, 3])
def test_a_device_always_has_the_next_batch(make_card: MakeCard, in_flight: int) -> None:
    """Windows without a chip lie between, and the order is kept."""
    pixels = np.full((3, 64, 64), 20, np.uint8)
    pixels[:, 10:20, 10:20] = 200
    reads = [
        WindowRead(
            0,
            number,
            window := Window(64 * number, 0, 64, 64),
            WindowState.READ if number % 3 else WindowState.EMPTY,
            Chip(pixels, np.ones((64, 64), np.bool_), window) if number % 3 else None,
        )
        for number in range(40)
    ]
    device = FakeDevice(make_card(), batch=2, in_flight=in_flight)
    assert isinstance(device, BackgroundDetector)
    assert not isinstance(BlobDetector(make_card()), BackgroundDetector)
    thresholds = Thresholds(0.3, 0.5, 100, 100)
    found = list(find_objects(reads, device, thresholds, split_overlap_px=16))
    assert [item.read.window_id for item in found] == list(range(40))
    assert [len(item.detections) for item in found] == [int(n % 3 > 0) for n in range(40)]
    assert device.most_running == in_flight + 1
    assert device.running == 0
