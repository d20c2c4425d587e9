"""The main job: read, infer, stitch, strip by strip."""

import logging
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby

from geo_retina.detection.detector import Detector, PreparingDetector
from geo_retina.detection.inference import WindowFound, find_objects
from geo_retina.detection.job import Job
from geo_retina.detection.reading import ReadingOrder, WindowState, read_windows
from geo_retina.detection.stitch import Stitcher
from geo_retina.errors import ConfigError, RasterReadError
from geo_retina.space.detections import Detections
from geo_retina.space.windows import Window
from geo_retina.wording import shown

_log = logging.getLogger(__name__)

OnProgress = Callable[[float, float, int], None]
"""Takes the megapixels of the raster that are done, those of the whole, and the objects so far."""

_AHEAD_BATCHES = 2  # batches that lie read while one is inferred
_MOST_TOLD = 5  # unreadable windows that are told of one by one


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has done so far."""

    windows_inferred: int = 0
    windows_empty: int = 0
    """Without valid pixels: not inferred."""
    windows_outside: int = 0
    """Outside the AOI: not read."""
    windows_split: int = 0
    """Windows and parts of them that reached a limit and were split."""
    windows_saturated: int = 0
    """Windows that reached a limit even in their smallest parts: objects may be missing."""
    candidates: int = 0
    """Boxes before stitching."""
    objects: int = 0
    """Boxes that are final."""
    windows_failed: int = 0
    """Unreadable: there may be objects in them."""

    def after(self, found: WindowFound) -> "Counts":
        """The counts with one more window."""
        state = found.read.state
        return replace(
            self,
            windows_inferred=self.windows_inferred + (state is WindowState.READ),
            windows_empty=self.windows_empty + (state is WindowState.EMPTY),
            windows_outside=self.windows_outside + (state is WindowState.OUTSIDE),
            windows_split=self.windows_split + found.splits,
            windows_saturated=self.windows_saturated + found.saturated,
            candidates=self.candidates + len(found.detections),
            windows_failed=self.windows_failed + (state is WindowState.FAILED),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StripDone:
    """What one strip added to a run."""

    index: int
    final: Detections
    """New final objects, in pixels of the raster."""
    counts: Counts
    """Of the run so far."""
    failed: tuple[Window, ...]
    """Its unreadable windows, in the source's grid."""


def run_strips(
    job: Job,
    detector: Detector,
    stitcher: Stitcher,
    *,
    start: int = 0,
    counts: Counts | None = None,
    skip_errors: bool = False,
    order: ReadingOrder | None = None,
    on_progress: OnProgress | None = None,
) -> Generator[StripDone]:
    """Detect from strip `start` to the end. Close the generator to end its threads at once.

    Args:
        job: What to do.
        detector: Finds boxes on chips.
        stitcher: New, or with the state after strip `start - 1`.
        start: First strip to do.
        counts: Of the strips before.
        skip_errors: Go on past windows that cannot be read.
        order: How windows are dealt out to readers; None chooses.
        on_progress: Called at the start, after each window and each strip.

    Yields:
        One value a strip, from the top.

    Raises:
        RasterReadError: A window cannot be read, and `skip_errors` is not set.
    """
    counts = counts or Counts()
    columns = len(job.plan.col_offs)
    if isinstance(detector, PreparingDetector) and len(job.plan) > 1:  # one chip needs no trial
        first = job.plan.window(0)
        detector.prepare(first.height, first.width)
    tell, skipped = _Teller(job, on_progress), _Skipped()
    tell(start * columns, counts)
    reads = read_windows(
        job.source,
        job.plan,
        start=start,
        aoi=job.aoi,
        order=order,
        ahead=_AHEAD_BATCHES * detector.batch,
    )
    found = find_objects(
        reads,
        detector,
        job.thresholds,
        split_overlap_px=job.plan.overlap_px,
    )
    with closing(reads), closing(found):
        for index, windows in groupby(found, key=lambda item: item.read.strip_index):
            candidates, failed = [], []
            for number, window in enumerate(windows, start=index * columns + 1):
                if window.read.error is not None:
                    if not skip_errors:
                        raise window.read.error
                    skipped.tell(window.read.error)
                    failed.append(window.read.window)
                counts = counts.after(window)
                candidates.append((window.read.window, window.detections))
                tell(number, counts)
            final = _in_raster(job, stitcher.add_strip(index, candidates))
            counts = replace(counts, objects=counts.objects + len(final))
            tell((index + 1) * columns, counts)
            yield StripDone(index, final, counts, tuple(failed))
    skipped.tell_rest()


def _in_raster(job: Job, detections: Detections) -> Detections:
    """Objects inside the AOI, in pixels of the raster, whose lowered score reaches its class's.

    A mean of several classes' scores is none of them: what passed before fusion stays.
    """
    if job.options.lowers_scores:
        detections = job.thresholds.reached(detections)
    if job.aoi is not None and len(detections):
        detections = detections.select(job.aoi.contains_centres(detections.boxes))
    return detections.scale(x=job.source.scale_x, y=job.source.scale_y)


class _Skipped:
    """Tells of the first unreadable windows one by one, and of the rest by their number."""

    def __init__(self) -> None:
        self._count = 0

    def tell(self, error: RasterReadError) -> None:
        """Log one window, or count it."""
        self._count += 1
        if self._count <= _MOST_TOLD:
            _log.warning("skipped: %s", error)

    def tell_rest(self) -> None:
        """Log how many windows were counted only."""
        if self._count > _MOST_TOLD:
            _log.warning("skipped: %d more windows that cannot be read", self._count - _MOST_TOLD)


def check_progress(on_progress: object) -> None:
    """Raise a ConfigError where this cannot be called."""
    if on_progress is not None and not callable(on_progress):
        raise ConfigError(f"expected a function as on_progress, got {shown(on_progress)}")


class _Teller:
    """Tells how far a run is, if anybody wants to know."""

    def __init__(self, job: Job, on_progress: OnProgress | None) -> None:
        self._megapixels = job.source.raster.grid.megapixels
        self._windows = len(job.plan)
        self._on_progress = on_progress

    def __call__(self, windows_done: int, counts: Counts) -> None:
        if self._on_progress is not None:
            done = self._megapixels * windows_done / self._windows
            self._on_progress(done, self._megapixels, counts.objects)
