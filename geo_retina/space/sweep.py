"""Pairs of overlapping boxes by a sweep along one axis: plain numpy, nothing to load or compile.

A line moves across the plane along the axis on which fewer boxes lie side by side. Two boxes can
only overlap where the second is met while the first is still under the line. The work is the number
of such meetings, which `Sweep` tells before any is looked at: for the boxes of one chip it is done
sooner than a compiled search loads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space.boxes import Overlap

Integers = NDArray[np.int64]

_AT_ONCE = 1 << 17  # meetings that are looked at together: few enough for a core's cache


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """N boxes in the order in which the line meets them."""

    axis: int
    """The line moves along x (0) or y (1)."""
    order: Integers
    """(N,) positions of the boxes."""
    met: Integers
    """(N,) how many boxes are met while each one, in `order`, is under the line."""

    @classmethod
    def of(cls, boxes: NDArray[np.float64]) -> Self:
        """The sweep of (N, 4) pixel edges along x or y, whichever takes less."""
        return min((cls._along(axis, boxes) for axis in (0, 1)), key=lambda sweep: sweep.meetings)

    @classmethod
    def _along(cls, axis: int, boxes: NDArray[np.float64]) -> Self:
        low, high = boxes[:, axis], boxes[:, axis + 2]
        order = np.argsort(low, kind="stable")
        ends = np.searchsorted(low[order], high[order])
        return cls(axis, order, np.maximum(ends - np.arange(1, len(order) + 1), 0))

    @property
    def meetings(self) -> int:
        """How many pairs have to be looked at."""
        return int(self.met.sum())

    def pairs(
        self, boxes: NDArray[np.float64], groups: Integers, *, threshold: float, overlap: Overlap
    ) -> Integers:
        """Pairs of one group that overlap by more than a threshold.

        The arithmetic is that of `boxes.iou` and `boxes.ios`, bit for bit.

        Args:
            boxes: The (N, 4) boxes the sweep is of.
            groups: (N,)
            threshold: In [0, 1].
            overlap: How overlap is measured.

        Returns:
            (P, 2) positions, the smaller one first, in rising order.
        """
        low, high = np.ascontiguousarray(boxes[self.order].T).reshape(2, 2, -1)  # (x and y, N)
        areas = box_arrays.area(boxes)[self.order]
        labels = groups[self.order]
        across = 1 - self.axis
        parts = [np.zeros((0, 2), np.int64)]
        for first, second in self._meetings():
            near = low[across][first] < high[across][second]
            near &= low[across][second] < high[across][first]
            one, other = first[near], second[near]
            sides = np.minimum(high[:, one], high[:, other])
            sides -= np.maximum(low[:, one], low[:, other])
            shared = np.prod(np.maximum(sides, 0), axis=0)
            whole = np.minimum(areas[one], areas[other])
            if overlap is Overlap.IOU:
                whole = areas[one] + areas[other] - shared
            share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
            over = (share > threshold) & (labels[one] == labels[other])
            parts.append(np.stack([self.order[one[over]], self.order[other[over]]], axis=1))
        found = np.sort(np.concatenate(parts), axis=1)
        rising: Integers = found[np.lexsort([found[:, 1], found[:, 0]])]
        return rising

    def _meetings(self) -> Iterator[tuple[Integers, Integers]]:
        """Places in `order` of the boxes that meet, the earlier ones and the later ones."""
        ends = np.cumsum(self.met)
        start, done = 0, 0
        while done < self.meetings:
            stop = max(int(np.searchsorted(ends, done + _AT_ONCE, side="right")), start + 1)
            met = self.met[start:stop]
            first = np.repeat(np.arange(start, stop), met)
            before = ends[start:stop] - met - done  # meetings of this part before each box's own
            second = first + 1 + np.arange(len(first)) - np.repeat(before, met)
            yield first, second
            start, done = stop, int(ends[stop - 1])
