"""NMS is compared with a reference that is written to be seen right, not to be fast."""

import subprocess
import sys
import time
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space import nms as nms_module
from geo_retina.space.boxes import Overlap
from geo_retina.space.nms import Settlement, nms, rank, settle
from geo_retina.space.sweep import Sweep

Layout = Callable[[np.random.Generator, int], NDArray[np.float64]]
Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
"""Boxes, scores, class ids and window ids."""

BOTH = pytest.mark.parametrize("overlap", list(Overlap))
WAYS = pytest.mark.parametrize(
    "limits", [(500, 0), (0, 10**9), (0, -1)], ids=["matrix", "sweep", "compiled"]
)


@pytest.fixture
def compiled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send even a few boxes the way of many: compiled, in sectors of a few boxes, in threads."""
    monkeypatch.setattr(nms_module, "_FEW", 0)
    monkeypatch.setattr(nms_module, "_MOST_MEETINGS", -1)
    monkeypatch.setattr(nms_module, "_SECTOR", 4)
    monkeypatch.setattr(nms_module, "_FEW_CROSS", 1)
    monkeypatch.setattr(nms_module, "_PER_THREAD", 8)


def reference_nms(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    class_ids: NDArray[np.int64],
    window_ids: NDArray[np.int64],
    threshold: float,
    overlap: Overlap,
) -> list[int]:
    """Sort, then keep each box that no kept one of its class overlaps by more than the threshold.

    Works on the values of `boxes.iou` and `boxes.ios`, so equality has to be exact.
    """
    keys = [
        (-score, *box, class_id, window_id)
        for score, box, class_id, window_id in zip(
            scores.tolist(), boxes.tolist(), class_ids.tolist(), window_ids.tolist(), strict=True
        )
    ]
    order = sorted(range(len(boxes)), key=keys.__getitem__)
    kept = []
    for i in order:
        rivals = [j for j in kept if class_ids[i] == class_ids[j]]
        over = box_arrays.MEASURES[overlap](boxes[[i]], boxes[rivals].reshape(-1, 4))
        if not (over > threshold).any():
            kept.append(i)
    return kept


def spread(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    corners = generator.uniform(-300, 10 * np.sqrt(count), (count, 2))
    return np.hstack([corners, corners + generator.uniform(5, 30, (count, 2))])


def heaped(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    centres = generator.uniform(0, 3000, (max(count // 50, 1), 2))
    corners = generator.choice(centres, count) + generator.normal(0, 3, (count, 2))
    return np.hstack([corners, corners + generator.uniform(15, 30, (count, 2))])


def mixed(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    corners = generator.uniform(0, 3000, (count, 2))
    return np.hstack([corners, corners + 10 ** generator.uniform(-1, 4, (count, 2))])


def on_a_lattice(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    corners = generator.integers(0, 30, (count, 2)).astype(float)
    return np.hstack([corners, corners + generator.integers(0, 6, (count, 2))])


def far_away(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    return spread(generator, count) + 2.0**40


def tiny_and_far_apart(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    corners = generator.integers(0, 30, (count, 2)) * 1e10
    return np.hstack([corners, corners + generator.uniform(1e-3, 1e6, (count, 2))])


LAYOUTS = [spread, heaped, mixed, on_a_lattice, far_away, tiny_and_far_apart]


@BOTH
@pytest.mark.parametrize("threshold", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.usefixtures("compiled_only")
def test_many_boxes_equal_the_reference(layout: Layout, threshold: float, overlap: Overlap) -> None:
    generator = np.random.default_rng(1)
    count = 700
    boxes = layout(generator, count)
    scores = generator.integers(0, 50, count) / 50  # with ties
    class_ids, window_ids = generator.integers(-1, 2, count), generator.integers(0, 4, count)
    kept = nms(
        boxes,
        scores,
        threshold=threshold,
        overlap=overlap,
        class_ids=class_ids,
        window_ids=window_ids,
    )
    expected = reference_nms(boxes, scores, class_ids, window_ids, threshold, overlap)
    assert kept.tolist() == expected


coordinates = st.integers(-20, 20).map(lambda value: value / 2)
sides = st.sampled_from([0, 0.5, 1, 2, 3, 7, 30])


@st.composite
def candidates(draw: st.DrawFn, max_size: int = 40) -> Found:
    """Boxes on half pixels with few scores, so that ties and exact thresholds occur."""
    rows = draw(
        st.lists(
            st.tuples(
                coordinates,
                coordinates,
                sides,
                sides,
                st.sampled_from([0.2, 0.5, 0.9]),
                st.integers(0, 1),
                st.integers(0, 3),
            ),
            max_size=max_size,
        )
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]])
    return boxes, table[:, 4], table[:, 5].astype(np.int64), table[:, 6].astype(np.int64)


thresholds = st.sampled_from([0, 0.2, 1 / 3, 0.5, 0.75, 1])


@settings(max_examples=200, deadline=None)
@given(candidates(), thresholds, st.sampled_from(Overlap))
def test_any_boxes_equal_the_reference(found: Found, threshold: float, overlap: Overlap) -> None:
    boxes, scores, class_ids, window_ids = found
    kept = nms(
        boxes,
        scores,
        threshold=threshold,
        overlap=overlap,
        class_ids=class_ids,
        window_ids=window_ids,
    )
    assert kept.tolist() == reference_nms(*found, threshold, overlap)


@pytest.mark.usefixtures("compiled_only")
def test_sectors_are_settled_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from geo_retina.space import _kernels

    shares: list[tuple[int, int]] = []
    settle_parts = _kernels.settle_parts

    def noted(*arguments: Any) -> None:
        shares.append(arguments[5][2:])
        settle_parts(*arguments)

    monkeypatch.setattr(_kernels, "settle_parts", noted)
    monkeypatch.setattr(nms_module, "usable_cores", lambda: 3)
    generator = np.random.default_rng(4)
    boxes, scores = spread(generator, 400), generator.random(400)
    ids = np.zeros(400, np.int64)
    kept = nms(boxes, scores, threshold=0.2).tolist()
    assert kept == reference_nms(boxes, scores, ids, ids, 0.2, Overlap.IOU)
    first_round = sorted(shares[:3])
    assert [end for _, end in first_round[:-1]] == [start for start, _ in first_round[1:]]
    assert (first_round[0][0], first_round[-1][1]) == (0, 100)


@settings(max_examples=100, deadline=None)
@given(candidates(), thresholds, st.sampled_from(Overlap), st.data())
def test_all_ways_to_settle_decide_the_same(
    found: Found, threshold: float, overlap: Overlap, data: st.DataObject
) -> None:
    boxes, scores, class_ids, _ = found
    may_change = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))), dtype=bool
    )

    def decide() -> tuple[list[int], list[int], list[int]]:
        result = settle(
            boxes,
            scores,
            threshold=threshold,
            overlap=overlap,
            class_ids=class_ids,
            may_change=may_change,
        )
        return result.kept.tolist(), result.unknown.tolist(), result.suppressed.tolist()

    ways = [decide()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_module, "_FEW", 0)
        ways.append(decide())
        patch.setattr(nms_module, "_MOST_MEETINGS", -1)
        ways.append(decide())
        patch.setattr(nms_module, "_SECTOR", 2)
        patch.setattr(nms_module, "_PER_THREAD", 4)
        ways.append(decide())
        patch.setattr(nms_module, "_FEW_CROSS", 1)
        ways.append(decide())
    assert ways[0] == ways[1] == ways[2] == ways[3] == ways[4]


@settings(max_examples=100, deadline=None)
@given(candidates(), thresholds, st.sampled_from(Overlap), st.integers(-10, 10))
def test_what_is_settled_early_stays_true(
    found: Found, threshold: float, overlap: Overlap, line: int
) -> None:
    """Boxes above a line first, then the rest with what was unknown: the same as all at once."""
    boxes, scores, class_ids, window_ids = found

    def of(which: NDArray[np.int64], may_change: NDArray[np.bool_] | None = None) -> Settlement:
        return settle(
            boxes[which],
            scores[which],
            threshold=threshold,
            overlap=overlap,
            class_ids=class_ids[which],
            window_ids=window_ids[which],
            may_change=may_change,
        )

    read = np.flatnonzero(boxes[:, 1] < line)
    early = of(read, boxes[read, 3] > line)
    rest = np.concatenate([read[early.unknown], np.flatnonzero(boxes[:, 1] >= line)])
    late = of(rest)
    kept = np.concatenate([read[early.kept], rest[late.kept]])
    expected = reference_nms(*found, threshold, overlap)
    value = np.column_stack([boxes, scores, class_ids, window_ids])
    assert sorted(value[kept].tolist()) == sorted(value[expected].tolist())


@settings(deadline=None)
@given(candidates(), thresholds, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    found: Found, threshold: float, random: Random
) -> None:
    order = np.array(random.sample(range(len(found[0])), len(found[0])), dtype=np.int64)
    value = np.column_stack(found)

    def keep(values: NDArray[np.float64]) -> list[list[float]]:
        return values[
            nms(
                values[:, :4],
                values[:, 4],
                threshold=threshold,
                class_ids=values[:, 5].astype(np.int64),
                window_ids=values[:, 6].astype(np.int64),
            )
        ].tolist()

    assert keep(value) == keep(value[order])


@BOTH
@pytest.mark.usefixtures("compiled_only")
def test_each_suppressor_is_kept_ranks_higher_and_overlaps(overlap: Overlap) -> None:
    generator = np.random.default_rng(3)
    boxes, scores = heaped(generator, 600), generator.random(600)
    result = settle(boxes, scores, threshold=0.4, overlap=overlap)
    assert len(result.suppressed) > 100
    assert set(result.suppressors.tolist()) <= set(result.kept.tolist())
    assert (scores[result.suppressors] > scores[result.suppressed]).all()
    over = box_arrays.MEASURES[overlap](boxes, boxes)
    assert (over[result.suppressed, result.suppressors] > 0.4).all()


def test_classes_suppress_only_their_own() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11]], dtype=float)
    scores, class_ids = np.array([0.9, 0.8, 0.7]), np.array([0, 5_000_000, 0])
    assert nms(boxes, scores, threshold=0.5, class_ids=class_ids).tolist() == [0, 1]
    assert nms(boxes, scores, threshold=0.5).tolist() == [0]


def test_ios_suppresses_a_box_inside_a_larger_one_where_iou_does_not() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 20, 20]], dtype=float)
    scores = np.array([0.5, 0.9])
    assert nms(boxes, scores, threshold=0.5).tolist() == [1, 0]
    assert nms(boxes, scores, threshold=0.5, overlap=Overlap.IOS).tolist() == [1]


@WAYS
def test_boxes_without_area_stay(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in zip(("_FEW", "_MOST_MEETINGS"), limits, strict=True):
        monkeypatch.setattr(nms_module, name, limit)
    boxes = np.array([[1, 1, 1, 5], [1, 1, 1, 5], [5, 5, 2, 9], [0, 0, 9, 9]], dtype=float)
    for overlap in Overlap:
        kept = nms(boxes, np.array([0.9, 0.9, 0.8, 0.7]), threshold=0, overlap=overlap)
        assert sorted(kept.tolist()) == [0, 1, 2, 3]


@WAYS
def test_no_boxes_and_one_box(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in zip(("_FEW", "_MOST_MEETINGS"), limits, strict=True):
        monkeypatch.setattr(nms_module, name, limit)
    assert nms(np.zeros((0, 4)), np.zeros(0), threshold=0.5).tolist() == []
    assert nms(np.array([[0.0, 0.0, 1.0, 1.0]]), np.ones(1), threshold=0.5).tolist() == [0]


@pytest.mark.usefixtures("compiled_only")
def test_float32_boxes_give_what_their_float64_values_give() -> None:
    generator = np.random.default_rng(5)
    boxes, scores = heaped(generator, 600).astype(np.float32), generator.random(600)
    single = nms(boxes, scores.astype(np.float32), threshold=0.5)
    double = nms(boxes.astype(np.float64), scores.astype(np.float32), threshold=0.5)
    assert np.array_equal(single, double)


def test_rank_breaks_ties_by_coordinates_class_and_window() -> None:
    boxes = np.zeros((6, 4))
    boxes[1, 0], boxes[2, 3] = 1, 1
    scores = np.array([0.5, 0.5, 0.5, 0.9, 0.5, 0.5])
    class_ids, window_ids = np.array([1, 0, 0, 0, 1, 0]), np.array([3, 0, 0, 0, 2, 9])
    order = rank(boxes, scores, class_ids=class_ids, window_ids=window_ids)
    assert order.tolist() == [3, 5, 4, 0, 2, 1]


@settings(deadline=None)
@given(candidates())
def test_rank_is_a_stable_sort_of_the_keys(found: Found) -> None:
    boxes, scores, class_ids, window_ids = found
    keys = np.column_stack([-scores, boxes, class_ids, window_ids]).tolist()
    expected = sorted(range(len(keys)), key=keys.__getitem__)
    order = rank(boxes, scores, class_ids=class_ids, window_ids=window_ids)
    assert order.tolist() == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boxes": np.array([[0, 0, np.nan, 1.0]])}, "finite coordinates"),
        ({"boxes": np.array([[0, 0, np.inf, 1.0]])}, "finite coordinates"),
        ({"boxes": np.zeros((1, 5))}, r"shape \(N, 4\)"),
        ({"scores": np.array([np.nan])}, "NaN"),
        ({"scores": np.zeros(2)}, "one score for each of 1"),
        ({"class_ids": np.zeros(3, np.int64)}, "one class id for each of 1"),
        ({"threshold": -0.1}, r"threshold in \[0, 1\]"),
        ({"threshold": np.nan}, r"threshold in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused_with_what_came(change: dict[str, Any], said: str) -> None:
    arguments = {"boxes": np.zeros((1, 4)), "scores": np.ones(1), "threshold": 0.5, **change}
    with pytest.raises(ValueError, match=said):
        nms(**arguments)


def test_what_numba_would_save_pays_for_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = spread(np.random.default_rng(2), 1000)
    sweep = Sweep.of(boxes, threshold=0.4, overlap=Overlap.IOU)
    monkeypatch.delitem(sys.modules, "geo_retina.space._kernels", raising=False)
    monkeypatch.setattr(nms_module, "_PATIENCE", 3 * sweep.meetings)
    patience = nms_module._Patience()
    swept = [patience.sweep(boxes, 0.4, Overlap.IOU) is not None for _ in range(5)]
    assert swept == [True, True, True, False, False]
    monkeypatch.setitem(sys.modules, "geo_retina.space._kernels", ModuleType("kernels"))
    fresh = nms_module._Patience()
    assert fresh.sweep(boxes, 0.4, Overlap.IOU) is None, "compiled code is at hand"
    assert fresh.sweep(boxes[:50], 0.4, Overlap.IOU) is not None


@settings(deadline=None)
@given(candidates(), st.floats(0, 1), st.sampled_from([0, 1, 2, 32]))
def test_rounds_settle_what_compiled_code_does(found: Found, threshold: float, rounds: int) -> None:
    boxes, scores, class_ids, window_ids = found
    open_ = boxes[:, 0] > (np.median(boxes[:, 0]) if len(boxes) else 0)
    results = []
    for few, meetings in ((10**6, 0), (0, -1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nms_module, "_FEW", few)
            patch.setattr(nms_module, "_MOST_MEETINGS", meetings)
            patch.setattr(nms_module, "_MOST_ROUNDS", rounds)
            results.append(
                settle(
                    boxes,
                    scores,
                    threshold=threshold,
                    class_ids=class_ids,
                    window_ids=window_ids,
                    may_change=open_,
                )
            )
    for name in ("kept", "unknown", "suppressed"):
        one, other = (getattr(result, name) for result in results)
        np.testing.assert_array_equal(one, other, err_msg=name)
    over = box_arrays.iou(boxes, boxes) > threshold
    place = np.argsort(rank(boxes, scores, class_ids=class_ids, window_ids=window_ids))
    for result in results:  # of several that suppress a box either may be told
        by, lost = result.suppressors, result.suppressed
        assert over[by, lost].all()
        assert (place[by] < place[lost]).all()
        assert (class_ids[by] == class_ids[lost]).all()
        assert np.isin(by, result.kept).all()


def test_a_long_chain_is_settled_without_as_many_rounds() -> None:
    low = np.arange(40_000) * 4.0
    boxes = np.stack([low, low * 0, low + 10, low * 0 + 10], axis=1)
    start = time.process_time()
    kept = nms(boxes, np.linspace(1, 0, len(boxes)), threshold=0.4)
    assert time.process_time() - start < 5
    assert kept.tolist() == list(range(0, len(boxes), 2))


def test_very_many_boxes_are_not_even_sorted_for_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = spread(np.random.default_rng(2), 1000)
    assert nms_module.little_sweep(boxes, 0.4, Overlap.IOU) is not None
    monkeypatch.setattr(nms_module, "_MANY", 999)
    assert nms_module.little_sweep(boxes, 0.4, Overlap.IOU) is None


def test_a_few_boxes_need_no_compiler() -> None:
    code = (
        "import sys, numpy as np; from geo_retina.space.nms import nms; "
        "nms(np.zeros((100, 4)), np.zeros(100), threshold=0.5); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@BOTH
@pytest.mark.parametrize("sector", [0.1, 8192])
def test_a_pair_is_found_however_it_lies(
    overlap: Overlap, sector: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the overlap decides: neither where the pair lies nor how sizes and sectors fall.

    The threshold is the overlap itself, and then the next number below it.
    """
    monkeypatch.setattr(nms_module, "_FEW", 0)
    monkeypatch.setattr(nms_module, "_MOST_MEETINGS", -1)
    monkeypatch.setattr(nms_module, "_SECTOR", sector)
    generator = np.random.default_rng(7)
    met = 0
    for _ in range(3000):
        first = np.concatenate([[0, 0], 2 ** generator.uniform(-3, 3, 2)])
        side = first[2:] * 2 ** generator.choice([0, *generator.uniform(-3, 3, 2)], 2)
        any_way = generator.uniform(-side, first[2:])
        barely = first[2:] * generator.uniform(0.9, 1, 2)
        flush = np.maximum(first[2:] - side, 0)  # inside, at the far end: the most it can be away
        low = np.choose(generator.integers(0, 3, 2), [any_way, barely, flush])
        pair = np.array([first, [*low, *(low + side)]]) + generator.uniform(-50, 50)
        frame = generator.uniform(-100, 100, (generator.integers(0, 3), 2))
        boxes = np.concatenate([pair, np.hstack([frame, frame])])
        exact = float(box_arrays.MEASURES[overlap](pair[:1], pair[1:])[0, 0])
        scores = np.array([0.9, 0.8, 0.1, 0.1])[: len(boxes)]
        if exact == 0:
            continue
        met += 1
        assert 1 in nms(boxes, scores, threshold=exact, overlap=overlap)
        assert 1 not in nms(boxes, scores, threshold=np.nextafter(exact, 0), overlap=overlap)
    assert met > 1000


def test_kernels_compile_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from geo_retina.space import _kernels

    compile_ = numba.njit

    def refuse_cache(*, nogil: bool, cache: bool = False) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(nogil=nogil)

    monkeypatch.setattr(numba, "njit", refuse_cache)

    def twice(value: int) -> int:
        return 2 * value

    assert _kernels.compiled(twice)(21) == 42


@pytest.mark.usefixtures("compiled_only")
@pytest.mark.parametrize(("side", "extent"), [(1e-6, 1e5), (1e-3, 1e9), (10.0, 2.0**52)])
def test_boxes_that_are_tiny_beside_the_extent_find_each_other(side: float, extent: float) -> None:
    low = np.array([[0, 0], [0, 0], [extent, extent], [extent, extent], [5, 5]], dtype=float)
    boxes = np.hstack([low, low + side])
    kept = nms(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), threshold=0.5)
    over = box_arrays.iou(boxes, boxes) > 0.5
    assert over[0, 1]
    assert 1 not in kept
    assert (3 in kept) == (not over[2, 3])
    assert 4 in kept
