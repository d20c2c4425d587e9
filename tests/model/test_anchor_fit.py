import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.model.anchor_fit import fit_anchors
from geo_retina.model.audit import audit_anchors, chips_of
from geo_retina.model.criterion import MaxIou
from geo_retina.model.settings import NetworkSettings


def boxes_of(widths: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    random = np.random.default_rng(0)
    low = random.uniform(0, 900, (len(widths), 2))
    return np.concatenate([low, low + np.stack([widths, heights], axis=1)], axis=1)


def small_objects(count: int = 400) -> NDArray[np.float64]:
    random = np.random.default_rng(1)
    sizes = np.exp(random.normal(np.log(14), 0.35, count))
    stretch = np.exp(random.normal(0, 0.25, count))
    return boxes_of(sizes * stretch, sizes / stretch)


def test_fitted_anchors_reach_small_objects_that_the_paper_s_miss() -> None:
    boxes = small_objects()
    chips = chips_of(boxes, np.zeros(len(boxes), np.int64), chip_px=256)
    paper = NetworkSettings(num_classes=1)
    proposal = fit_anchors(boxes)
    strict = MaxIou(low_quality=False)
    before, after = (
        audit_anchors(chips, network=network, assignment=strict, chip_px=256, nms_iou=0.5)
        for network in (paper, proposal.apply(paper))
    )
    assert before.learnable.mean() < 0.3
    assert after.learnable.mean() > 0.9
    assert after.best_iou.mean() > before.best_iou.mean() + 0.2


def test_levels_follow_the_sizes_of_the_objects() -> None:
    side = np.repeat([20.0, 40.0, 80.0], 100)
    proposal = fit_anchors(boxes_of(side, side), sizes_per_level=1, ratios=1)
    assert proposal.levels == (2, 3, 4)
    np.testing.assert_allclose(proposal.anchors.sizes, [[20], [40], [80]], rtol=1e-6)
    np.testing.assert_allclose(proposal.anchors.ratios, [1], rtol=1e-6)


def test_a_few_strays_get_no_level_of_their_own() -> None:
    side = np.array([30.0] * 500 + [600.0])
    assert fit_anchors(boxes_of(side, side)).levels == (2,)
    several = np.array([30.0] * 500 + [600.0] * 10)
    assert fit_anchors(boxes_of(several, several)).levels == (2, 3, 4, 5, 6, 7)


def test_ratios_follow_the_shapes() -> None:
    short, long = np.full(50, 20.0), np.full(50, 60.0)
    boxes = boxes_of(np.concatenate([short, long]), np.concatenate([long, short]))
    np.testing.assert_allclose(fit_anchors(boxes, ratios=2).anchors.ratios, [1 / 3, 3], rtol=1e-6)


def test_objects_all_alike_still_get_distinct_anchors() -> None:
    side = np.full(20, 24.0)
    anchors = fit_anchors(boxes_of(side, side)).anchors
    assert len(set(anchors.sizes[0])) == 3
    assert anchors.sizes[0][1] == pytest.approx(24)
    assert anchors.ratios[1] == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(
    sides=arrays(
        np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(1, 2000)
    ),
    sizes=st.integers(1, 4),
    ratios=st.integers(1, 4),
)
def test_a_proposal_is_always_a_network(
    sides: NDArray[np.float64], sizes: int, ratios: int
) -> None:
    proposal = fit_anchors(boxes_of(*sides.T), sizes_per_level=sizes, ratios=ratios)
    network = proposal.apply(NetworkSettings(num_classes=3))
    assert network.anchors.per_location == sizes * ratios
    assert network.num_classes == 3
    for row in network.anchors.sizes:
        assert list(row) == sorted(row)


def test_the_toml_says_the_same() -> None:
    proposal = fit_anchors(small_objects())
    plain = tomllib.loads(proposal.toml())["network"]
    again = NetworkSettings.model_validate({"num_classes": 1} | plain)
    assert again.levels == proposal.levels
    np.testing.assert_allclose(again.anchors.sizes, proposal.anchors.sizes, atol=0.06)


@pytest.mark.parametrize(
    ("boxes", "text"),
    [(np.zeros((0, 4)), "got 0 boxes"), (np.array([[1.0, 1, 1, 5]]), "1 of them empty")],
)
def test_nothing_to_fit_is_an_error(boxes: NDArray[np.float64], text: str) -> None:
    with pytest.raises(LabelError, match=text):
        fit_anchors(boxes)
