"""Chips read ahead in threads, in the plan's order, with a bounded number in memory.

A strip is cut into runs of neighbouring windows, and the runs at one place of every strip belong to
one reader. GDAL keeps decoded blocks for each file handle: so a block that several windows overlap,
side by side or strip by strip, is decoded by one reader and found in the cache by the next window.
Only blocks on the border of two runs are decoded twice.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

import numpy as np

from geo_retina.cores import usable_cores
from geo_retina.detection.aoi import Aoi
from geo_retina.errors import RasterReadError
from geo_retina.imagery.source import Chip, ChipSource
from geo_retina.space.windows import Strip, Window, WindowPlan

MOST_READERS = min(max(usable_cores() // 2, 2), 8)
"""Threads that read windows, each through a handle of its own: two keep a CPU's network busy, a GPU
beside many cores takes more."""

LONGEST_RUN = 8
"""Most windows of a strip that one reader reads in a row."""

LARGEST_RUN_BYTES = 12 * 2**20
"""Most memory for the chips of one run, as long as it has more than one."""


class WindowState(Enum):
    """What became of a window before inference."""

    READ = "read"
    OUTSIDE = "outside the area of interest"
    EMPTY = "without valid pixels"
    FAILED = "unreadable"


@dataclass(frozen=True, slots=True, eq=False)
class WindowRead:
    """One window of the plan after reading."""

    strip_index: int
    window_id: int
    window: Window
    state: WindowState
    chip: Chip | None = None
    """The pixels, if the window was read."""
    error: RasterReadError | None = None
    """Why it could not be read, if it failed."""


@dataclass(frozen=True, slots=True)
class ReadingOrder:
    """How the windows of a plan are dealt out to readers."""

    readers: int
    """How many read at the same time."""
    run: int
    """Windows that one of them reads in a row."""

    @classmethod
    def of(cls, source: ChipSource, plan: WindowPlan, *, readers: int | None = None) -> Self:
        """The order that decodes blocks about once.

        A second reader does not help where blocks span the raster's rows (striped files): it would
        decode all of them again.

        Args:
            source: What is read.
            plan: Its windows.
            readers: How many shall read at the same time, at most one a column of windows; None
                chooses.
        """
        columns = len(plan.col_offs)
        if readers is None:
            spanning = 2 * source.raster.block_shape[1] > source.raster.grid.width
            readers = 1 if spanning else MOST_READERS
        readers = min(readers, columns)
        chip_bytes = (
            len(source.bands) * plan.chip_px**2 * np.dtype(source.radiometry.dtype).itemsize
        )
        fitting = max(LARGEST_RUN_BYTES // chip_bytes, 1)
        return cls(readers, min(LONGEST_RUN, math.ceil(columns / readers), fitting))

    def block_cache_bytes(self, source: ChipSource, plan: WindowPlan) -> int:
        """Memory for decoded blocks that lets each reader find again what it has decoded."""
        once = source.block_cache_bytes(plan.chip_px)
        if self.readers == 1:
            return once
        run_px = self.run * (plan.chip_px - plan.overlap_px)
        border_px = plan.overlap_px + source.raster.block_shape[1] / source.scale_x
        return math.ceil(once * min(1 + border_px / run_px, self.readers))


def read_windows(
    source: ChipSource,
    plan: WindowPlan,
    *,
    start: int = 0,
    aoi: Aoi | None = None,
    order: ReadingOrder | None = None,
    ahead: int = 0,
) -> Generator[WindowRead]:
    """Read the windows of a plan strip by strip, ahead of the consumer by a bounded number.

    Closing the generator ends the readers' threads and closes their files.

    Args:
        source: What to read; each reader reads through a clone of its own.
        plan: Windows of the source's grid.
        start: First strip to read.
        aoi: Windows that do not touch it are not read; None = all are.
        order: How windows are dealt out; None chooses. It does not change what is yielded.
        ahead: How many windows shall be read before they are asked for; rounded up to whole runs,
            at least one a reader.

    Yields:
        Every window, also those that were not read; a failed one carries its error.
    """
    order = order or ReadingOrder.of(source, plan)
    most_pending = max(order.readers, math.ceil(ahead / order.run))
    with ExitStack() as stack:
        readers = [stack.enter_context(_Reader(source, aoi)) for _ in range(order.readers)]
        pending: deque[Future[deque[WindowRead]]] = deque()
        for strip in plan.strips(start):
            for place, run in enumerate(_runs(strip, order.run)):
                pending.append(readers[place % order.readers].start(run))
                if len(pending) > most_pending:
                    yield from _emptied(pending.popleft().result())
        while pending:
            yield from _emptied(pending.popleft().result())


def _runs(strip: Strip, length: int) -> Iterator[list[WindowRead]]:
    """The windows of a strip in runs, each window as if it lay outside."""
    for first in range(0, len(strip.windows), length):
        yield [
            WindowRead(strip.index, window_id, window, WindowState.OUTSIDE)
            for window_id, window in enumerate(
                strip.windows[first : first + length], start=strip.first_window_id + first
            )
        ]


def _emptied(reads: deque[WindowRead]) -> Iterator[WindowRead]:
    """Hand reads on and let go of them, so that a chip goes when its consumer is done with it."""
    while reads:
        yield reads.popleft()


class _Reader:
    """A thread with a file handle of its own."""

    def __init__(self, source: ChipSource, aoi: Aoi | None) -> None:
        self._source = source.clone()
        self._aoi = aoi
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def start(self, run: list[WindowRead]) -> "Future[deque[WindowRead]]":
        """Read a run after those that were started before."""
        return self._thread.submit(lambda: deque(map(self._read, run)))

    def _read(self, read: WindowRead) -> WindowRead:
        if self._aoi is not None and not self._aoi.touches(read.window):
            return read
        place = read.strip_index, read.window_id, read.window
        try:
            chip = self._source.read(read.window)
        except RasterReadError as error:
            return WindowRead(*place, WindowState.FAILED, error=error)
        if not np.any(chip.valid):
            return WindowRead(*place, WindowState.EMPTY)
        return WindowRead(*place, WindowState.READ, chip)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._source.close()
