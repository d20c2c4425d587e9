"""Gradients of depthwise filters in bfloat16 on the CPU, where oneDNN's own are slow.

Its backward pass through a depthwise filter of 5 x 5 or of stride 2 takes several times as long as
in float32, which makes half the precision as slow as the whole one in every MobileNet and
EfficientNet.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CPU = "cpu"
_SMALL = 3
"""Filters up to this size are fast in PyTorch where no stride is taken."""


class FastDepthwise(TorchFunctionMode):
    """While it is entered, depthwise filters under bfloat16 autocast on the CPU learn faster.

    What they compute stays the same; everything else is left to PyTorch.
    """

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401  PyTorch's own types
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is functional.conv2d and torch.is_autocast_enabled(_CPU):
            found = _depthwise(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _depthwise(  # noqa: PLR0917  as torch's conv2d
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """The filtered images, or None where PyTorch's own gradient is as good or needed."""
    side, strides = weight.shape[-1], _pair(stride)
    if (
        input.device.type != _CPU
        or torch.get_autocast_dtype(_CPU) != torch.bfloat16
        or not torch.is_grad_enabled()
        or not weight.requires_grad
        or input.ndim != weight.ndim
        or not groups == input.shape[1] == weight.shape[0] > 1
        or weight.shape[-2] != side
        or isinstance(padding, str)
        or strides[0] != strides[1]
        or _pair(dilation) != (1, 1)
        or _pair(padding)[0] != _pair(padding)[1]
        or _pair(padding)[0] >= side
        or (strides[0] == 1 and side <= _SMALL)
    ):
        return None
    filtered: Tensor = _Depthwise.apply(
        input.bfloat16(), weight.bfloat16(), strides[0], _pair(padding)[0]
    )
    return filtered if bias is None else filtered + bias.bfloat16()[:, None, None]


class _Depthwise(torch.autograd.Function):
    """Filter each channel by its own (1, side, side) weights; images in channels-last order."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.pad = stride, pad
        with torch.autocast(_CPU, enabled=False):
            return functional.conv2d(inputs, weight, stride=stride, padding=pad, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:  # noqa: ANN401
        inputs, weight = ctx.saved_tensors
        gradient = gradients[0]
        with torch.autocast(_CPU, enabled=False):
            for_inputs = None
            if ctx.needs_input_grad[0]:
                for_inputs = _for_inputs(gradient, weight, inputs.shape, ctx.stride, ctx.pad)
            return (
                for_inputs,
                _for_weight(gradient, inputs, weight, ctx.stride, ctx.pad),
                None,
                None,
            )


def _for_inputs(
    gradient: Tensor, weight: Tensor, shape: torch.Size, stride: int, pad: int
) -> Tensor:
    """Filter the gradient, spread out by the stride, with the mirrored weights."""
    side = weight.shape[-1]
    spread = gradient
    if stride > 1:
        rows, columns = (length + 2 * pad - side + 1 for length in shape[-2:])
        spread = gradient.new_zeros(*gradient.shape[:2], rows, columns)
        spread = spread.contiguous(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = gradient
    return functional.conv2d(spread, weight.flip(2, 3), padding=side - 1 - pad, groups=len(weight))


def _for_weight(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    """Multiply the gradient with the images, shifted to each place of the filter."""
    side = weight.shape[-1]
    rows, columns = ((length - 1) * stride + 1 for length in gradient.shape[-2:])
    padded = functional.pad(inputs, (pad, pad, pad, pad)) if pad else inputs
    sums = [
        (padded[:, :, y : y + rows : stride, x : x + columns : stride] * gradient).sum((0, 2, 3))
        for y in range(side)
        for x in range(side)
    ]
    return torch.stack(sums, dim=1).view_as(weight)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
