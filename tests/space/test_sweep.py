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


def in_order(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return pairs[np.lexsort([pairs[:, 1], pairs[:, 0]])]


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
@pytest.mark.parametrize("strips", [False, True])
def test_pairs_are_those_of_the_matrix(
    layout: Layout, overlap: Overlap, at_once: int, strips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_AT_ONCE", at_once)
    monkeypatch.setattr(sweep_module, "_WORTH_STRIPS", 0 if strips else 10**9)
    generator = np.random.default_rng(4)
    boxes = layout(generator)
    groups = generator.integers(0, 2, len(boxes))
    share = box_arrays.MEASURES[overlap](boxes, boxes)
    exact = float(share[share > 0][7])  # no rounding may move a pair across the threshold
    for threshold in (0.0, 0.3, exact, np.nextafter(exact, 0)):
        over = (share > threshold) & (groups[:, None] == groups[None, :])
        expected = np.argwhere(np.triu(over, k=1))
        sweep = Sweep.of(boxes, threshold=threshold, overlap=overlap)
        found = in_order(sweep.pairs(boxes, groups))
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 60),
    st.sampled_from([1.0, 1e-7, 3e5]),
    st.sampled_from([0.0, -417.3, 6.1e6]),
    st.integers(0, 2**32 - 1),
)
def test_strips_lose_no_pair(count: int, unit: float, offset: float, seed: int) -> None:
    """Boxes on a coarse lattice, whose edges fall on edges of strips and of each other."""
    generator = np.random.default_rng(seed)
    low = generator.integers(0, 40, (count, 2)).astype(np.float64)
    boxes = np.hstack([low, low + generator.integers(0, 5, (count, 2))]) * unit + offset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module, "_WORTH_STRIPS", 0)
        sweep = Sweep.of(boxes, threshold=0.0, overlap=Overlap.IOS)
    groups = np.zeros(count, np.int64)
    found = in_order(sweep.pairs(boxes, groups))
    over = box_arrays.ios(boxes, boxes) > 0
    np.testing.assert_array_equal(found, np.argwhere(np.triu(over, k=1)))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(2, 40),
    st.sampled_from([1.0, 1 / 3, 1e-7, 3e5]),
    st.sampled_from([0.0, -417.3, 6.1e6]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_no_pair_begins_too_late_for_the_line(
    count: int, unit: float, offset: float, strips: bool, seed: int
) -> None:
    """Sides along which boxes differ by just what the threshold allows."""
    generator = np.random.default_rng(seed)
    low = generator.integers(0, 12, (count, 2)).astype(np.float64)
    low[:, seed % 2] = 3  # then the overlap is that along the other axis
    sides = generator.integers(1, 11, (count, 2))
    sides[:, seed % 2] = 7
    boxes = np.hstack([low, low + sides]) * unit + offset
    share = box_arrays.iou(boxes, boxes)
    groups = np.zeros(count, np.int64)
    for exact in np.unique(share[share > 0])[:20]:
        for threshold in (exact, np.nextafter(exact, 0)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sweep_module, "_WORTH_STRIPS", 0 if strips else 10**9)
                sweep = Sweep.of(boxes, threshold=threshold, overlap=Overlap.IOU)
            expected = np.argwhere(np.triu(share > threshold, k=1))
            np.testing.assert_array_equal(in_order(sweep.pairs(boxes, groups)), expected)


def test_a_higher_threshold_is_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_WORTH_STRIPS", 10**9)
    low = np.random.default_rng(1).uniform(0, 300, (1000, 2))
    boxes = np.hstack([low, low + 25])
    meetings = [
        Sweep.of(boxes, threshold=threshold, overlap=Overlap.IOU).meetings
        for threshold in (0.0, 0.5, 0.8)
    ]
    np.testing.assert_allclose(np.divide(meetings, meetings[0]), [1, 0.5, 0.2], atol=0.15)


def test_crowded_boxes_are_swept_in_strips() -> None:
    low = np.random.default_rng(1).uniform(0, 800, (4000, 2))
    boxes = np.hstack([low, low + 25])
    sweep = Sweep.of(boxes, threshold=0.0, overlap=Overlap.IOU)
    assert len(np.unique(sweep.strip)) > 10
    assert len(np.unique(sweep.order)) == len(boxes) < len(sweep.order)
    assert sweep.meetings < 150_000  # without strips half a million


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
    assert Sweep.of(boxes, threshold=0.0, overlap=Overlap.IOU).meetings == min(meetings)


def test_boxes_turned_inside_out_far_away_hide_no_pair() -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 100, (3000, 2))
    sound = np.hstack([low, low + 10])
    far = np.stack(
        [low[:, 0], 1e5 + 3e4 * low[:, 1], np.full(3000, 200.0), np.full(3000, -5.0)], axis=1
    )
    groups = np.zeros(6000, np.int64)
    sweeps = [
        (Sweep.of(boxes, threshold=0.5, overlap=Overlap.IOU), boxes)
        for boxes in (sound, np.concatenate([sound, far]))
    ]
    alone, together = (in_order(sweep.pairs(boxes, groups)) for sweep, boxes in sweeps)
    np.testing.assert_array_equal(alone, together)


def test_one_column_of_boxes_is_swept_along_it() -> None:
    low = np.arange(50_000)[:, None] * [0.0, 2.0]
    sweep = Sweep.of(np.hstack([low, low + 10]), threshold=0.4, overlap=Overlap.IOU)
    assert sweep.axis == 1
    assert sweep.meetings < 5 * 50_000
