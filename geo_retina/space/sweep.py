"""Pairs of overlapping boxes by a sweep along one axis: plain numpy, nothing to load or compile.

A line moves across the plane along the axis on which fewer boxes lie side by side. Two boxes can
only overlap where the second is met while the first is still under the line. The work is the number
of such meetings, which `Sweep` tells before any is looked at: for the boxes of one chip it is done
sooner than a compiled search loads.

Where many would meet, the plane is cut into strips along that axis, about twice as wide as the
boxes, and each strip is swept alone. A box lies in every strip that it reaches; a pair counts in
the one strip where the later of the two begins across: both reach it if they overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space.boxes import Overlap

Integers = NDArray[np.int64]

_AT_ONCE = 1 << 17  # meetings that are looked at together: few enough for a core's cache
_WORTH_STRIPS = 50_000  # meetings that take longer than cutting into strips
_STRIP_WIDTH = 2.0  # of a strip, in mean sides of the boxes
_MOST_STRIPS = 256  # each costs some calls of numpy


@dataclass(frozen=True, slots=True, eq=False)
class _Strips:
    """Strips of one width, beside each other, from the least to the greatest coordinate."""

    low: float
    width: float
    """In pixels; infinite where one strip is all there is."""

    @classmethod
    def of(cls, low: NDArray[np.float64], high: NDArray[np.float64]) -> Self:
        """Strips across an axis on which the boxes reach from `low` to `high`, (N,) each."""
        start, extent = float(low.min()), float(high.max() - low.min())
        return cls(start, max(_STRIP_WIDTH * float((high - low).mean()), extent / _MOST_STRIPS))

    def at(self, places: NDArray[np.float64]) -> Integers:
        """The strip in which each place lies; never falls where the places rise."""
        return np.floor((places - self.low) / self.width).astype(np.int64)


_ONE_STRIP = _Strips(0.0, np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """N boxes in the order in which the line meets them."""

    axis: int
    """The line moves along x (0) or y (1)."""
    order: Integers
    """(M,) positions of the boxes, strip by strip; a box is there once for each of its strips."""
    met: Integers
    """(M,) how many boxes are met while each one, in `order`, is under the line."""
    strips: _Strips
    """Across `axis`."""
    strip: Integers
    """(M,) the strip of each entry of `order`."""

    @classmethod
    def of(cls, boxes: NDArray[np.float64]) -> Self:
        """The sweep of (N, 4) pixel edges, along x or y, in strips or not, that takes least."""
        plain = [cls._along(axis, boxes, _ONE_STRIP) for axis in (0, 1)]
        best = min(plain, key=lambda sweep: sweep.meetings)
        if best.meetings < _WORTH_STRIPS:
            return best
        across = 1 - best.axis
        strips = _Strips.of(boxes[:, across], boxes[:, across + 2])
        return min(best, cls._along(best.axis, boxes, strips), key=lambda sweep: sweep.meetings)

    @classmethod
    def _along(cls, axis: int, boxes: NDArray[np.float64], strips: _Strips) -> Self:
        low, high = boxes[:, axis], boxes[:, axis + 2]
        if strips is _ONE_STRIP:
            order = np.argsort(low, kind="stable")
            strip = np.zeros(len(order), np.int64)
        else:
            first, last = strips.at(boxes[:, 1 - axis]), strips.at(boxes[:, 3 - axis])
            reached = np.maximum(last - first, 0) + 1
            order = np.repeat(np.arange(len(boxes)), reached)
            strip = np.arange(len(order)) - np.repeat(np.cumsum(reached) - reached - first, reached)
            sorted_ = np.lexsort([low[order], strip])
            order, strip = order[sorted_], strip[sorted_]
        bounds = np.flatnonzero(np.diff(strip, prepend=-1, append=-1)).tolist()
        met = np.zeros(len(order), np.int64)
        for start, stop in pairwise(bounds):
            part = order[start:stop]
            ends = np.searchsorted(low[part], high[part])
            met[start:stop] = np.maximum(ends - np.arange(1, len(part) + 1), 0)
        return cls(axis, order, met, strips, strip)

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
        parts = [np.zeros(0, np.int64)]
        for first, second in self._meetings():
            near = low[across][first] < high[across][second]
            near &= low[across][second] < high[across][first]
            one, other = first[near], second[near]
            if self.strips is not _ONE_STRIP:
                begin = np.maximum(low[across][one], low[across][other])
                here = self.strips.at(begin) == self.strip[one]
                one, other = one[here], other[here]
            sides = np.minimum(high[:, one], high[:, other])
            sides -= np.maximum(low[:, one], low[:, other])
            shared = np.prod(np.maximum(sides, 0), axis=0)
            whole = np.minimum(areas[one], areas[other])
            if overlap is Overlap.IOU:
                whole = areas[one] + areas[other] - shared
            share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
            over = (share > threshold) & (labels[one] == labels[other])
            ends = self.order[one[over]], self.order[other[over]]
            parts.append(np.minimum(*ends) * len(boxes) + np.maximum(*ends))
        rising = np.sort(np.concatenate(parts))  # one number a pair sorts much faster than two
        return np.stack(np.divmod(rising, max(len(boxes), 1)), axis=1)

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
