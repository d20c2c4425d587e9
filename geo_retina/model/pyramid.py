"""The feature pyramid: top-down pathway with lateral connections (arXiv 1612.03144)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from geo_retina.model.backbone import STAGES
from geo_retina.model.separable import SeparableConv2d

_TOP_STAGE = STAGES[-1]


class Pyramid(nn.Module):
    """Features P_l of one width for chosen levels l.

    Each level up to P5 is the sum of a 1 x 1 lateral convolution of C_l and the next coarser level,
    enlarged by two (nearest neighbour), smoothed by a 3 x 3 convolution. P6 is a strided 3 x 3
    convolution on C5 or P5, P7 one on ReLU(P6) (RetinaNet paper, section 4, footnote 2). The
    pathway always starts at C5, so that a pyramid of fine levels alone still sees the context.
    `separable` smooths in two steps, depthwise and 1 x 1.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        *,
        levels: tuple[int, ...],
        width: int,
        p6_from: Literal["c5", "p5"],
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.p6_from = p6_from
        lowest = min(levels[0], _TOP_STAGE)
        self.lateral = nn.ModuleDict(
            {
                str(stage): nn.Conv2d(wide, width, 1)
                for stage, wide in zip(STAGES, channels, strict=True)
                if stage >= lowest
            }
        )
        self.smooth = nn.ModuleDict(
            {
                str(level): (
                    SeparableConv2d(width, width)
                    if separable
                    else nn.Conv2d(width, width, 3, padding=1)
                )
                for level in STAGES
                if level in levels or (level == _TOP_STAGE < levels[-1] and p6_from == "p5")
            }
        )
        top = channels[-1] if p6_from == "c5" else width
        self.coarser = nn.ModuleDict(
            {
                str(level): nn.Conv2d(top if level == 6 else width, width, 3, stride=2, padding=1)  # noqa: PLR2004
                for level in (6, 7)
                if level <= levels[-1]
            }
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        """Map C2..C5 to one (N, width, H / 2**l, W / 2**l) tensor for each chosen level l."""
        found: dict[int, Tensor] = {}
        above: Tensor | None = None
        for stage in reversed([stage for stage in STAGES if str(stage) in self.lateral]):
            merged = self.lateral[str(stage)](stages[STAGES.index(stage)])
            if above is not None:
                merged = merged + F.interpolate(above, size=merged.shape[-2:], mode="nearest")
            above = merged
            if str(stage) in self.smooth:
                found[stage] = self.smooth[str(stage)](merged)
        if "6" in self.coarser:
            found[6] = self.coarser["6"](stages[-1] if self.p6_from == "c5" else found[_TOP_STAGE])
        if "7" in self.coarser:
            found[7] = self.coarser["7"](F.relu(found[6]))
        return [found[level] for level in self.levels]
