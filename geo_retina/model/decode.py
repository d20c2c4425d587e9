"""From the network's outputs to boxes: threshold, top candidates, clip, NMS."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from geo_retina.errors import ModelError
from geo_retina.model.anchors import decode
from geo_retina.model.heads import HeadOutputs
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.nms import nms

_MOST_AT_ONCE = 20_000
"""Boxes that torchvision compares: its memory on a GPU, and its time, grow with their square."""


class NotFiniteError(ModelError):
    """What a network gave are not numbers."""


@dataclass(frozen=True, slots=True)
class ChipBoxes:
    """What was found on one chip, highest score first."""

    boxes: Tensor
    """(N, 4) pixel edges in the chip's frame, float32."""
    scores: Tensor
    """(N,) in [0, 1], float32."""
    class_ids: Tensor
    """(N,) int64."""
    saturated: bool
    """Whether a limit cut off candidates or boxes above the score: there may be more objects."""


def decode_chips(
    outputs: HeadOutputs,
    anchors: Sequence[Tensor],
    *,
    height: int,
    width: int,
    thresholds: Thresholds,
) -> list[ChipBoxes]:
    """Decode a batch of chips of `height` x `width` pixels.

    Args:
        outputs: Of N chips.
        anchors: (A_l, 4) for each level.
        height: Rows of a chip: boxes are clipped there.
        width: Columns of a chip.
        thresholds: Scores and limits.

    Raises:
        NotFiniteError: The outputs are not numbers: the pixels or the weights are not finite.
    """
    scores = outputs.logits.float().sigmoid()
    if outputs.objectness is not None:
        scores = scores * outputs.objectness.float().sigmoid()[..., None]
    if not bool((scores.sum() + outputs.deltas.float().sum()).isfinite()):  # one wait for a GPU
        raise NotFiniteError(
            "the network's outputs are not a number (NaN), so no score means anything; look for "
            "NaN or infinite pixels (nodata that is not masked?) or damaged weights"
        )
    least: float | Tensor = thresholds.score
    if thresholds.class_scores is not None:
        least = scores.new_tensor(thresholds.class_scores)
    return [
        _decode_chip(
            chip_scores.split(outputs.anchors_per_level),
            chip_deltas.float().split(outputs.anchors_per_level),
            anchors,
            height=height,
            width=width,
            least=least,
            thresholds=thresholds,
        )
        for chip_scores, chip_deltas in zip(scores, outputs.deltas, strict=True)
    ]


def _decode_chip(
    scores: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    *,
    height: int,
    width: int,
    least: float | Tensor,
    thresholds: Thresholds,
) -> ChipBoxes:
    """Decode one chip; `least` is the least score, one for all or (K,) of each class."""
    found_boxes, found_scores, found_classes = [], [], []
    saturated = False
    for level_scores, level_deltas, level_anchors in zip(scores, deltas, anchors, strict=True):
        num_classes = level_scores.shape[1]
        flat = level_scores.flatten()  # (A_l * K,)
        passing = torch.nonzero((level_scores >= least).flatten()).squeeze(1)
        kept = min(len(passing), thresholds.candidates_per_level)
        saturated |= kept < len(passing)
        values, order = flat[passing].topk(kept)
        chosen = passing[order]
        anchor_ids = torch.div(chosen, num_classes, rounding_mode="floor")
        boxes = decode(level_deltas[anchor_ids], level_anchors[anchor_ids])
        found_boxes.append(clip_boxes_to_image(boxes, (height, width)))
        found_scores.append(values)
        found_classes.append(chosen % num_classes)
    boxes, values = torch.cat(found_boxes), torch.cat(found_scores)
    class_ids = torch.cat(found_classes)
    groups = torch.zeros_like(class_ids) if thresholds.class_agnostic else class_ids
    keep = _kept_by_nms(boxes, values, groups, thresholds.nms_iou)
    saturated |= len(keep) > thresholds.detections_per_chip
    keep = keep[: thresholds.detections_per_chip]
    return ChipBoxes(boxes[keep], values[keep], class_ids[keep], saturated)


def _kept_by_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Positions of the boxes that NMS of each group keeps, highest score first."""
    if len(boxes) <= _MOST_AT_ONCE:
        kept: Tensor = batched_nms(boxes, scores, groups, threshold)
        return kept
    corners, values, ids = (part.cpu().numpy() for part in (boxes, scores, groups))
    found = nms(corners, values, threshold=threshold, class_ids=ids)
    return torch.from_numpy(found).to(boxes.device)
