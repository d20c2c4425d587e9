"""What is stitched strip by strip has to be what one merging of everything gives: promise 1."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_retina.detection.seams import SeamAudit
from geo_retina.detection.stitch import SUSPECT_IOS, Stitcher, StitchState
from geo_retina.space import boxes as box_arrays
from geo_retina.space import nms as nms_module
from geo_retina.space.boxes import Overlap
from geo_retina.space.detections import Detections
from geo_retina.space.links import pairs_within
from geo_retina.space.merging import METHODS, AcrossClasses, GreedyNms, Merging, build_merging
from geo_retina.space.windows import Window, WindowPlan

Found = list[tuple[Window, Detections]]

MERGINGS: list[Merging] = [
    *(build_merging(name, threshold=0.3, score=0.001) for name in METHODS),
    AcrossClasses(GreedyNms(threshold=0.5)),
]


@st.composite
def jobs(draw: st.DrawFn) -> tuple[WindowPlan, list[Found]]:
    """A plan of few windows, and for each strip what its windows found.

    Coordinates lie on half pixels and scores are few, so that boxes touch, tie, equal each other,
    chain through many strips, and overlap by exactly the threshold. Windows much taller than the
    stride make boxes that reach through several strips.
    """
    chip = draw(st.integers(4, 12))
    plan = WindowPlan(
        width=draw(st.integers(4, 24)),
        height=draw(st.integers(4, 40)),
        chip_px=chip,
        overlap_px=draw(st.integers(0, chip - 1)),
    )
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.integers(0, 12))
    levels = draw(st.sampled_from([2, 5, 1000]))
    classes = draw(st.integers(1, 2))
    strips = []
    for strip in plan.strips():
        found = []
        for position, window in enumerate(strip.windows):
            count = int(generator.integers(0, most + 1))
            size = np.array([window.width, window.height])
            low = generator.integers(0, 2 * size, (count, 2)) / 2
            high = np.minimum(low + generator.integers(0, 2 * size, (count, 2)) / 2, size)
            detections = Detections.of(
                np.hstack([low, high]),
                generator.integers(1, levels + 1, count) / levels,
                generator.integers(0, classes, count),
                strip.first_window_id + position,
            )
            found.append((window, detections.shift(x=window.col_off, y=window.row_off)))
        strips.append(found)
    return plan, strips


def rows_of(detections: Detections) -> list[list[float]]:
    """One row a detection, without the order."""
    columns = [
        detections.boxes,
        detections.scores,
        detections.class_ids,
        detections.window_ids,
    ]
    return sorted(np.column_stack(columns).tolist())


def candidates_of(plan: WindowPlan, strips: list[Found], margin_px: float) -> Detections:
    """All detections but those set aside as cut."""
    parts = [
        found.select(
            ~plan.cut_and_seen_whole_by_neighbour(found.boxes, window, margin_px=margin_px)
        )
        for strip in strips
        for window, found in strip
    ]
    return Detections.concat(parts)


def global_nms(found: Detections, merging: GreedyNms) -> list[list[float]]:
    """Greedy NMS over everything, written to be seen right."""
    ranked = sorted(
        zip(
            (-found.scores).tolist(),
            found.boxes.tolist(),
            found.class_ids.tolist(),
            found.window_ids.tolist(),
            strict=True,
        )
    )
    kept: list[tuple[float, list[float], int, int]] = []
    for candidate in ranked:
        rivals = np.array([other[1] for other in kept if other[2] == candidate[2]]).reshape(-1, 4)
        over = box_arrays.MEASURES[merging.overlap](np.array([candidate[1]]), rivals)
        if not (over > merging.threshold).any():
            kept.append(candidate)
    return sorted([*box, -score, class_id, window] for score, box, class_id, window in kept)


def stitched(stitcher: Stitcher, strips: list[Found]) -> list[Detections]:
    return [stitcher.add_strip(index, found) for index, found in enumerate(strips)]


@settings(max_examples=150, deadline=None)
@given(jobs(), st.sampled_from([0.2, 0.5, 0.8]), st.sampled_from(["nms", "nms-ios"]))
def test_strip_by_strip_equals_one_nms_over_everything(
    job: tuple[WindowPlan, list[Found]], threshold: float, method: str
) -> None:
    plan, strips = job
    merging = build_merging(method, threshold=threshold, score=0.001)
    assert isinstance(merging, GreedyNms)
    stitcher = Stitcher(plan, merging=merging, margin_px=1)
    result = Detections.concat(stitched(stitcher, strips))
    assert rows_of(result) == global_nms(candidates_of(plan, strips, 1), merging)
    assert len(stitcher.carried) == 0


@settings(max_examples=60, deadline=None)
@given(jobs(), st.data())
@pytest.mark.parametrize("merging", MERGINGS, ids=str)
def test_order_of_windows_and_grouping_of_strips_do_not_matter(
    merging: Merging, job: tuple[WindowPlan, list[Found]], data: st.DataObject
) -> None:
    plan, strips = job
    stitcher = Stitcher(plan, merging=merging, margin_px=1)
    ends = sorted(data.draw(st.sets(st.integers(1, len(strips) - 1)))) if len(strips) > 1 else []
    parts = []
    for start, end in pairwise([0, *ends, len(strips)]):
        windows = [pair for strip in strips[start:end] for pair in strip]
        order = data.draw(st.permutations(range(len(windows))))
        parts.append(stitcher.add_strip(end - 1, [windows[i] for i in order]))
    whole = merging.settle(candidates_of(plan, strips, 1)).final
    assert rows_of(Detections.concat(parts)) == rows_of(whole)


@settings(max_examples=60, deadline=None)
@given(jobs(), st.integers(0, 10))
@pytest.mark.parametrize("merging", MERGINGS, ids=str)
def test_a_resumed_run_gives_the_same_sequence_and_audit(
    merging: Merging, job: tuple[WindowPlan, list[Found]], stop: int
) -> None:
    plan, strips = job
    unbroken = Stitcher(plan, merging=merging, margin_px=1)
    expected = stitched(unbroken, strips)

    broken = Stitcher(plan, merging=merging, margin_px=1)
    results = stitched(broken, strips[: stop % (len(strips) + 1)])
    notes = json.loads(json.dumps(broken.state.notes(since=SeamAudit.empty(plan))))
    audit = SeamAudit.of_changes(plan, [notes["audit"]])
    state = StitchState.restore(broken.carried, notes, audit)
    resumed = Stitcher(plan, merging=merging, margin_px=1, state=state)
    results += [
        resumed.add_strip(index, strips[index]) for index in range(state.next_strip, len(strips))
    ]
    for one, other in zip(results, expected, strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.scores, other.scores)
        assert np.array_equal(one.window_ids, other.window_ids)
    assert resumed.audit.to_dict() == unbroken.audit.to_dict()


@settings(max_examples=30, deadline=None)
@given(jobs())
def test_the_compiled_way_stitches_the_same(job: tuple[WindowPlan, list[Found]]) -> None:
    plan, strips = job
    merging = GreedyNms(threshold=0.4)
    expected = stitched(Stitcher(plan, merging=merging), strips)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_module, "_FEW", 0)
        patch.setattr(nms_module, "_MOST_MEETINGS", -1)
        results = stitched(Stitcher(plan, merging=merging), strips)
    assert [rows_of(one) for one in results] == [rows_of(one) for one in expected]


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_what_comes_out_is_sorted_from_the_top_and_out_of_reach(
    job: tuple[WindowPlan, list[Found]],
) -> None:
    plan, strips = job
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.4))
    rows = [*plan.row_offs[1:], np.inf]
    for result, unread_from in zip(stitched(stitcher, strips), rows, strict=True):
        assert (result.boxes[:, 3] <= unread_from).all()
        keys = result.boxes[:, [1, 0]].tolist()
        assert keys == sorted(keys)


def long_job(strips: int, per_window: int) -> tuple[WindowPlan, list[Found]]:
    """A tall raster of two columns of windows full of objects that all windows see."""
    plan = WindowPlan(width=180, height=100 * strips, chip_px=100, overlap_px=20)
    generator = np.random.default_rng(0)
    low = generator.uniform([0, 0], [170, plan.height - 10], (per_window * strips, 2))
    objects = np.hstack([low, low + generator.uniform(4, 10, low.shape)])
    found = []
    for strip in plan.strips():
        row = []
        for position, window in enumerate(strip.windows):
            box = np.array(window.box, dtype=float)
            low, high = np.maximum(objects[:, :2], box[:2]), np.minimum(objects[:, 2:], box[2:])
            seen = (high - low > 1).all(axis=1)
            boxes = np.hstack([low[seen], high[seen]])
            scores = generator.uniform(0.3, 1, len(boxes))
            window_id = strip.first_window_id + position
            row.append((window, Detections.of(boxes, scores, np.zeros(len(boxes)), window_id)))
        found.append(row)
    return plan, found


@pytest.mark.parametrize("merging", MERGINGS, ids=str)
def test_what_is_carried_does_not_grow_with_the_raster(merging: Merging) -> None:
    plan, strips = long_job(strips=60, per_window=40)
    stitcher = Stitcher(plan, merging=merging)
    carried, watched = [], []
    for index, found in enumerate(strips):
        stitcher.add_strip(index, found)
        carried.append(len(stitcher.carried))
        watched.append(len(stitcher.state.watched))
    in_a_strip = max(sum(len(found) for _, found in strip) for strip in strips)
    assert max(carried) < in_a_strip
    assert np.mean(carried[40:-1]) < 1.5 * np.mean(carried[5:20])
    assert max(watched) < in_a_strip / 2
    assert carried[-1] == watched[-1] == 0


def test_objects_at_seams_come_out_once() -> None:
    plan, strips = long_job(strips=6, per_window=10)
    alone = Detections.concat(
        stitched(Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=2), strips)
    )
    overlaps = box_arrays.iou(alone.boxes, alone.boxes)
    np.fill_diagonal(overlaps, 0)
    assert overlaps.max() <= 0.5
    assert len(alone) < sum(len(found) for strip in strips for _, found in strip)


def stacked_plan() -> WindowPlan:
    """Two columns and three rows of windows: 0 1 / 2 3 / 4 5, from columns and rows 0, 8 (, 16)."""
    return WindowPlan(width=18, height=26, chip_px=10, overlap_px=2)


def give(
    stitcher: Stitcher, plan: WindowPlan, index: int, found: dict[int, list[list[float]]]
) -> Detections:
    return stitcher.add_strip(
        index,
        [
            (
                plan.window(number),
                Detections.of(
                    np.array([row[:4] for row in rows]),
                    np.array([row[4] for row in rows]),
                    np.zeros(len(rows)),
                    number,
                ),
            )
            for number, rows in found.items()
        ],
    )


def test_the_audit_counts_what_was_merged_at_which_seam() -> None:
    plan = stacked_plan()
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=0)
    give(stitcher, plan, 0, {0: [[8, 1, 10, 3, 0.9], [1, 8, 3, 10, 0.5]], 1: [[8, 1, 10, 3, 0.8]]})
    assert stitcher.audit.totals == {"merged": 1, "cut": 0, "suspected": 0}
    give(stitcher, plan, 1, {2: [[1, 8, 3, 10, 0.6], [1, 8, 3, 9.9, 0.4]]})
    assert stitcher.audit.totals == {"merged": 2, "cut": 0, "suspected": 0}
    audit = stitcher.audit.to_dict()
    assert audit["vertical"] == [{"seam": 0, "x_px": 9.0, "merged": 1, "cut": 0, "suspected": 0}]
    assert audit["horizontal"] == [{"seam": 0, "y_px": 9.0, "merged": 1, "cut": 0, "suspected": 0}]


def test_the_audit_counts_what_was_cut_on_the_side_that_cuts() -> None:
    plan = stacked_plan()
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=0.5)
    result = give(stitcher, plan, 0, {1: [[8, 1, 9, 3, 0.9]]})
    assert len(result) == 0
    give(stitcher, plan, 1, {})
    give(stitcher, plan, 2, {4: [[1, 16, 3, 17, 0.9]]})
    audit = stitcher.audit.to_dict()
    assert [(seam["seam"], seam["cut"]) for seam in audit["vertical"]] == [(0, 1)]
    assert [(seam["seam"], seam["cut"]) for seam in audit["horizontal"]] == [(1, 1)]


def test_the_audit_suspects_pieces_that_were_not_merged() -> None:
    plan = stacked_plan()
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=0)
    # A box of window 0, and a piece of it in window 2 below: IoU 0.25, IoS 1.
    first = give(stitcher, plan, 0, {0: [[1, 2, 3, 10, 0.9]]})
    assert len(first) == 0
    second = give(stitcher, plan, 1, {2: [[1, 8, 3, 10, 0.8]]})
    assert len(second) == 2
    assert stitcher.audit.to_dict()["horizontal"][0]["suspected"] == 1
    # Two boxes of one window are the detector's matter, not the seam's.
    inside = Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=0)
    give(inside, plan, 2, {0: [[1, 1, 3, 9, 0.9], [1, 7, 3, 9, 0.8]]})
    assert inside.audit.totals["suspected"] == 0


def test_a_suspected_pair_may_become_final_in_different_strips() -> None:
    plan = stacked_plan()
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.5), margin_px=0)
    # a (window 1) is final with strip 0; c (window 0), lower-ranked, waits for b, which waits for
    # the next strip; c lies in a by more than half of c.
    a, b, c = [8, 0, 10, 7.9, 0.9], [8, 6, 10, 10, 0.8], [8, 5, 10, 8.9, 0.7]
    assert len(give(stitcher, plan, 0, {1: [a], 0: [b, c]})) == 1
    assert len(stitcher.state.watched) == 1
    assert stitcher.audit.totals["suspected"] == 0
    # d takes b away, so that c is reported after all
    assert len(give(stitcher, plan, 1, {2: [[8, 8, 10, 10, 0.1], [8, 8, 10, 9.5, 0.95]]})) >= 1
    assert stitcher.audit.totals["suspected"] >= 1


def test_no_strips_left_out_change_nothing() -> None:
    plan = stacked_plan()
    merging = GreedyNms(threshold=0.5)
    found = {4: [[1.0, 18.0, 3.0, 20.0, 0.9]]}
    at_once = give(Stitcher(plan, merging=merging), plan, 2, found)
    step_by_step = Stitcher(plan, merging=merging)
    assert len(step_by_step.add_strip(0, [])) == len(step_by_step.add_strip(1, [])) == 0
    assert rows_of(give(step_by_step, plan, 2, found)) == rows_of(at_once)
    assert len(at_once) == 1


@pytest.mark.parametrize(
    ("index", "window", "box", "said"),
    [
        (3, 4, [1, 17, 2, 18], r"strip of 1 to 2, got 3"),
        (0, 0, [1, 1, 2, 2], r"strip of 1 to 2, got 0"),
        (1, 4, [1, 17, 2, 18], r"strips at rows 8 to 8"),
        (1, 2, [1, 7.5, 2, 9], r"inside .*clip them to the chip"),
        (1, 2, [1, 8.5, 12, 9], r"inside .*clip them to the chip"),
        (1, 2, [1, 8.5, np.nan, 9], r"finite coordinates"),
    ],
)
def test_what_would_break_the_promise_is_refused(
    index: int, window: int, box: list[float], said: str
) -> None:
    plan = stacked_plan()
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=0.5))
    stitcher.add_strip(0, [])
    with pytest.raises(ValueError, match=said):
        give(stitcher, plan, index, {window: [[*box, 0.5]]})
    assert stitcher.state.next_strip == 1  # nothing has changed


def test_state_survives_json_when_nothing_was_found() -> None:
    plan = stacked_plan()
    state = StitchState.start(plan)
    notes: dict[str, Any] = json.loads(json.dumps(state.notes(since=state.audit)))
    audit = SeamAudit.of_changes(plan, [notes["audit"]])
    again = StitchState.restore(state.carried, notes, audit)
    assert again.watched.boxes.shape == (0, 4)
    assert again.audit.totals == {"merged": 0, "cut": 0, "suspected": 0}


@settings(max_examples=150, deadline=None)
@given(jobs(), st.sampled_from([0.3, 0.5, 0.8]))
def test_suspected_pairs_are_those_of_the_result(job: Any, threshold: float) -> None:
    plan, strips = job
    stitcher = Stitcher(plan, merging=GreedyNms(threshold=threshold), margin_px=1)
    final = Detections.concat(stitched(stitcher, strips))
    pairs = pairs_within(
        final.boxes, threshold=SUSPECT_IOS, overlap=Overlap.IOS, class_ids=final.class_ids
    )
    windows = final.window_ids[pairs]
    assert stitcher.audit.totals["suspected"] == int((windows[:, 0] != windows[:, 1]).sum())
