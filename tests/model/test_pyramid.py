from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from geo_retina.model.pyramid import Pyramid

CHANNELS = (4, 6, 8, 10)
LEVEL_SETS = [(2,), (2, 3, 4, 5), (3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7), (4, 5, 6), (6, 7), (7,)]


def stages_of(size: int = 128) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, size // 2**level, size // 2**level, generator=random)
        for level, channels in zip((2, 3, 4, 5), CHANNELS, strict=True)
    ]


@pytest.mark.parametrize("levels", LEVEL_SETS)
@pytest.mark.parametrize("p6_from", ["c5", "p5"])
def test_every_level_set_has_its_strides(
    levels: tuple[int, ...], p6_from: Literal["c5", "p5"]
) -> None:
    pyramid = Pyramid(CHANNELS, levels=levels, width=16, p6_from=p6_from)
    found = pyramid(stages_of())
    assert [tuple(level.shape) for level in found] == [
        (2, 16, 128 // 2**level, 128 // 2**level) for level in levels
    ]


def test_the_pathway_is_the_paper_s() -> None:
    pyramid = Pyramid(CHANNELS, levels=(4, 5, 6, 7), width=16, p6_from="c5")
    stages = stages_of()
    _, _, c4, c5 = stages
    top = pyramid.lateral["5"](c5)
    merged = pyramid.lateral["4"](c4) + F.interpolate(top, scale_factor=2, mode="nearest")
    p6 = pyramid.coarser["6"](c5)
    expected = [
        pyramid.smooth["4"](merged),
        pyramid.smooth["5"](top),
        p6,
        pyramid.coarser["7"](F.relu(p6)),
    ]
    for one, other in zip(pyramid(stages), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_separable_levels_are_smoothed_in_two_steps() -> None:
    pyramid = Pyramid(CHANNELS, levels=(4, 5), width=16, p6_from="c5", separable=True)
    depthwise, pointwise = pyramid.smooth["5"]
    assert depthwise.weight.shape == (16, 1, 3, 3)
    assert pointwise.weight.shape == (16, 16, 1, 1)
    stages = stages_of()
    smoothed = pointwise(depthwise(pyramid.lateral["5"](stages[-1])))
    torch.testing.assert_close(pyramid(stages)[1], smoothed)


def test_a_fine_level_alone_sees_the_coarsest_stage() -> None:
    pyramid = Pyramid(CHANNELS, levels=(2,), width=16, p6_from="c5")
    stages = [stage.requires_grad_() for stage in stages_of()]
    pyramid(stages)[0].sum().backward()
    assert stages[-1].grad is not None
    assert stages[-1].grad.any()


@pytest.mark.parametrize("levels", [levels for levels in LEVEL_SETS if levels[0] <= 5])
@pytest.mark.parametrize("separable", [False, True])
def test_every_parameter_learns(levels: tuple[int, ...], separable: bool) -> None:
    pyramid = Pyramid(CHANNELS, levels=levels, width=16, p6_from="c5", separable=separable)
    sum(level.square().sum() for level in pyramid(stages_of())).backward()
    idle = [name for name, value in pyramid.named_parameters() if value.grad is None]
    assert not idle
