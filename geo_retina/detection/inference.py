"""From chips to candidates: batches, invalid pixels, windows that hold too much."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.backends import ChipResult, Detector, Thresholds
from geo_retina.detection.reading import WindowRead, WindowState
from geo_retina.imagery.source import Chip
from geo_retina.space.detections import Detections
from geo_retina.space.windows import CUT_MARGIN_PX, WindowPlan

LEAST_VALID_SHARE = 0.5
"""A box with a smaller share of valid pixels is dropped: it rests on nothing that was seen."""

SMALLEST_SPLIT_PX = 64
"""A window is not split into parts smaller than this."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowFound:
    """One window of the plan after inference."""

    read: WindowRead
    detections: Detections
    """Candidates in the frame of the source's grid."""
    splits: int = 0
    """How often the window, or a part of it, reached a limit and was split and run again."""
    saturated: bool = False
    """Whether a limit was reached even in the smallest part."""


def find_objects(
    reads: Iterable[WindowRead],
    detector: Detector,
    thresholds: Thresholds,
    *,
    split_overlap_px: int,
) -> Generator[WindowFound]:
    """Run the detector on the chips of `reads`, batch by batch, and keep their order.

    What a window yields depends on its own pixels alone, not on the batch it is in. A window that
    reaches a limit of `thresholds` is split into four overlapping parts, which are run one by one.

    Args:
        reads: Windows in any order; those without chip pass through.
        detector: Finds boxes on chips.
        thresholds: Scores and limits.
        split_overlap_px: Overlap of the parts of a split window: about the largest object.
    """
    waiting: list[WindowRead] = []
    for read in reads:
        waiting.append(read)
        if sum(item.chip is not None for item in waiting) >= detector.batch:
            yield from _run(waiting, detector, thresholds, split_overlap_px)
            waiting = []
    yield from _run(waiting, detector, thresholds, split_overlap_px)


def _run(
    reads: list[WindowRead], detector: Detector, thresholds: Thresholds, split_overlap_px: int
) -> Iterator[WindowFound]:
    chips = [read.chip for read in reads if read.chip is not None]
    results: Iterator[ChipResult] = iter(())
    if chips:
        results = iter(detector.detect(np.stack([chip.pixels for chip in chips]), thresholds))
    for read in reads:
        if read.state is not WindowState.READ or read.chip is None:
            yield WindowFound(read, Detections.empty())
            continue
        found, splits, saturated = next(results), 0, False
        detections = found.detections
        if found.saturated:
            detections, splits, saturated = _split(
                read.chip.pixels, detector, thresholds, split_overlap_px
            )
        detections = _on_valid_pixels(detections, read.chip)
        placed = detections.shift(x=read.window.col_off, y=read.window.row_off)
        yield WindowFound(read, placed.of_window(read.window_id), splits, saturated)


def _split(
    pixels: NDArray[np.generic], detector: Detector, thresholds: Thresholds, overlap_px: int
) -> tuple[Detections, int, bool]:
    """Run the parts of one chip: detections in the chip's frame, splits, still saturated."""
    height, width = pixels.shape[-2:]
    part_px = (max(height, width) + overlap_px + 1) // 2
    if part_px < SMALLEST_SPLIT_PX or part_px >= max(height, width):
        (result,) = detector.detect(pixels[None], thresholds)
        return result.detections, 0, True
    plan = WindowPlan(width, height, part_px, min(overlap_px, part_px - 1))
    found, splits, saturated = [], 1, False
    for strip in plan.strips():
        for window in strip.windows:
            col, row, col_end, row_end = window.box
            part = np.ascontiguousarray(pixels[:, row:row_end, col:col_end])
            (result,) = detector.detect(part[None], thresholds)
            detections = result.detections
            if result.saturated:
                detections, more, still = _split(part, detector, thresholds, overlap_px)
                splits, saturated = splits + more, saturated or still
            detections = detections.shift(x=col, y=row)
            cut = plan.cut_and_seen_whole_by_neighbour(
                detections.boxes, window, margin_px=CUT_MARGIN_PX
            )
            found.append(detections.select(~cut))
    return Detections.concat(found), splits, saturated


def _on_valid_pixels(detections: Detections, chip: Chip) -> Detections:
    """Drop boxes (chip frame) whose centre or larger part is not valid."""
    if len(detections) == 0 or chip.valid.all():
        return detections
    height, width = chip.valid.shape
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = chip.valid.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    limits = np.array([width, height, width, height])
    x_min, y_min, x_max, y_max = (
        np.clip(
            np.concatenate(
                [np.floor(detections.boxes[:, :2]), np.ceil(detections.boxes[:, 2:])], 1
            ),
            0,
            limits,
        )
        .astype(np.int64)
        .T
    )
    inside = sums[y_max, x_max] - sums[y_min, x_max] - sums[y_max, x_min] + sums[y_min, x_min]
    pixels = np.maximum((x_max - x_min) * (y_max - y_min), 1)
    col, row = ((detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2).astype(np.int64).T
    centre_valid = chip.valid[row.clip(0, height - 1), col.clip(0, width - 1)]
    return detections.select(centre_valid & (inside >= LEAST_VALID_SHARE * pixels))
