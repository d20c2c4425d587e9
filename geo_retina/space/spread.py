"""A few of many, spread evenly over them."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """Choose from 0 to `count - 1`, the first and the last included where there is room for both.

    Returns:
        At most `most` positions in rising order, each once; all of them where there are no more.
    """
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
    return np.unique(chosen)
