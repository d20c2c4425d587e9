import pytest
import torch
from torch import nn

from geo_retina.model.heads import Heads, prior_bias
from geo_retina.model.settings import HeadSettings


def test_outputs_run_by_level_row_column_and_shape() -> None:
    heads = Heads(4, 2, 3, HeadSettings(depth=0))
    with torch.no_grad():
        heads.boxes.last.weight.zero_()
        heads.boxes.last.weight[:, 0, 1, 1] = torch.arange(1.0, 9)  # (2 shapes x 4 values)
        heads.boxes.last.bias.zero_()
    fine, coarse = torch.zeros(1, 4, 2, 3), torch.zeros(1, 4, 1, 1)
    fine[0, 0] = torch.arange(6.0).view(2, 3)
    coarse[0, 0] = 100
    found = heads([fine, coarse])
    assert found.anchors_per_level == (12, 2)
    assert found.logits.shape == (1, 14, 3)
    expected = [
        [place * value for value in shape]
        for place in (0, 1, 2, 3, 4, 5, 100)
        for shape in ((1, 2, 3, 4), (5, 6, 7, 8))
    ]
    assert found.deltas[0].tolist() == expected


def test_a_level_of_one_position_may_have_one_channel_a_group() -> None:
    heads = Heads(4, 1, 1, HeadSettings(depth=1, width=32, norm="group")).eval()
    coarse = torch.randn(2, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    both, alone = heads([coarse]), heads([coarse[:1]])
    torch.testing.assert_close(alone.logits, both.logits[:1])
    torch.testing.assert_close(alone.deltas, both.deltas[:1])


@pytest.mark.parametrize("prior", [0.01, 0.5])
def test_every_score_starts_at_the_prior(prior: float) -> None:
    heads = Heads(16, 9, 5, HeadSettings(width=32, prior=prior))
    found = heads([torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))])
    scores = found.logits.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, prior), atol=0.002, rtol=0.05)


def test_prior_bias_is_section_4_1() -> None:
    assert prior_bias(0.01) == pytest.approx(-4.59512)
    assert prior_bias(0.5) == 0


def test_weights_start_as_section_4_1_says() -> None:
    heads = Heads(64, 9, 20, HeadSettings(width=64))
    for layer in heads.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.001)
            if layer is not heads.classes.last:
                assert not layer.bias.any()


def test_separable_subnets_start_at_the_prior_too() -> None:
    heads = Heads(96, 2, 5, HeadSettings(width=96, depth=2), separable=True)
    found = heads([torch.randn(1, 96, 8, 8, generator=torch.Generator().manual_seed(0))])
    scores = found.logits.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01), atol=0.002, rtol=0.05)


def test_separable_subnets_see_as_far_with_an_eighth_of_the_work() -> None:
    whole, separable = (
        Heads(96, 1, 1, HeadSettings(width=96, depth=2), separable=separable).boxes
        for separable in (False, True)
    )
    assert 7.5 < _weights(whole.tower) / _weights(separable.tower) < 8.5
    seen = torch.randn(1, 96, 9, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    separable(seen).view(9, 9, 4)[4, 4].sum().backward()
    assert seen.grad.abs().sum(dim=(0, 1)).nonzero().unique().tolist() == [2, 3, 4, 5, 6]


def _weights(layers: nn.Module) -> int:
    return sum(value.numel() for value in layers.parameters() if value.ndim > 1)


def test_objectness_starts_at_the_prior_and_classes_undecided() -> None:
    heads = Heads(16, 3, 2, HeadSettings(width=16, depth=1, objectness=True))
    found = heads([torch.zeros(2, 16, 4, 4)])
    assert found.logits.shape == (2, 48, 2)
    assert found.objectness.shape == (2, 48)
    torch.testing.assert_close(found.objectness.sigmoid(), torch.full((2, 48), 0.01))
    torch.testing.assert_close(found.logits.sigmoid(), torch.full((2, 48, 2), 0.5))


def test_subnets_share_no_weights_and_levels_share_all() -> None:
    heads = Heads(16, 1, 1, HeadSettings(width=32, norm="group"))
    level = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    found = heads([level, level])
    torch.testing.assert_close(found.logits[:, :16], found.logits[:, 16:])
    found.logits.sum().backward()
    assert all(value.grad is None for value in heads.boxes.parameters())
    assert sum(isinstance(layer, nn.GroupNorm) for layer in heads.modules()) == 8
