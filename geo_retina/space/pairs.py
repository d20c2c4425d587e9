"""Which boxes of two sets overlap: only the pairs that do, so that memory stays near-linear."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of one box of a first set and one of a second."""

    first: NDArray[np.int64]
    """(P,) position in the first set."""
    second: NDArray[np.int64]
    """(P,) position in the second set."""

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.first)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "Pairs":
        """The pairs at a mask or at positions."""
        return Pairs(self.first[index], self.second[index])


def overlapping_pairs(first: box_arrays.Boxes, second: box_arrays.Boxes) -> Pairs:
    """Pairs of boxes that share a positive area, sorted by `first`, then `second`.

    Args:
        first: (N, 4) pixel edges.
        second: (M, 4) pixel edges in the same frame.
    """
    if not len(first) or not len(second):
        return _no_pairs()
    tree = shapely.STRtree(np.asarray(shapely.box(*second.T)))
    left, right = tree.query(shapely.box(*first.T))
    pairs = Pairs(left.astype(np.int64), right.astype(np.int64))
    pairs = pairs.select(pair_intersection(first, second, pairs) > 0)
    return pairs.select(np.lexsort((pairs.second, pairs.first)))


def near_pairs(
    first: NDArray[np.floating], second: NDArray[np.floating], *, distance: float
) -> Pairs:
    """Pairs of points no further apart than `distance`, sorted by `first`, then `second`.

    Args:
        first: (N, 2) x, y.
        second: (M, 2) x, y in the same frame.
        distance: In the unit of the points.
    """
    if not len(first) or not len(second):
        return _no_pairs()
    tree = shapely.STRtree(np.asarray(shapely.points(second)))
    left, right = tree.query(shapely.points(first), predicate="dwithin", distance=distance)
    pairs = Pairs(left.astype(np.int64), right.astype(np.int64))
    return pairs.select(np.lexsort((pairs.second, pairs.first)))


def pair_intersection(
    first: box_arrays.Boxes, second: box_arrays.Boxes, pairs: Pairs
) -> NDArray[np.float64]:
    """Shared area of each pair, (P,), in square pixels."""
    one, other = first[pairs.first], second[pairs.second]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    sides = np.clip(sides, 0, None)
    product: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return product


def pair_iou(
    first: box_arrays.Boxes, second: box_arrays.Boxes, pairs: Pairs
) -> NDArray[np.float64]:
    """Intersection over union of each pair, (P,)."""
    shared = pair_intersection(first, second, pairs)
    sizes = box_arrays.area(first)[pairs.first] + box_arrays.area(second)[pairs.second]
    return np.divide(shared, sizes - shared, out=np.zeros_like(shared), where=sizes > shared)


def _no_pairs() -> Pairs:
    return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
