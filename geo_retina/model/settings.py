"""What a network is built from, as plain data that a TOML file or a checkpoint carries."""

import math
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from geo_retina.plain import Plain

LOG_SCALE_LIMIT = math.log(1000 / 16)
"""Largest `dw`, `dh` that is decoded, so that a wild output cannot overflow (as Detectron has)."""

CHIP_MULTIPLE_PX = 32
"""Chips are multiples of the coarsest backbone stride, so that every stage halves evenly."""

GROUPS = 32
"""Groups of a GroupNorm, as in arXiv 1803.08494 and in torchvision's second RetinaNet."""


def octave_sizes(levels: Iterable[int], *, per_octave: int = 3) -> tuple[tuple[float, ...], ...]:
    """Anchor sizes by the paper's rule, section 4: from 4 strides up, `per_octave` to a level."""
    return tuple(
        tuple(4 * 2.0 ** (level + part / per_octave) for part in range(per_octave))
        for level in levels
    )


PAPER_SIZES = octave_sizes(range(3, 8))
"""Anchor sizes of the paper: 32 to 813 px (512 * 2^(2/3)) on P3 to P7, three to an octave."""


class BackboneSettings(Plain):
    """The bottom-up pathway."""

    name: str = "resnet50"
    """`resnet18`, `resnet34`, `resnet50`, `resnet101` (torchvision), or `timm:NAME` for any timm
    architecture with `features_only`."""
    frozen_batch_norm: bool = True
    """Keep batch-norm statistics and scales fixed, as detectors with small batches do."""
    batch_norm_eps: float | None = Field(default=None, ge=0)
    """Added to the variance in batch norm; left out, the architecture's own. torchvision runs its
    `COCO_V1` weights of `retinanet_resnet50_fpn` with 0."""


class AnchorSettings(Plain):
    """Anchors of every level: all pairs of that level's sizes and the ratios (section 4)."""

    sizes: tuple[tuple[float, ...], ...] = PAPER_SIZES
    """For each level, square roots of the anchors' areas, in pixels of the chip."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    offset: float = Field(default=0.5, ge=0, lt=1)
    """Place of the first anchor's centre, in strides; torchvision's networks have 0."""
    whole_pixels: bool = False
    """Round half the sides to whole pixels, as torchvision's networks do."""
    spacing: Literal["stride", "even"] = "stride"
    """Distance of neighbouring positions: `stride` is 2**l px, where the network's convolutions
    look; `even` spreads a level's positions over the chip, floor(size / positions) px, as
    torchvision does. They differ on P6 and P7 where the chip is no multiple of 64 or 128 px."""

    @property
    def per_location(self) -> int:
        """Anchors at each position of a level."""
        return len(self.sizes[0]) * len(self.ratios)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({len(sizes) for sizes in self.sizes}) != 1 or not self.sizes[0]:
            raise ValueError(
                f"every level needs the same number of anchor sizes, got {self.sizes}: the heads "
                "are shared over the levels"
            )
        if min(min(sizes) for sizes in self.sizes) <= 0 or not self.ratios or min(self.ratios) <= 0:
            raise ValueError("anchor sizes and ratios must be positive")
        return self


class HeadSettings(Plain):
    """The class subnet and the box subnet (section 4): same shape, separate weights."""

    depth: int = Field(default=4, ge=0, le=100)
    """3 x 3 convolutions before the last one."""
    width: int = Field(default=256, gt=0)
    """Channels of those convolutions."""
    norm: Literal["none", "group"] = "none"
    """GroupNorm of 32 groups after each convolution, or nothing (the paper)."""
    prior: float = Field(default=0.01, gt=0, lt=1)
    """Score of every anchor at the start of training (section 4.1), or its objectness where the
    score is factored; 0.5 shows life without it."""
    objectness: bool = False
    """Factor the score into objectness x class, as in YOLOv2 (arXiv 1612.08242)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.norm == "group" and self.width % GROUPS:
            raise ValueError(
                f"norm 'group' needs a width divisible by its {GROUPS} groups, got {self.width}; "
                f"take {-(-self.width // GROUPS) * GROUPS}, or norm 'none'"
            )
        return self


_OF_ANCHORS = ("levels", "anchors")
_CAME_LATER = {"separable": False}
"""Keys that are left out at these values: graphs name their network by a hash of its settings."""


class NetworkSettings(Plain):
    """Everything needed to build a RetinaNet before its weights are loaded."""

    num_classes: int = Field(gt=0)
    """Classes, not counting background."""
    in_bands: int = Field(default=3, gt=0)
    """Bands of a chip."""
    backbone: BackboneSettings = BackboneSettings()
    levels: tuple[int, ...] = Field(default=(3, 4, 5, 6, 7), min_length=1)
    """Pyramid levels P2..P7 in rising order, without gaps; level l has stride 2**l."""
    pyramid_width: int = Field(default=256, gt=0)
    """Channels of every pyramid level."""
    p6_from: Literal["c5", "p5"] = "c5"
    """P6 is a strided convolution on C5 (the paper) or on P5 (torchvision's first version)."""
    separable: bool = False
    """Make the 3 x 3 convolutions of P2 to P5 and of the subnets in two steps, depthwise and 1 x 1,
    and the subnets' last one in 1 x 1: half the time on a CPU. The paper's are whole."""
    head: HeadSettings = HeadSettings()
    anchors: AnchorSettings = AnchorSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        first, last = self.levels[0], self.levels[-1]
        if self.levels != tuple(range(first, last + 1)) or first < 2 or last > 7:  # noqa: PLR2004
            raise ValueError(f"levels must rise by one within 2..7, got {self.levels}")
        if len(self.anchors.sizes) != len(self.levels):
            raise ValueError(
                f"levels {self.levels} need {len(self.levels)} rows of anchors.sizes, got "
                f"{len(self.anchors.sizes)}; the paper's rule gives {octave_sizes(self.levels)}"
            )
        return self

    @property
    def states_anchors(self) -> bool:
        """Whether levels or anchors were stated; else a training fits them to the labels."""
        return bool(self.model_fields_set & set(_OF_ANCHORS))

    def stated(self) -> Self:
        """The same, with levels and anchors stated: what a checkpoint keeps."""
        return self.model_copy(update={key: getattr(self, key) for key in _OF_ANCHORS})

    @model_serializer(mode="wrap")
    def _as_stated(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All keys, but levels and anchors where neither was stated: nor is it when read again."""
        values: dict[str, Any] = dump(self)
        return {
            key: value
            for key, value in values.items()
            if (self.states_anchors or key not in _OF_ANCHORS)
            and (key not in _CAME_LATER or value != _CAME_LATER[key])
        }

    @property
    def strides(self) -> tuple[int, ...]:
        """Chip pixels per position of each level."""
        return tuple(2**level for level in self.levels)
