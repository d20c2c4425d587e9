import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss

from geo_retina.model import losses

CLASS_LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "balanced_cross_entropy": lambda x, y: losses.balanced_cross_entropy(x, y, alpha=0.75),
    "focal": lambda x, y: losses.focal(x, y, gamma=2),
    "focal_half": lambda x, y: losses.focal(x, y, gamma=0.5),
    "balanced_focal": lambda x, y: losses.balanced_focal(x, y, gamma=5, alpha=0.25),
    "focal_star": lambda x, y: losses.focal_star(x, y, gamma=2, beta=1),
    "quality_focal": lambda x, y: losses.quality_focal(x, y, beta=2),
    "focal_star_4": lambda x, y: losses.focal_star(x, y, gamma=4, beta=0),
}
Problem = tuple[Tensor, Tensor]
BOX_LOSSES = {"giou": losses.giou, "diou": losses.diou, "ciou": losses.ciou}


@pytest.fixture
def problem() -> Problem:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=random, dtype=torch.float64) * 4
    targets = (torch.rand(40, 3, generator=random) < 0.3).double()
    return logits, targets


def test_cross_entropy_is_minus_log_p_t(problem: Problem) -> None:
    logits, targets = problem
    p = torch.sigmoid(logits)
    p_t = torch.where(targets == 1, p, 1 - p)
    torch.testing.assert_close(losses.cross_entropy(logits, targets), -p_t.log())


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_focal_is_its_definition(problem: Problem, gamma: float) -> None:
    logits, targets = problem
    p = torch.sigmoid(logits)
    p_t = torch.where(targets == 1, p, 1 - p)
    expected = -((1 - p_t) ** gamma) * p_t.log()
    torch.testing.assert_close(losses.focal(logits, targets, gamma=gamma), expected)


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_quality_focal_is_focal_where_every_box_fits(problem: Problem, gamma: float) -> None:
    logits, targets = problem
    expected = losses.focal(logits, targets, gamma=gamma)
    torch.testing.assert_close(losses.quality_focal(logits, targets, beta=gamma), expected)


@pytest.mark.parametrize("quality", [0.1, 0.5, 0.9])
def test_quality_focal_is_least_where_the_score_is_the_quality(quality: float) -> None:
    scores = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    values = losses.quality_focal(scores.logit(), torch.full_like(scores, quality), beta=2)
    assert float(scores[values.argmin()]) == pytest.approx(quality)
    by_hand = abs(quality - 0.3) ** 2 * -(
        quality * math.log(0.3) + (1 - quality) * math.log(1 - 0.3)
    )
    assert float(values[29]) == pytest.approx(by_hand)


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_focal_and_gradient_equal_torchvision(problem: Problem, gamma: float, alpha: float) -> None:
    logits, targets = problem
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    mine = losses.balanced_focal(ours, targets, gamma=gamma, alpha=alpha)
    other = sigmoid_focal_loss(theirs, targets, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(mine, other)
    mine.sum().backward()
    other.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.999])
def test_gamma_zero_is_balanced_cross_entropy(problem: Problem, alpha: float) -> None:
    logits, targets = problem
    torch.testing.assert_close(
        losses.balanced_focal(logits, targets, gamma=0, alpha=alpha),
        losses.balanced_cross_entropy(logits, targets, alpha=alpha),
    )


def test_alpha_weighs_positives_and_its_rest_negatives() -> None:
    logits, targets = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])
    values = losses.balanced_cross_entropy(logits, targets, alpha=0.25)
    torch.testing.assert_close(values, math.log(2) * torch.tensor([[0.25], [0.75]]))


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_gradients_equal_finite_differences(problem: Problem, name: str) -> None:
    logits, targets = problem
    rule = CLASS_LOSSES[name]
    assert gradcheck(lambda x: rule(x, targets), logits.requires_grad_(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("gamma", [1, 2])
def test_focal_gradient_is_appendix_b(problem: Problem, gamma: float) -> None:
    logits, targets = problem
    x = logits.clone().requires_grad_()
    losses.focal(x, targets, gamma=gamma).sum().backward()
    y = 2 * targets - 1
    p_t = torch.sigmoid(y * logits)
    expected = y * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize(("gamma", "beta"), [(2, 1), (4, 0)])
def test_focal_star_gradient_is_appendix_b(problem: Problem, gamma: float, beta: float) -> None:
    logits, targets = problem
    x = logits.clone().requires_grad_()
    losses.focal_star(x, targets, gamma=gamma, beta=beta).sum().backward()
    y = 2 * targets - 1
    torch.testing.assert_close(x.grad, y * (torch.sigmoid(gamma * y * logits + beta) - 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_extreme_logits_stay_finite_in_every_precision(name: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-100.0], [-20], [0], [20], [100]]).repeat(2, 1).to(dtype)
    logits.requires_grad_()
    targets = torch.tensor([[0.0]] * 5 + [[1.0]] * 5)
    values = CLASS_LOSSES[name](logits, targets)
    values.sum().backward()
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(values).all()
    assert torch.isfinite(logits.grad).all()
    assert (values >= 0).all()
    assert values[0] < 1e-6  # background that is called background
    assert values[5] > 10  # an object that is called background


def test_easy_negatives_weigh_what_section_3_says() -> None:
    # "with gamma = 2, an example classified with p_t = 0.9 would have 100 x lower loss"
    logit, target = torch.tensor([[math.log(9.0)]]).double(), torch.ones(1, 1)
    ratio = losses.cross_entropy(logit, target) / losses.focal(logit, target, gamma=2)
    assert ratio.item() == pytest.approx(100)


def test_hard_negatives_keep_positives_and_three_hardest_each() -> None:
    values = torch.tensor([0.1, 5, 4, 3, 2, 1, 0.5])
    positive = torch.tensor([True, False, False, False, False, False, False])
    mask = losses.hard_negatives(values, positive, ratio=3)
    assert mask.tolist() == [True, True, True, True, False, False, False]
    none = losses.hard_negatives(values, torch.zeros(7, dtype=torch.bool), ratio=3)
    assert none.tolist() == [False, True, True, True, False, False, False]


def test_hard_negatives_need_no_negatives() -> None:
    mask = losses.hard_negatives(torch.ones(2), torch.ones(2, dtype=torch.bool), ratio=3)
    assert mask.all()


def test_online_hard_examples_are_those_of_highest_loss() -> None:
    values = torch.tensor([1.0, 3, 2])
    assert losses.online_hard_examples(values, count=2).tolist() == [False, True, True]
    assert losses.online_hard_examples(values, count=99).all()


def test_smooth_l1_is_quadratic_then_linear() -> None:
    deltas = torch.tensor([[0.05, 0, 0, 0], [1.0, 0, 0, 0]])
    values = losses.smooth_l1(deltas, torch.zeros(2, 4), beta=0.1)
    torch.testing.assert_close(values, torch.tensor([0.5 * 0.05**2 / 0.1, 1 - 0.05]))
    torch.testing.assert_close(
        losses.smooth_l1(deltas, torch.zeros(2, 4), beta=0), torch.tensor([0.05, 1.0])
    )


SIDES = st.floats(1, 50)
PLACES = st.floats(0, 100)
BOXES = st.tuples(PLACES, PLACES, SIDES, SIDES).map(
    lambda v: torch.tensor([[v[0], v[1], v[0] + v[2], v[1] + v[3]]], dtype=torch.float64)
)


@settings(deadline=None, max_examples=50)
@given(BOXES, BOXES)
def test_box_losses_are_their_definitions(one: Tensor, other: Tensor) -> None:
    iou, giou = box_iou(one, other)[0], generalized_box_iou(one, other)[0]
    low = torch.minimum(one[:, :2], other[:, :2])
    high = torch.maximum(one[:, 2:], other[:, 2:])
    gap = (one[:, :2] + one[:, 2:] - other[:, :2] - other[:, 2:]) / 2
    penalty = (gap**2).sum(1) / ((high - low) ** 2).sum(1)
    sides, wanted = one[:, 2:] - one[:, :2], other[:, 2:] - other[:, :2]
    angle = torch.atan(sides[:, 0] / sides[:, 1]) - torch.atan(wanted[:, 0] / wanted[:, 1])
    v = (2 / math.pi * angle) ** 2
    a = v / (1 - iou + v + 1e-12)
    close = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(losses.giou(one, other), 1 - giou, **close)
    torch.testing.assert_close(losses.diou(one, other), 1 - iou + penalty, **close)
    torch.testing.assert_close(losses.ciou(one, other), 1 - iou + penalty + a * v, **close)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_box_losses_of_collapsed_and_huge_boxes_stay_finite(name: str) -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [0, 0, 1e6, 1e-7], [10, 10, 20, 20]], requires_grad=True)
    objects = torch.tensor([[10.0, 10, 20, 20]]).repeat(3, 1)
    values = BOX_LOSSES[name](boxes, objects)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(boxes.grad).all()
    assert values[2].item() == pytest.approx(0, abs=1e-6)
    assert len(BOX_LOSSES[name](boxes[:0], objects[:0])) == 0


@pytest.mark.parametrize("name", ["giou", "diou"])
def test_box_gradients_equal_finite_differences(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    low = torch.rand(8, 2, generator=random, dtype=torch.float64) * 10
    boxes = torch.cat([low, low + 3 + 5 * torch.rand(8, 2, generator=random)], dim=1)
    rule = BOX_LOSSES[name]
    assert gradcheck(lambda b: rule(b, boxes.flip(0) + 0.3), boxes.clone().requires_grad_())
