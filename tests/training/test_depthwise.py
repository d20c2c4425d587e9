from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from geo_retina.training.depthwise import FastDepthwise

CHANNELS = 4


def _filtered(
    images: Tensor, weight: Tensor, bias: Tensor | None, *, fast: bool, **options: int
) -> tuple[Tensor, ...]:
    """What comes out, and the gradients of a weighted sum of it."""
    images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
    learned = [images, weight]
    if bias is not None:
        bias = bias.clone().requires_grad_()
        learned.append(bias)

    def convolve() -> Tensor:
        return functional.conv2d(images, weight, bias, groups=CHANNELS, **options)

    if fast:
        with torch.autocast("cpu", torch.bfloat16), FastDepthwise():
            found = convolve().float()
    else:
        found = convolve()
    weights = torch.arange(found.numel()).view(found.shape).remainder(7) - 3.0
    return found, *torch.autograd.grad((found * weights).sum(), learned)


@given(
    side=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    rows=st.integers(7, 14),
    columns=st.integers(7, 14),
    biased=st.booleans(),
)
def test_gradients_are_those_of_float32(
    side: int, stride: int, pad: int, rows: int, columns: int, biased: bool
) -> None:
    torch.manual_seed(side + 10 * stride)
    images = torch.randn(2, CHANNELS, rows, columns).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(CHANNELS, 1, side, side)
    bias = torch.randn(CHANNELS) if biased else None
    options = {"stride": stride, "padding": pad}
    fast = _filtered(images, weight, bias, fast=True, **options)
    exact = _filtered(images, weight, bias, fast=False, **options)
    for ours, theirs in zip(fast, exact, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 0.02 * theirs.abs().max() + 1e-6


def _conv(groups: int, **options: Any) -> Callable[[Tensor], Tensor]:
    return torch.nn.Conv2d(CHANNELS, CHANNELS, 5, groups=groups, **options)


@pytest.mark.parametrize(
    ("layer", "dtype", "taken"),
    [
        (_conv(CHANNELS, stride=2), torch.bfloat16, True),
        (_conv(CHANNELS, padding=2), torch.bfloat16, True),
        (_conv(CHANNELS, padding="same"), torch.bfloat16, False),
        (_conv(CHANNELS, dilation=2), torch.bfloat16, False),
        (_conv(1), torch.bfloat16, False),
        (_conv(CHANNELS, stride=2).requires_grad_(requires_grad=False), torch.bfloat16, False),
        (_conv(CHANNELS, stride=2), torch.float16, False),
    ],
)
def test_only_what_is_slow_is_taken(
    layer: Callable[[Tensor], Tensor], dtype: torch.dtype, taken: bool
) -> None:
    images = torch.randn(1, CHANNELS, 12, 12, requires_grad=True)
    with torch.autocast("cpu", dtype), FastDepthwise():
        found = layer(images)
    seen, steps = set(), [found.grad_fn]
    while steps:
        step = steps.pop()
        if step is not None and step not in seen:
            seen.add(step)
            steps += [following for following, _ in step.next_functions]
    names = {type(step).__name__ for step in seen}
    assert ("_DepthwiseBackward" in names) is taken, names


def test_without_autocast_nothing_changes() -> None:
    layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 5, groups=CHANNELS)
    images = torch.randn(1, CHANNELS, 12, 12)
    with FastDepthwise():
        found = layer(images)
    assert torch.equal(found, layer(images))
    assert found.dtype == torch.float32
