"""The class subnet and the box subnet, shared over all levels (RetinaNet paper, section 4)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geo_retina.model.separable import SeparableConv2d
from geo_retina.model.settings import GROUPS, HeadSettings

_POINTWISE_STD = 0.04
"""Of the first weights of a 1 x 1 convolution of 96 channels: so much weakens a signal as the 3 x 3
convolution's 0.01, by which a network starts at its prior."""


@dataclass(frozen=True, slots=True)
class HeadOutputs:
    """Raw outputs for every anchor; A anchors in the order level, row, column, shape."""

    logits: Tensor
    """(N, A, K) class logits."""
    deltas: Tensor
    """(N, A, 4) box regression targets `dx, dy, dw, dh` relative to the anchor."""
    objectness: Tensor | None
    """(N, A) objectness logits, or None where the score is not factored."""
    anchors_per_level: tuple[int, ...]
    """How many of the A anchors belong to each level."""


class _GroupNorm(nn.GroupNorm):
    """GroupNorm that takes a single value a group, on which torch's own layer raises.

    A coarse level of a small chip is one position, and 32 channels are one a group.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's own name
        """Normalise (N, C, H, W)."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class Subnet(nn.Module):
    """A few 3 x 3 convolutions with ReLU, then one with `per_anchor` outputs for each anchor.

    Weights start as N(0, 0.01), biases at 0 (section 4.1). `separable` makes the convolutions in
    two steps, and the last one in 1 x 1.
    """

    def __init__(
        self,
        in_width: int,
        per_location: int,
        per_anchor: int,
        settings: HeadSettings,
        *,
        separable: bool,
    ) -> None:
        super().__init__()
        self.per_anchor = per_anchor
        grouped = settings.norm == "group"
        layers: list[nn.Module] = []
        width = in_width
        for _ in range(settings.depth):
            if separable:
                layers.append(SeparableConv2d(width, settings.width, bias=not grouped))
            else:
                layers.append(nn.Conv2d(width, settings.width, 3, padding=1, bias=not grouped))
            if grouped:
                layers.append(_GroupNorm(GROUPS, settings.width))
            layers.append(nn.ReLU(inplace=True))
            width = settings.width
        self.tower = nn.Sequential(*layers)
        side = 1 if separable else 3
        self.last = nn.Conv2d(width, per_location * per_anchor, side, padding=side // 2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                if layer.groups > 1:
                    nn.init.kaiming_uniform_(layer.weight, a=1)
                elif separable and layer is not self.last:
                    nn.init.normal_(layer.weight, std=_POINTWISE_STD)
                else:
                    nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H * W * anchors, per_anchor)."""
        values: Tensor = self.last(self.tower(features))
        count, _, height, width = values.shape
        values = values.view(count, -1, self.per_anchor, height, width)  # (N, S, D, H, W)
        return values.permute(0, 3, 4, 1, 2).reshape(count, -1, self.per_anchor)  # (N, HWS, D)


class Heads(nn.Module):
    """Class and box subnets, applied to every level with the same weights.

    With objectness the class subnet has one more output for each anchor, the last.
    """

    def __init__(
        self,
        in_width: int,
        per_location: int,
        num_classes: int,
        settings: HeadSettings,
        *,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.factored = settings.objectness
        outputs = num_classes + int(settings.objectness)
        self.classes = Subnet(in_width, per_location, outputs, settings, separable=separable)
        self.boxes = Subnet(in_width, per_location, 4, settings, separable=separable)
        self._start_at(settings.prior, per_location)

    def forward(self, levels: list[Tensor]) -> HeadOutputs:
        """Apply both subnets to (N, C, H_l, W_l) features of each level."""
        classes = [self.classes(features) for features in levels]
        scores = torch.cat(classes, dim=1)  # (N, A, K or K + 1)
        return HeadOutputs(
            logits=scores[..., : self.num_classes],
            deltas=torch.cat([self.boxes(features) for features in levels], dim=1),
            objectness=scores[..., -1] if self.factored else None,
            anchors_per_level=tuple(level.shape[1] for level in classes),
        )

    def _start_at(self, prior: float, per_location: int) -> None:
        """Set the last bias so that scores, or objectness where factored, start at `prior`."""
        bias = self.classes.last.bias
        if bias is None:
            return
        with torch.no_grad():
            outputs = bias.view(per_location, -1)
            start = self.num_classes if self.factored else 0
            outputs[:, start:] = prior_bias(prior)


def prior_bias(prior: float) -> float:
    """Bias that makes every score start at `prior`: -log((1 - prior) / prior), section 4.1."""
    return -math.log((1 - prior) / prior)
