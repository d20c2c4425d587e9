"""Anchors, and the code that turns boxes into regression targets and back."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geo_retina.model.settings import LOG_SCALE_LIMIT, AnchorSettings


def anchor_shapes(sizes: Sequence[float], settings: AnchorSettings) -> Tensor:
    """Anchors of one level around (0, 0): (ratios * sizes, 4) pixel edges, sizes fastest."""
    area_roots = torch.tensor(sizes, dtype=torch.float32)
    heights = torch.sqrt(torch.tensor(settings.ratios, dtype=torch.float32))
    widths = 1 / heights
    half_w = (widths[:, None] * area_roots[None, :]).flatten() / 2
    half_h = (heights[:, None] * area_roots[None, :]).flatten() / 2
    shapes = torch.stack([-half_w, -half_h, half_w, half_h], dim=1)
    return shapes.round() if settings.whole_pixels else shapes


def level_anchors(
    shapes: Tensor, *, rows: int, columns: int, stride: tuple[int, int], offset: float
) -> Tensor:
    """Anchors of one level.

    Args:
        shapes: (S, 4) pixel edges around (0, 0).
        rows: Positions from top to bottom.
        columns: Positions from left to right.
        stride: Pixels from one position to the next, down and to the right.
        offset: Place of the first position, in strides.

    Returns:
        (rows * columns * S, 4) pixel edges in the chip's frame: row by row, shapes fastest.
    """
    y = (torch.arange(rows, device=shapes.device, dtype=torch.float32) + offset) * stride[0]
    x = (torch.arange(columns, device=shapes.device, dtype=torch.float32) + offset) * stride[1]
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1).reshape(-1, 1, 4)  # (RC, 1, 4)
    return (centres + shapes).reshape(-1, 4)


def chip_anchors(
    settings: AnchorSettings,
    *,
    levels: Sequence[int],
    height: int,
    width: int,
    device: torch.device,
) -> list[Tensor]:
    """Anchors of a chip of `height` x `width` pixels, one (A_l, 4) tensor a level.

    Positions run row by row, shapes fastest: the order of the heads' outputs. A level has
    ceil(size / 2**l) positions along an axis, as the network's padded convolutions give.
    """
    found = []
    for level, sizes in zip(levels, settings.sizes, strict=True):
        rows, columns = -(-height // 2**level), -(-width // 2**level)
        stride = (
            _spacing(settings.spacing, level, height, rows),
            _spacing(settings.spacing, level, width, columns),
        )
        shapes = anchor_shapes(sizes, settings).to(device)
        found.append(
            level_anchors(shapes, rows=rows, columns=columns, stride=stride, offset=settings.offset)
        )
    return found


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Regression targets of (A, 4) boxes for (A, 4) anchors (R-CNN, arXiv 1311.2524, appendix C).

    dx, dy are the shift of the centre in anchor sides; dw, dh the log ratio of the sides.
    """
    a_centre, a_side = _centre_and_side(anchors)
    b_centre, b_side = _centre_and_side(boxes)
    return torch.cat([(b_centre - a_centre) / a_side, torch.log(b_side / a_side)], dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., 4) in pixel edges from regression outputs; the inverse of `encode`.

    Boxes more than `exp(LOG_SCALE_LIMIT)` times the anchor are cut down to that.
    """
    a_centre, a_side = _centre_and_side(anchors)
    centre = deltas[..., :2] * a_side + a_centre
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=LOG_SCALE_LIMIT)) * a_side
    return torch.cat([centre - half, centre + half], dim=-1)


def _spacing(rule: Literal["stride", "even"], level: int, size: int, positions: int) -> int:
    return 2**level if rule == "stride" else size // positions


def _centre_and_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    side = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * side, side
