"""Checkpoints of other projects: torchvision's RetinaNet, and DeepForest's, which is the same.

The network is read off the tensors' names and shapes: the ResNet, the levels, where P6 comes from,
the classes, the bands. Class ids stay those of the file, so torchvision's COCO weights give 91
classes, of which 0 ("background") and the gaps never occur; DeepForest's ids start at 0.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor

from geo_retina.card import ModelCard
from geo_retina.errors import ModelError
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)
from geo_retina.plain import Plain

TORCHVISION_ANCHORS = AnchorSettings(
    sizes=tuple(
        (float(size), float(int(size * 2 ** (1 / 3))), float(int(size * 2 ** (2 / 3))))
        for size in (32, 64, 128, 256, 512)
    ),
    offset=0,
    whole_pixels=True,
    spacing="even",
)
"""What torchvision's RetinaNets use, and DeepForest with them."""

_WRAPPER = "model."  # a Lightning module's attribute, as DeepForest saves it
_BLOCKS = {  # (three convolutions a block, blocks of the third stage)
    (True, 6): "resnet50",
    (True, 23): "resnet101",
    (False, 2): "resnet18",
    (False, 6): "resnet34",
}
_LOGITS = "head.classification_head.cls_logits.weight"
_DELTAS = "head.regression_head.bbox_reg.weight"
_P6 = "backbone.fpn.extra_blocks.p6.weight"
_CONV1 = "backbone.body.conv1.weight"


class ConvertedModel(Plain):
    """What a file of weights does not tell about its model."""

    card: ModelCard
    anchors: AnchorSettings = TORCHVISION_ANCHORS
    """Those it was trained with."""
    batch_norm_eps: float | None = Field(default=None, ge=0)
    """See `BackboneSettings`; 0 for `RetinaNet_ResNet50_FPN_Weights.COCO_V1`."""

    @model_validator(mode="before")
    @classmethod
    def _as_torchvision(cls, values: Any) -> Any:  # noqa: ANN401  whatever the file holds
        """Anchors lie as torchvision's do where the file does not say otherwise."""
        stated = values.get("anchors") if isinstance(values, dict) else None
        if not isinstance(stated, dict):
            return values
        return {**values, "anchors": TORCHVISION_ANCHORS.model_dump() | stated}


@dataclass(frozen=True, slots=True)
class _Names:
    """How torchvision's names become ours, for one network."""

    first_level: int
    grouped: bool

    def rename(self, name: str) -> str | None:
        """Our name of a tensor; None where we have none."""
        for pattern, replacement in self._rules():
            found = re.fullmatch(pattern, name)
            if found:
                return replacement(found)
        return None

    def _rules(self) -> list[tuple[str, Callable[[re.Match[str]], str]]]:
        block = r"\.(\d+)(?:\.0)?\.(weight|bias)"  # without the inner 0 before torchvision 0.13
        head = r"head\.(classification|regression)_head\."
        return [
            (r"backbone\.body\.(.+)", lambda m: f"backbone.{m[1]}"),
            (rf"backbone\.fpn\.inner_blocks{block}", lambda m: self._level("lateral", m)),
            (rf"backbone\.fpn\.layer_blocks{block}", lambda m: self._level("smooth", m)),
            (
                r"backbone\.fpn\.extra_blocks\.p([67])\.(weight|bias)",
                lambda m: f"pyramid.coarser.{m[1]}.{m[2]}",
            ),
            (
                rf"{head}conv\.(\d+)\.([01])\.(weight|bias)",
                lambda m: self._tower(m[1], int(m[2]), int(m[3]), m[4]),
            ),
            (
                rf"{head}conv\.(\d+)\.(weight|bias)",  # before 0.13: convolution, ReLU, and so on
                lambda m: self._tower(m[1], int(m[2]) // 2, 0, m[3]),
            ),
            (rf"{head}(?:cls_logits|bbox_reg)\.(weight|bias)", lambda m: _last(m[1], m[2])),
        ]

    def _level(self, kind: str, found: re.Match[str]) -> str:
        return f"pyramid.{kind}.{self.first_level + int(found[1])}.{found[2]}"

    def _tower(self, head: str, step: int, part: int, kind: str) -> str:
        layers = 3 if self.grouped else 2  # convolution, norm?, ReLU
        return f"heads.{_HEADS[head]}.tower.{layers * step + part}.{kind}"


_HEADS = {"classification": "classes", "regression": "boxes"}


def _last(head: str, kind: str) -> str:
    return f"heads.{_HEADS[head]}.last.{kind}"


def convert_state_dict(
    state: Mapping[str, Tensor],
    *,
    anchors: AnchorSettings = TORCHVISION_ANCHORS,
    batch_norm_eps: float | None = None,
) -> RetinaNet:
    """Build our network with the weights of torchvision's or DeepForest's RetinaNet.

    Args:
        state: As from `read_state_dict`; names may have DeepForest's prefix `model.`.
        anchors: Those it was trained with; the weights do not tell.
        batch_norm_eps: See `BackboneSettings`; 0 for `RetinaNet_ResNet50_FPN_Weights.COCO_V1`.

    Returns:
        The network, in evaluation mode.

    Raises:
        ModelError: The weights are of another network, or do not fit the anchors.
    """
    if any(name.startswith(_WRAPPER) for name in state):
        state = {
            name.removeprefix(_WRAPPER): tensor
            for name, tensor in state.items()
            if name.startswith(_WRAPPER)
        }
    settings = _infer_settings(state, anchors=anchors, batch_norm_eps=batch_norm_eps)
    network = build_retinanet(settings)
    names = _Names(settings.levels[0], settings.head.norm == "group")
    # A name without a place in ours stays as it is, for load_state_dict to report.
    renamed = {names.rename(name) or name: tensor.float() for name, tensor in state.items()}
    counters = {n: t for n, t in network.state_dict().items() if n.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | renamed)
    except RuntimeError as error:
        raise ModelError(
            "the weights are of a RetinaNet that differs from torchvision's layout, so they "
            f"cannot be converted: {error}"
        ) from error
    return network.eval()


def _infer_settings(
    state: Mapping[str, Tensor], *, anchors: AnchorSettings, batch_norm_eps: float | None
) -> NetworkSettings:
    """Read the shape of the network off the weights of torchvision's RetinaNet.

    Raises:
        ModelError: A part is missing, or the weights do not fit the anchors.
    """
    absent = [name for name in (_LOGITS, _DELTAS, _P6, _CONV1) if name not in state]
    if absent:
        raise ModelError(
            f"expected the weights of torchvision's or DeepForest's RetinaNet, but {absent[0]!r} "
            "is not among the tensors; other networks cannot be converted"
        )
    per_location = state[_DELTAS].shape[0] // 4
    if per_location != anchors.per_location:
        raise ModelError(
            f"the weights have {per_location} anchors a position, the anchors given "
            f"{anchors.per_location}; pass the anchors that the network was trained with"
        )
    laterals = {
        found[1]
        for name in state
        if (found := re.match(r"backbone\.fpn\.inner_blocks\.(\d+)", name))
    }
    depth = {
        found[1]
        for name in state
        if (found := re.match(r"head\.classification_head\.conv\.(\d+)(?:\.0)?\.weight", name))
    }
    grouped = any(re.match(r"head\.classification_head\.conv\.\d+\.1\.", name) for name in state)
    top, width = state[_P6].shape[1], state[_P6].shape[0]
    return NetworkSettings(
        num_classes=state[_LOGITS].shape[0] // per_location,
        in_bands=state[_CONV1].shape[1],
        backbone=BackboneSettings(
            name=_resnet(state),
            frozen_batch_norm=not any("num_batches_tracked" in name for name in state),
            batch_norm_eps=batch_norm_eps,
        ),
        levels=tuple(range(6 - len(laterals), 8)),
        pyramid_width=width,
        p6_from="p5" if top == width else "c5",
        head=HeadSettings(depth=len(depth), width=width, norm="group" if grouped else "none"),
        anchors=anchors,
    )


def _resnet(state: Mapping[str, Tensor]) -> str:
    third = {name.split(".")[3] for name in state if name.startswith("backbone.body.layer3.")}
    bottleneck = "backbone.body.layer1.0.conv3.weight" in state
    if (bottleneck, len(third)) not in _BLOCKS:
        raise ModelError(
            f"the backbone has {len(third)} blocks in its third stage; only "
            f"{', '.join(sorted(_BLOCKS.values()))} can be converted"
        )
    return _BLOCKS[bottleneck, len(third)]
