"""From chips to candidates: batches, invalid pixels, windows that hold too much."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.detector import BackgroundDetector, ChipResult, Detector, Done, Pending
from geo_retina.detection.reading import WindowRead
from geo_retina.errors import ModelError
from geo_retina.imagery.source import Chip
from geo_retina.model.thresholds import Thresholds
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.space.windows import CUT_MARGIN_PX, WindowPlan

LEAST_VALID_SHARE = 0.5
"""A box with a smaller share of valid pixels is dropped: it rests on nothing that was seen."""

SMALLEST_SPLIT_PX = 64
"""A window is not split into parts smaller than this."""

LARGEST_PART = 0.75
"""Nor into parts that are larger, beside it: where the overlap is much of it, they hardly shrink,
and the chips to run would grow without bound."""

HEADROOM = 8
"""A window may hold so many times the model's limits before it is split: boxes cost far less than
further chips."""

MOST_WAITING = 1024
"""So many windows, most of them empty, may wait for a batch to fill."""

_MOST_RUNNING = 64  # batches, most of them without a chip, that may wait for the first to be done


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
    reaches `HEADROOM` times a limit of `thresholds` is split into overlapping parts, which are run
    in its place, and these again.

    Args:
        reads: Windows in any order; those without chip pass through.
        detector: Finds boxes on chips.
        thresholds: Scores and limits.
        split_overlap_px: Overlap of the parts of a split window: about the largest object.

    Yields:
        What was found in each window, cut at the window's edges.

    Raises:
        ModelError: The detector returns what is not a number.
    """
    thresholds = thresholds.with_limits_times(HEADROOM)
    background = detector.in_flight if isinstance(detector, BackgroundDetector) else 0
    running: deque[_Batch] = deque()
    busy = 0  # batches of `running` that hold chips
    for reads_of_batch in _batches(reads, detector):
        running.append(_start(reads_of_batch, detector, thresholds))
        busy += running[-1].chips > 0
        while running and (
            busy > background or running[0].chips == 0 or len(running) > _MOST_RUNNING
        ):
            busy -= running[0].chips > 0
            yield from _finish(running.popleft(), detector, thresholds, split_overlap_px)
    while running:
        yield from _finish(running.popleft(), detector, thresholds, split_overlap_px)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Windows whose chips are being worked on; some have none."""

    reads: list[WindowRead]
    chips: int
    pending: Pending


def _batches(reads: Iterable[WindowRead], detector: Detector) -> Iterator[list[WindowRead]]:
    """Windows in groups of a batch of chips, as the detector likes it at that moment.

    There are fewer chips in a group at the end, or where few windows have one.
    """
    waiting: list[WindowRead] = []
    chips = 0
    for read in reads:
        waiting.append(read)
        chips += read.chip is not None
        if chips >= detector.batch or chips == 0 or len(waiting) >= MOST_WAITING:
            yield waiting
            waiting, chips = [], 0
    if waiting:
        yield waiting


def _start(reads: list[WindowRead], detector: Detector, thresholds: Thresholds) -> _Batch:
    chips = [read.chip.pixels for read in reads if read.chip is not None]
    if not chips:
        return _Batch(reads, 0, Done([]))
    if isinstance(detector, BackgroundDetector):
        return _Batch(reads, len(chips), detector.start(chips, thresholds))
    return _Batch(reads, len(chips), Done(detector.detect(np.stack(chips), thresholds)))


def _finish(
    batch: _Batch, detector: Detector, thresholds: Thresholds, split_overlap_px: int
) -> Iterator[WindowFound]:
    results = iter(_checked(batch.pending.result(), batch.chips))
    for read in batch.reads:
        if read.chip is None:
            yield WindowFound(read, Detections.empty())
            continue
        result = _inside(next(results), read.chip.pixels)
        detections, splits, saturated = _parts_if_full(
            read.chip.pixels, result, detector, thresholds, split_overlap_px
        )
        detections = _on_valid_pixels(thresholds.reached(detections), read.chip)
        placed = detections.shift(x=read.window.col_off, y=read.window.row_off)
        yield WindowFound(read, placed.of_window(read.window_id), splits, saturated)


def _parts_if_full(
    pixels: NDArray[np.generic],
    result: ChipResult,
    detector: Detector,
    thresholds: Thresholds,
    overlap_px: int,
) -> tuple[Detections, int, bool]:
    """What was found on a chip, or on its parts where that reached a limit.

    Returns:
        Detections in the chip's frame, how often something was split, whether a limit is still
        reached.
    """
    height, width = pixels.shape[-2:]
    longest = max(height, width)
    part_px = (longest + overlap_px + 1) // 2
    too_small = part_px < SMALLEST_SPLIT_PX or part_px > LARGEST_PART * longest
    if not result.saturated or too_small:
        return result.detections, 0, result.saturated
    plan = WindowPlan(width, height, part_px, overlap_px)
    windows = [window for strip in plan.strips() for window in strip.windows]
    parts = [pixels[:, w.row_off : w.row_end, w.col_off : w.col_end] for w in windows]
    found, splits, saturated = [], 1, False
    for window, part, of_part in zip(
        windows, parts, _detect(detector, parts, thresholds), strict=True
    ):
        detections, more, still = _parts_if_full(part, of_part, detector, thresholds, overlap_px)
        splits, saturated = splits + more, saturated or still
        detections = detections.shift(x=window.col_off, y=window.row_off)
        cut = plan.cut_and_seen_whole_by_neighbour(
            detections.boxes, window, margin_px=CUT_MARGIN_PX
        )
        found.append(detections.select(~cut))
    return Detections.concat(found), splits, saturated


def _detect(
    detector: Detector, chips: Sequence[NDArray[np.generic]], thresholds: Thresholds
) -> list[ChipResult]:
    """Run chips of one size; see `_inside`."""
    results = _checked(detector.detect(np.stack(chips), thresholds), len(chips))
    return [_inside(result, pixels) for result, pixels in zip(results, chips, strict=True)]


def _checked(results: list[ChipResult], chips: int) -> list[ChipResult]:
    if len(results) != chips:
        raise ModelError(
            f"expected one result for each of {chips} chips, the detector gave {len(results)}"
        )
    return results


def _inside(result: ChipResult, pixels: NDArray[np.generic]) -> ChipResult:
    """What was found, cut at the chip's edges; boxes without area are dropped."""
    found, (height, width) = result.detections, pixels.shape[-2:]
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        raise ModelError(
            "the detector gave boxes or scores that are not finite numbers; look for damaged "
            "weights, or for NaN in the raster that no mask covers"
        )
    boxes = box_arrays.clip(found.boxes, width=width, height=height)
    kept = replace(found, boxes=boxes).select(box_arrays.area(boxes) > 0)
    return replace(result, detections=kept)


def _on_valid_pixels(detections: Detections, chip: Chip) -> Detections:
    """Drop boxes (chip frame, see `_inside`) whose centre or larger part is not valid."""
    if len(detections) == 0 or chip.valid.all():
        return detections
    height, width = chip.valid.shape
    col, row = box_arrays.centres(detections.boxes).astype(np.int64).T
    centre_valid = chip.valid[row.clip(max=height - 1), col.clip(max=width - 1)]
    share = box_arrays.share_under(detections.boxes, chip.valid)
    return detections.select(centre_valid & (share >= LEAST_VALID_SHARE))
