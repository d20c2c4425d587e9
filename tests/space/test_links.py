import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.space import boxes as box_arrays
from geo_retina.space import nms as nms_module
from geo_retina.space.boxes import Overlap
from geo_retina.space.links import components, pairs_within


@st.composite
def some_boxes(draw: st.DrawFn) -> NDArray[np.float64]:
    rows = draw(
        st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 5)] * 2), max_size=25)
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    table[:, 2:] += table[:, :2]
    return table


def reference_pairs(
    boxes: NDArray[np.float64], class_ids: NDArray[np.int64], threshold: float, overlap: Overlap
) -> list[list[int]]:
    over = box_arrays.MEASURES[overlap](boxes, boxes) > threshold
    same = class_ids[:, None] == class_ids[None, :]
    return np.argwhere(np.triu(over & same, k=1)).tolist()


@settings(deadline=None)  # the first call compiles
@given(some_boxes(), st.sampled_from([0, 0.3, 0.5]), st.sampled_from(Overlap))
@pytest.mark.parametrize(
    ("few", "meetings"), [(500, 0), (0, 10**9), (0, -1)], ids=["matrix", "sweep", "compiled"]
)
def test_pairs_are_all_that_overlap(
    few: int, meetings: int, boxes: NDArray[np.float64], threshold: float, overlap: Overlap
) -> None:
    class_ids = np.arange(len(boxes)) % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_module, "_FEW", few)
        patch.setattr(nms_module, "_MOST_MEETINGS", meetings)
        pairs = pairs_within(boxes, threshold=threshold, overlap=overlap, class_ids=class_ids)
    assert pairs.tolist() == reference_pairs(boxes, class_ids, threshold, overlap)


@settings(deadline=None)  # the first call compiles
@given(some_boxes(), st.sampled_from([0, 0.3, 0.5]), st.sampled_from(Overlap))
def test_components_join_what_pairs_join(
    boxes: NDArray[np.float64], threshold: float, overlap: Overlap
) -> None:
    class_ids = np.arange(len(boxes)) % 2
    labels = list(range(len(boxes)))
    for first, second in reference_pairs(boxes, class_ids, threshold, overlap):
        low, high = sorted([labels[first], labels[second]])
        labels = [low if label == high else label for label in labels]
    found = components(boxes, threshold=threshold, overlap=overlap, class_ids=class_ids)
    assert found.tolist() == labels


def test_many_pairs_outgrow_the_first_guess() -> None:
    boxes = np.tile([[0.0, 0.0, 10.0, 10.0]], (600, 1))
    assert len(pairs_within(boxes, threshold=0.5)) == 600 * 599 // 2
    assert set(components(boxes, threshold=0.5).tolist()) == {0}
