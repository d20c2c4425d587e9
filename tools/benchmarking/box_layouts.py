"""Boxes to measure NMS on."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def spread(generator: np.random.Generator, count: int) -> Array:
    """Boxes of 10 to 40 px, one on each 32 x 32 px on average."""
    low = generator.uniform(0, 32 * np.sqrt(count), (count, 2))
    return np.hstack([low, low + generator.uniform(10, 40, (count, 2))])


def heaped(generator: np.random.Generator, count: int) -> Array:
    """Heaps of about 1,000 boxes of 20 to 40 px around one place."""
    places = generator.uniform(0, 32 * np.sqrt(count), (max(count // 1000, 1), 2))
    low = generator.choice(places, count) + generator.normal(0, 4, (count, 2))
    return np.hstack([low, low + generator.uniform(20, 40, (count, 2))])


def mixed(generator: np.random.Generator, count: int) -> Array:
    """Squares of 1 to 10,000 px, as many of each order of magnitude."""
    low = generator.uniform(0, 100 * np.sqrt(count), (count, 2))
    return np.hstack([low, low + 10 ** generator.uniform(0, 4, (count, 1))])


LAYOUTS = {"spread": spread, "heaped": heaped, "mixed": mixed}
