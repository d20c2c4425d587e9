"""Windows of a raster, and the plan that covers a raster with overlapping ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUT_MARGIN_PX = 4.0
"""How near to a window's inner edge a box counts as cut by it, in pixels: detectors place the edge
of a cut object within a few pixels of the cut."""


@dataclass(frozen=True, slots=True)
class Window:
    """An integer pixel rectangle of a raster; (0, 0) is the raster's upper-left corner."""

    col_off: int
    """Leftmost column."""
    row_off: int
    """Topmost row."""
    width: int
    """Number of columns, at least 1."""
    height: int
    """Number of rows, at least 1."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a window needs at least one pixel, got {self}")

    @property
    def col_end(self) -> int:
        """First column to the right of the window."""
        return self.col_off + self.width

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row_off + self.height

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Pixel edges `(x_min, y_min, x_max, y_max)`."""
        return self.col_off, self.row_off, self.col_end, self.row_end


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of windows: the unit of reading, stitching, flushing and resuming."""

    index: int
    """Position among the plan's strips, from the top."""
    windows: tuple[Window, ...]
    """From left to right; all have the same `row_off` and size."""
    first_window_id: int
    """Id of the leftmost window; ids rise by one to the right and from strip to strip."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """A cover of a raster by windows of one size that overlap by at least `overlap_px`.

    The last window of a row (column) is moved back so that it ends at the raster's edge: every
    window of a raster at least as large as the chip is a whole chip. Ids number the windows row by
    row, so that an id depends on nothing but the raster's size, `chip_px` and `overlap_px`.
    """

    width: int
    """Columns of the raster."""
    height: int
    """Rows of the raster."""
    chip_px: int
    """Edge of a window, in pixels."""
    overlap_px: int
    """Least overlap of neighbours, in pixels."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a raster needs at least one pixel, got {self.width} x {self.height}")
        if not 0 <= self.overlap_px < self.chip_px:
            raise ValueError(
                f"overlap_px must be at least 0 and under chip_px {self.chip_px}, "
                f"got {self.overlap_px}"
            )

    @property
    def col_offs(self) -> NDArray[np.int64]:
        """First column of each window of a strip."""
        return _offsets(self.width, self.chip_px, self.overlap_px)

    @property
    def row_offs(self) -> NDArray[np.int64]:
        """First row of each strip."""
        return _offsets(self.height, self.chip_px, self.overlap_px)

    @property
    def window_size(self) -> tuple[int, int]:
        """Columns and rows of every window: a chip's, or fewer where the raster is smaller."""
        return min(self.chip_px, self.width), min(self.chip_px, self.height)

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.col_offs) * len(self.row_offs)

    def strips(self, start: int = 0) -> Iterator[Strip]:
        """Yield the strips from number `start` downwards."""
        cols = self.col_offs.tolist()
        for index, row in enumerate(self.row_offs.tolist()):
            if index >= start:
                windows = tuple(Window(col, row, *self.window_size) for col in cols)
                yield Strip(index, windows, index * len(cols))

    def window(self, number: int) -> Window:
        """The window with id `number`."""
        cols = self.col_offs
        row, col = divmod(number, len(cols))
        return Window(int(cols[col]), int(self.row_offs[row]), *self.window_size)

    def own_part(self, number: int) -> Window:
        """The part of window `number` that no later one holds: these parts tile the raster."""
        window = self.window(number)
        _, right = _neighbour_edges(self.col_offs, window.col_off, window.width)
        _, below = _neighbour_edges(self.row_offs, window.row_off, window.height)
        width = (window.col_end if right is None else right) - window.col_off
        height = (window.row_end if below is None else below) - window.row_off
        return Window(window.col_off, window.row_off, width, height)

    def cut_and_seen_whole_by_neighbour(
        self, boxes: NDArray[np.floating], window: Window, *, margin_px: float
    ) -> NDArray[np.bool_]:
        """Mark the boxes of one window to set aside because a neighbour sees the object better.

        A box counts as cut where it comes within `margin_px` of an edge of the window that is not
        an edge of the raster. It is marked if the neighbour across that edge sees all that this
        window sees of it and more, clear of the neighbour's own edge. The rule looks at one window
        alone, so it depends on no order. Of all windows that see an object, of whatever size, at
        least one does not mark it: better a piece of it than nothing. Any object no wider and no
        taller than `overlap_px - 2 * margin_px` is whole and unmarked in at least one window.

        Args:
            boxes: (N, 4) pixel edges in the raster's frame.
            window: A window of this plan.
            margin_px: How near to the edge a box counts as cut, in pixels.

        Returns:
            (N,) mask, True = set aside.
        """
        marked: NDArray[np.bool_] = np.any(
            self.cut_sides(boxes, window, margin_px=margin_px), axis=1
        )
        return marked

    def cut_sides(
        self, boxes: NDArray[np.floating], window: Window, *, margin_px: float
    ) -> NDArray[np.bool_]:
        """At which sides the rule of `cut_and_seen_whole_by_neighbour` marks boxes.

        Takes the same arguments.

        Returns:
            (N, 4) mask in the order of a box: left, above, right, below.
        """
        left, right = _neighbour_edges(self.col_offs, window.col_off, window.width)
        above, below = _neighbour_edges(self.row_offs, window.row_off, window.height)
        x_min, y_min, x_max, y_max = boxes.T
        sides = np.zeros((len(boxes), 4), dtype=np.bool_)
        if left is not None:
            sides[:, 0] = (x_min < window.col_off + margin_px) & (x_max <= left - margin_px)
        if above is not None:
            sides[:, 1] = (y_min < window.row_off + margin_px) & (y_max <= above - margin_px)
        if right is not None:
            sides[:, 2] = (x_max > window.col_end - margin_px) & (x_min >= right + margin_px)
        if below is not None:
            sides[:, 3] = (y_max > window.row_end - margin_px) & (y_min >= below + margin_px)
        return sides


def _offsets(length: int, chip_px: int, overlap_px: int) -> NDArray[np.int64]:
    """First pixel of each window along one axis of `length` pixels."""
    last = max(length - chip_px, 0)
    stride = chip_px - overlap_px
    return np.append(np.arange(0, last, stride, dtype=np.int64), np.int64(last))


def _neighbour_edges(
    offsets: NDArray[np.int64], offset: int, size: int
) -> tuple[int | None, int | None]:
    """End of the neighbour before and start of the neighbour after the window at `offset`."""
    index = int(np.searchsorted(offsets, offset))
    before = int(offsets[index - 1]) + size if index > 0 else None
    after = int(offsets[index + 1]) if index + 1 < len(offsets) else None
    return before, after
