"""Chips read ahead in threads, in the plan's order, with a bounded number in memory."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from queue import SimpleQueue
from typing import Protocol

from geo_retina.errors import RasterReadError
from geo_retina.imagery.source import Chip, ChipSource
from geo_retina.space.windows import Strip, Window

READERS = 2
"""Threads that read windows, each through a handle of its own."""


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


class Area(Protocol):
    """The part of a raster that is to be searched."""

    def touches(self, window: Window) -> bool:
        """Whether a window holds any of it."""


def read_windows(
    source: ChipSource, strips: Iterable[Strip], *, area: Area | None, threads: int, ahead: int
) -> Generator[WindowRead]:
    """Read the windows of `strips` in order, `ahead` of the consumer by a bounded number.

    Args:
        source: What to read; each thread reads through a clone of its own.
        strips: Strips of a plan of the source's grid.
        area: Windows that do not touch it are not read; None = all are.
        threads: How many windows are read at the same time.
        ahead: Most windows that are read but not yet consumed.

    Yields:
        Every window, also those that were not read; a failed one carries its error.
    """
    with ExitStack() as stack:
        clones: SimpleQueue[ChipSource] = SimpleQueue()
        for _ in range(threads):
            clones.put(stack.enter_context(source.clone()))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        stack.callback(pool.shutdown, cancel_futures=True)

        def read(strip: Strip, number: int, window: Window) -> WindowRead:
            window_id = strip.first_window_id + number
            if area is not None and not area.touches(window):
                return WindowRead(strip.index, window_id, window, WindowState.OUTSIDE)
            clone = clones.get()
            try:
                chip = clone.read(window)
            except RasterReadError as error:
                failed = WindowState.FAILED
                return WindowRead(strip.index, window_id, window, failed, error=error)
            finally:
                clones.put(clone)
            if not chip.valid.any():
                return WindowRead(strip.index, window_id, window, WindowState.EMPTY)
            return WindowRead(strip.index, window_id, window, WindowState.READ, chip)

        pending: deque[Future[WindowRead]] = deque()
        for strip in strips:
            for number, window in enumerate(strip.windows):
                pending.append(pool.submit(read, strip, number, window))
                if len(pending) > ahead:
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
