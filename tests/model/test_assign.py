from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from geo_retina.model import assign
from geo_retina.model.anchors import chip_anchors
from geo_retina.model.settings import AnchorSettings, octave_sizes


def anchors_of(
    levels: tuple[int, ...] = (3, 4, 5),
    *,
    height: int = 64,
    width: int = 96,
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
) -> list[Tensor]:
    settings = AnchorSettings(sizes=octave_sizes(levels, per_octave=2), ratios=ratios)
    return chip_anchors(
        settings, levels=levels, height=height, width=width, device=torch.device("cpu")
    )


def random_objects(count: int, seed: int = 0, *, size: float = 96.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=random) * size
    sides = 4 + 40 * torch.rand(count, 2, generator=random)
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=1)


@st.composite
def object_sets(draw: st.DrawFn) -> Tensor:
    whole = st.integers(0, 12).map(lambda v: v * 8.0)  # on the grid, so that ties are common
    boxes = [
        (x, y, x + draw(whole) + 8, y + draw(whole) + 8)
        for x, y in draw(st.lists(st.tuples(whole, whole), min_size=1, max_size=12))
    ]
    return torch.tensor(boxes)


@settings(deadline=None, max_examples=40)
@given(
    objects=object_sets(),
    low_quality=st.booleans(),
    pairs=st.sampled_from([600, 5000, 1_000_000]),
)
def test_max_iou_equals_torchvision_whatever_the_chunk(
    *, objects: Tensor, low_quality: bool, pairs: int
) -> None:
    anchors = anchors_of()
    overlap = box_iou(objects, torch.cat(anchors))
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=low_quality)(overlap)
    before = assign.PAIRS_AT_ONCE
    assign.PAIRS_AT_ONCE = pairs
    try:
        found = assign.max_similarity(anchors, objects, low_quality=low_quality)
    finally:
        assign.PAIRS_AT_ONCE = before
    touched = (overlap.amax(dim=1) > 0).all()
    if touched or not low_quality:  # torchvision gives an object off the chip every anchor
        assert torch.equal(found, expected)


@settings(deadline=None, max_examples=40)
@given(objects=object_sets(), pairs=st.sampled_from([1, 1_000_000]))
def test_best_iou_is_that_with_every_anchor(objects: Tensor, pairs: int) -> None:
    before = assign.PAIRS_AT_ONCE
    assign.PAIRS_AT_ONCE = pairs
    try:
        for moved in (objects, objects - 70.3, random_objects(30, seed=int(objects.sum()))):
            for anchors in (anchors_of(), anchors_of((4,), height=33, ratios=(1.0,))):
                expected = box_iou(moved, torch.cat(anchors)).amax(dim=1)
                torch.testing.assert_close(assign.best_iou(moved, anchors), expected)
    finally:
        assign.PAIRS_AT_ONCE = before
    assert len(assign.best_iou(objects[:0], anchors_of())) == 0


def test_an_object_off_the_chip_gets_no_anchor() -> None:
    far = torch.tensor([[5000.0, 5000, 5010, 5010]])
    assert (assign.max_similarity(anchors_of(), far) == assign.BACKGROUND).all()


def test_an_object_between_the_anchors_gets_none() -> None:
    anchors = [torch.tensor([[0.0, 0, 10, 10], [50.0, 0, 60, 10]])]
    between = torch.tensor([[20.0, 0, 30, 10]])
    assert (assign.max_similarity(anchors, between) == assign.BACKGROUND).all()


def test_thresholds_split_positive_ignored_and_background() -> None:
    anchors = [torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 22], [0, 0, 10, 50]])]
    objects = torch.tensor([[0.0, 0, 10, 10]])
    found = assign.max_similarity(anchors, objects, low_quality=False)
    assert found.tolist() == [0, assign.IGNORED, assign.BACKGROUND]


def test_low_quality_gives_every_object_on_the_chip_an_anchor() -> None:
    tiny = torch.tensor([[10.0, 10, 12, 12], [50.0, 40, 53, 42]])
    assert set(assign.max_similarity(anchors_of(), tiny).tolist()) >= {0, 1}
    assert not set(assign.max_similarity(anchors_of(), tiny, low_quality=False).tolist()) & {0, 1}


@pytest.mark.parametrize("rule", [assign.max_similarity, assign.adaptive])
def test_without_objects_all_is_background(rule: Callable[..., Tensor]) -> None:
    anchors = anchors_of()
    found = rule(anchors, torch.zeros(0, 4))
    assert found.dtype == torch.int64
    assert (found == assign.BACKGROUND).all()
    assert len(found) == sum(len(level) for level in anchors)


def adaptive_by_the_book(anchors: Sequence[Tensor], objects: Tensor, nearest: int) -> Tensor:
    """Algorithm 1 of the paper in loops."""
    every = torch.cat(anchors)
    centres = (every[:, :2] + every[:, 2:]) / 2
    overlap = box_iou(objects, every)
    owner = [assign.BACKGROUND] * len(every)
    best = [0.0] * len(every)
    for number, box in enumerate(objects):
        candidates = []
        start = 0
        for level in anchors:
            middle = (box[:2] + box[2:]) / 2
            gap = ((centres[start : start + len(level)] - middle) ** 2).sum(dim=1)
            candidates += (
                gap.topk(min(nearest, len(level)), largest=False).indices + start
            ).tolist()
            start += len(level)
        threshold = overlap[number, candidates].mean() + overlap[number, candidates].std()
        for anchor in candidates:
            x, y = centres[anchor].tolist()
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            value = overlap[number, anchor].item()
            if value >= threshold and inside and value > best[anchor]:
                owner[anchor], best[anchor] = number, value
    return torch.tensor(owner)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pairs", [5000, 1_000_000])
def test_adaptive_equals_the_algorithm_in_loops_whatever_the_chunk(
    seed: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assign, "PAIRS_AT_ONCE", pairs)
    settings = AnchorSettings(sizes=((16,), (32,), (64,)), ratios=(1.0,))
    anchors = chip_anchors(
        settings, levels=(2, 3, 4), height=96, width=96, device=torch.device("cpu")
    )
    objects = random_objects(25, seed)
    expected = adaptive_by_the_book(anchors, objects, 9)
    assert torch.equal(assign.adaptive(anchors, objects, nearest=9), expected)
    assert (expected >= 0).any()


def test_adaptive_looks_at_positions_not_at_shapes() -> None:
    single, several = anchors_of(ratios=(1.0,)), anchors_of(ratios=(0.5, 1.0, 2.0))
    objects = torch.tensor([[20.0, 20, 60, 60]])
    owned = torch.cat(several)[assign.adaptive(several, objects) == 0]
    places = {tuple(centre) for centre in ((owned[:, :2] + owned[:, 2:]) / 2).tolist()}
    assert len(places) > 1  # 9 nearest anchors would all lie at 1 or 2 of these positions
    assert (assign.adaptive(single, objects) == 0).any()


def test_adaptive_with_one_candidate_is_no_nan() -> None:
    anchors = [torch.tensor([[0.0, 0, 32, 32]])]
    assert assign.adaptive(anchors, torch.tensor([[0.0, 0, 30, 30]])).tolist() == [0]


def test_adaptive_gives_a_contested_anchor_to_the_first_of_equals() -> None:
    anchors = anchors_of()
    twins = torch.tensor([[16.0, 16, 48, 48]]).repeat(2, 1)
    found = assign.adaptive(anchors, twins)
    assert set(found.tolist()) == {assign.BACKGROUND, 0}


def test_wasserstein_is_its_formula() -> None:
    objects = torch.tensor([[0.0, 0, 4, 8], [10.0, 10, 14, 14]])
    anchors = torch.tensor([[0.0, 0, 4, 8], [3.0, 4, 7, 12], [0.0, 0, 8, 8]])
    found = assign.Wasserstein(12.8).likeness(objects, anchors)
    assert found[0, 0] == 1
    assert found[0, 1].item() == pytest.approx(torch.exp(torch.tensor(-5 / 12.8)).item())
    assert found[0, 2].item() == pytest.approx(torch.exp(torch.tensor(-(8**0.5) / 12.8)).item())
    assert found.shape == (2, 3)


def test_wasserstein_finds_anchors_for_tiny_objects_that_iou_leaves_out() -> None:
    anchors = anchors_of((2, 3))
    tiny = torch.tensor([[9.0, 9, 13, 13]])
    by_iou = assign.max_similarity(anchors, tiny, low_quality=False)
    by_distance = assign.max_similarity(
        anchors, tiny, positive=0.5, low_quality=False, similarity=assign.Wasserstein(12.8)
    )
    assert not (by_iou >= 0).any()
    assert (by_distance >= 0).any()


@pytest.mark.parametrize("similarity", [assign.Overlap(), assign.Wasserstein(12.8)])
def test_thousands_of_objects_never_meet_all_anchors_at_once(
    monkeypatch: pytest.MonkeyPatch, similarity: assign.Similarity
) -> None:
    largest = []
    likeness = type(similarity).likeness

    def spy(self: assign.Similarity, objects: Tensor, anchors: Tensor) -> Tensor:
        largest.append(len(objects) * len(anchors))
        return likeness(self, objects, anchors)

    monkeypatch.setattr(type(similarity), "likeness", spy)
    anchors = anchors_of((2,), height=64, width=256, ratios=(1.0,))
    objects = random_objects(3000, size=256)
    assign.max_similarity(anchors, objects, similarity=similarity)
    assert 0 < max(largest) <= assign.PAIRS_AT_ONCE < len(objects) * len(anchors[0])


def test_float64_labels_are_taken() -> None:
    objects = random_objects(5)
    for rule in (assign.max_similarity, assign.adaptive):
        assert torch.equal(rule(anchors_of(), objects.double()), rule(anchors_of(), objects))
