"""Pairs of overlapping boxes by a sweep along one axis: plain numpy, nothing to load or compile.

A line moves across the plane along x or y, and few boxes lie under it at a time. Two boxes can
only overlap where the second is met while the first is still under the line. The work is the number
of such meetings, which `Sweep` tells before any is looked at: for the boxes of one chip it is done
sooner than a compiled search loads.

Where many would meet, the plane is cut into strips along that axis, some twice as wide as a box
reaches (below), and each strip is swept alone. A box lies in every strip that it reaches; a pair
counts in the one strip where the later of the two begins across: both reach it if they overlap.

Of two boxes whose overlap is measured as IoU and exceeds a threshold t, the later one begins within
the first 1 - t of the earlier one's side, along both axes: what they share along an axis is at most
the earlier side less that distance, and what they cover is at least that side. So a box needs to
be under the line for that part of its side alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space.boxes import Overlap

Integers = NDArray[np.int64]

_AT_ONCE = 1 << 17  # meetings that are looked at together: few enough for a core's cache
_WORTH_STRIPS = 50_000  # meetings that take longer than cutting into strips
_MANY_EACH = 20  # meetings of a box that take longer than a sweep along the other axis
_STRIP_WIDTH = 2.0  # of a strip, in mean reaches of the boxes
_ROUNDING = 1e-9  # of a side, more than what sums of a few float64 lose
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
    threshold: float
    """Pairs are sought that overlap by more than this."""
    overlap: Overlap
    """How overlap is measured."""
    reach: NDArray[np.float64]
    """(N, 2) coordinates, x and y, before which a box begins that overlaps each one too much and
    does not begin earlier."""
    order: Integers
    """(M,) positions of the boxes, strip by strip; a box is there once for each of its strips."""
    met: Integers
    """(M,) how many boxes are met while each one, in `order`, is under the line."""
    strips: _Strips
    """Across `axis`."""
    strip: Integers
    """(M,) the strip of each entry of `order`."""

    @staticmethod
    def of(boxes: NDArray[np.float64], *, threshold: float, overlap: Overlap) -> "Sweep":
        """The sweep along x or y, in strips or not, that takes least.

        Args:
            boxes: (N, 4) pixel edges.
            threshold: In [0, 1].
            overlap: How overlap is measured.
        """
        reach = _reach(boxes, threshold, overlap)

        def plain(axis: int) -> Sweep:
            low, high = np.ascontiguousarray(boxes[:, axis]), np.ascontiguousarray(reach[:, axis])
            order = np.argsort(low, kind="stable")
            met = _met(low[order], high[order])
            one_strip = np.zeros(len(order), np.int64)
            return Sweep(axis, threshold, overlap, reach, order, met, _ONE_STRIP, one_strip)

        whole = plain(0)
        crowded = whole.meetings >= _WORTH_STRIPS  # then strips do more than the other axis could
        other = _in_strips(whole, boxes) if crowded else plain(1)
        best = other if other.meetings < whole.meetings else whole
        if crowded and best.meetings > _MANY_EACH * len(boxes):  # boxes in one column, it may be
            other = plain(1)
            best = other if other.meetings < best.meetings else best
        return best

    @property
    def meetings(self) -> int:
        """How many pairs have to be looked at."""
        return int(self.met.sum())

    def pairs(self, boxes: NDArray[np.float64], groups: Integers) -> Integers:
        """Pairs of one group that overlap by more than the threshold.

        The arithmetic is that of `boxes.iou` and `boxes.ios`, bit for bit.

        Args:
            boxes: The (N, 4) boxes the sweep is of.
            groups: (N,)

        Returns:
            (P, 2) positions, the smaller one first, in no order.
        """
        low, high = np.ascontiguousarray(boxes[self.order].T).reshape(2, 2, -1)  # (x and y, M)
        areas = box_arrays.area(boxes)[self.order]
        labels = groups[self.order]
        across = 1 - self.axis
        begin, end = low[across], self.reach[self.order, across]
        parts = [np.zeros((2, 0), np.int64)]
        for first, second in self._meetings():
            near = begin[first] < end[second]
            near &= begin[second] < end[first]
            one, other = first[near], second[near]
            if self.strips is not _ONE_STRIP:
                later = np.maximum(begin[one], begin[other])
                here = self.strips.at(later) == self.strip[one]
                one, other = one[here], other[here]
            shared = _shared(low[0], high[0], one, other) * _shared(low[1], high[1], one, other)
            whole = np.minimum(areas[one], areas[other])
            if self.overlap is Overlap.IOU:
                whole = areas[one] + areas[other] - shared
            share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
            over = (share > self.threshold) & (labels[one] == labels[other])
            ends = self.order[one[over]], self.order[other[over]]
            parts.append(np.stack([np.minimum(*ends), np.maximum(*ends)]))
        return np.concatenate(parts, axis=1).T

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


def _shared(
    low: NDArray[np.float64], high: NDArray[np.float64], one: Integers, other: Integers
) -> NDArray[np.float64]:
    """Length that the intervals `one` and `other` of `low` to `high` share."""
    length = np.minimum(high[one], high[other])
    length -= np.maximum(low[one], low[other])
    return np.maximum(length, 0, out=length)


def _reach(boxes: NDArray[np.float64], threshold: float, overlap: Overlap) -> NDArray[np.float64]:
    """`Sweep.reach`: no pair is lost to rounding, a few more are looked at."""
    low, high = boxes[:, :2], boxes[:, 2:]
    # a box without area overlaps nothing; turned inside out it would lie in strips that are none
    high = np.where((box_arrays.area(boxes) > 0)[:, None], high, low)
    if overlap is not Overlap.IOU:
        return high  # a small box may lie anywhere inside a large one
    slack = 4 * np.spacing(np.maximum(np.abs(low), np.abs(high)))
    reach: NDArray[np.float64] = low + (1 - threshold + _ROUNDING) * (high - low) + slack
    return np.minimum(reach, high, out=reach)


def _in_strips(sweep: Sweep, boxes: NDArray[np.float64]) -> Sweep:
    """A sweep of one strip, cut into many."""
    low, high = boxes[sweep.order].T[:2], sweep.reach[sweep.order].T
    across = 1 - sweep.axis
    strips = _Strips.of(low[across], high[across])
    first, last = strips.at(low[across]), strips.at(high[across])
    reached = np.maximum(last - first, 0) + 1
    place = np.repeat(np.arange(len(boxes)), reached)
    strip = np.arange(len(place)) - np.repeat(np.cumsum(reached) - reached - first, reached)
    by_strip = np.argsort(strip.astype(np.int16), kind="stable")  # so few bits sort fast
    place, strip = place[by_strip], strip[by_strip]
    begin, end = low[sweep.axis][place], high[sweep.axis][place]
    met = np.zeros(len(place), np.int64)
    bounds = np.flatnonzero(np.diff(strip, prepend=-1, append=-1)).tolist()
    for start, stop in pairwise(bounds):
        met[start:stop] = _met(begin[start:stop], end[start:stop])
    return replace(sweep, order=sweep.order[place], met=met, strips=strips, strip=strip)


def _met(begin: NDArray[np.float64], end: NDArray[np.float64]) -> Integers:
    """How many later ones of `begin`, which rises, lie before each of `end`."""
    met: Integers = np.maximum(np.searchsorted(begin, end) - np.arange(1, len(begin) + 1), 0)
    return met
