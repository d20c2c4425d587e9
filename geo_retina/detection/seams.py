"""What happened where windows meet, counted for each seam."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.windows import WindowPlan


class SeamEvent(IntEnum):
    """What can happen to a box at a seam."""

    MERGED = 0
    """It gave way to a box of another window."""
    CUT = 1
    """It was set aside because the neighbour sees the object better."""
    SUSPECTED = 2
    """It was reported and overlaps a reported box of another window: one object found twice?"""


_KEYS = tuple(event.name.lower() for event in SeamEvent)


@dataclass(frozen=True, slots=True, eq=False)
class SeamAudit:
    """Counts of what happened at the seams of a plan.

    A seam is the band where two neighbouring columns (or rows) of windows overlap. An event between
    windows of one row belongs to the vertical seam to the right of the left one; an event between
    rows belongs to the horizontal seam below the upper one. The size depends on the number of
    columns and rows of windows alone.
    """

    plan: WindowPlan
    vertical: NDArray[np.int64]
    """(columns - 1, 3) counts in the order of `SeamEvent`."""
    horizontal: NDArray[np.int64]
    """(rows - 1, 3)"""

    @classmethod
    def empty(cls, plan: WindowPlan) -> Self:
        """Nothing has happened yet."""
        return cls(
            plan,
            np.zeros((len(plan.col_offs) - 1, len(SeamEvent)), np.int64),
            np.zeros((len(plan.row_offs) - 1, len(SeamEvent)), np.int64),
        )

    @classmethod
    def of_changes(cls, plan: WindowPlan, changes: Iterable[Mapping[str, Any]]) -> Self:
        """The sum of what `changes` gave, time after time, for the same plan."""
        audit = cls.empty(plan)
        for change in changes:
            for name, counts in (("vertical", audit.vertical), ("horizontal", audit.horizontal)):
                seams = np.array(change[name], dtype=np.int64).reshape(-1, 1 + len(SeamEvent))
                counts[seams[:, 0]] += seams[:, 1:]
        return audit

    def counted(
        self, event: SeamEvent, windows: NDArray[np.int64], others: NDArray[np.int64]
    ) -> Self:
        """The audit with more events, each between a window and another one.

        Args:
            event: What happened.
            windows: (N,) window ids.
            others: (N,) window ids. Where both are the same, nothing is counted.
        """
        columns = len(self.plan.col_offs)
        low, high = np.minimum(windows, others), np.maximum(windows, others)
        row, column = np.divmod(low, columns)
        other_row, other_column = np.divmod(high, columns)
        across_rows = row != other_row
        in_row = ~across_rows & (column != other_column)
        vertical, horizontal = self.vertical.copy(), self.horizontal.copy()
        np.add.at(vertical[:, event], column[in_row], 1)
        np.add.at(horizontal[:, event], row[across_rows], 1)
        return replace(self, vertical=vertical, horizontal=horizontal)

    @property
    def totals(self) -> dict[str, int]:
        """Sums of `merged`, `cut` and `suspected` over all seams."""
        sums = self.vertical.sum(axis=0) + self.horizontal.sum(axis=0)
        return dict(zip(_KEYS, sums.tolist(), strict=True))

    def changes(self, since: Self) -> dict[str, Any]:
        """What happened after `since`, as plain data whose size depends on that alone.

        A row is the number of a seam, then its new events in the order of `SeamEvent`.
        """
        return {
            "vertical": _changed_rows(self.vertical - since.vertical),
            "horizontal": _changed_rows(self.horizontal - since.horizontal),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data: totals, and each seam where something happened with its middle in pixels."""
        width, height = self.plan.window_size
        return {
            "totals": self.totals,
            "vertical": _rows(self.vertical, self.plan.col_offs, width, "x_px"),
            "horizontal": _rows(self.horizontal, self.plan.row_offs, height, "y_px"),
        }


def _changed_rows(counts: NDArray[np.int64]) -> list[list[int]]:
    seams = np.flatnonzero(counts.any(axis=1))
    rows: list[list[int]] = np.column_stack([seams, counts[seams]]).tolist()
    return rows


def _rows(
    counts: NDArray[np.int64], offsets: NDArray[np.int64], size: int, position: str
) -> list[dict[str, Any]]:
    middles = ((offsets[:-1] + size + offsets[1:]) / 2).tolist()
    return [
        {
            "seam": seam,
            position: middles[seam],
            **dict(zip(_KEYS, counts[seam].tolist(), strict=True)),
        }
        for seam in np.flatnonzero(counts.any(axis=1)).tolist()
    ]
