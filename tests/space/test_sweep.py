"""Pairs of a sweep are those of the matrix of all overlaps, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space import sweep as sweep_module
from geo_retina.space.boxes import Overlap
from geo_retina.space.sweep import Sweep

Layout = Callable[[np.random.Generator], NDArray[np.float64]]


def spread(generator: np.random.Generator) -> NDArray[np.float64]:
    low = generator.uniform(0, 300, (400, 2))
    return np.hstack([low, low + generator.uniform(1, 40, (400, 2))])


def one_above_the_other(generator: np.random.Generator) -> NDArray[np.float64]:
    low = generator.uniform(0, [5, 900], (300, 2))
    return np.hstack([low, low + generator.uniform(1, 40, (300, 2))])


def all_on_one_spot(generator: np.random.Generator) -> NDArray[np.float64]:
    return np.array([50, 50, 90, 80]) + generator.normal(0, 3, (200, 4))


def turned_inside_out(generator: np.random.Generator) -> NDArray[np.float64]:
    return generator.integers(0, 9, (150, 4)).astype(np.float64)


@pytest.mark.parametrize("overlap", list(Overlap))
@pytest.mark.parametrize(
    "layout", [spread, one_above_the_other, all_on_one_spot, turned_inside_out]
)
@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_pairs_are_those_of_the_matrix(
    layout: Layout, overlap: Overlap, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_AT_ONCE", at_once)
    generator = np.random.default_rng(4)
    boxes = layout(generator)
    groups = generator.integers(0, 2, len(boxes))
    share = box_arrays.MEASURES[overlap](boxes, boxes)
    exact = float(share[share > 0][7])  # no rounding may move a pair across the threshold
    for threshold in (0.0, 0.3, exact, np.nextafter(exact, 0)):
        over = (share > threshold) & (groups[:, None] == groups[None, :])
        expected = np.argwhere(np.triu(over, k=1))
        found = Sweep.of(boxes).pairs(boxes, groups, threshold=threshold, overlap=overlap)
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_the_line_goes_the_way_that_meets_less(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 100, (count, 2))
    boxes = np.hstack([low, low + generator.uniform(0, 30, (count, 2))])
    meetings = [
        int(np.triu((np.maximum(low[:, None], low) < np.minimum(high[:, None], high)), k=1).sum())
        for low, high in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3]))
    ]
    assert Sweep.of(boxes).meetings == min(meetings)
