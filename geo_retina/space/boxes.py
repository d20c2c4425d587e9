"""Arrays of axis-aligned boxes: (N, 4) pixel edges `x_min, y_min, x_max, y_max`, y down."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]

Real = TypeVar("Real", bound=np.floating)
"""Precision of the coordinates: functions of boxes keep it."""


class Overlap(IntEnum):
    """How the overlap of two boxes is measured: 0 where they do not meet, 1 at most."""

    IOU = 0
    """Intersection over union."""
    IOS = 1
    """Intersection over the smaller area: 1 for a box that lies inside another."""


def area(boxes: NDArray[Real]) -> NDArray[Real]:
    """Area of each box in square pixels, (N,); 0 where a box is turned inside out."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[Real] = sides[:, 0] * sides[:, 1]
    return product


def clip(boxes: NDArray[Real], *, width: float, height: float) -> NDArray[Real]:
    """Cut boxes at the edges of an image of `width` x `height` pixels; returns a new array."""
    limits = np.array([width, height, width, height], dtype=boxes.dtype)
    clipped: NDArray[Real] = np.clip(boxes, 0, limits)
    return clipped


def shift(boxes: NDArray[Real], *, x: float, y: float) -> NDArray[Real]:
    """Move boxes by `x` and `y` pixels; returns a new array."""
    moved: NDArray[Real] = boxes + np.array([x, y, x, y], dtype=boxes.dtype)
    return moved


def scale(boxes: NDArray[Real], *, x: float, y: float) -> NDArray[Real]:
    """Multiply the coordinates of boxes by `x` and `y`; returns a new array."""
    scaled: NDArray[Real] = boxes * np.array([x, y, x, y], dtype=boxes.dtype)
    return scaled


def centres(boxes: NDArray[Real]) -> NDArray[Real]:
    """Centre of each box, (N, 2) as x, y."""
    middles: NDArray[Real] = np.multiply(boxes[:, :2] + boxes[:, 2:], 0.5, dtype=boxes.dtype)
    return middles


def around_turned(boxes: NDArray[Real], degrees: NDArray[np.floating]) -> NDArray[Real]:
    """Upright boxes around boxes that are turned about their centres.

    Args:
        boxes: (N, 4) before they are turned.
        degrees: (N,) by which each is turned, either way.

    Returns:
        (N, 4); those turned by 0 are as they were.
    """
    angles = np.radians(degrees)[:, None]
    sides = boxes[:, 2:] - boxes[:, :2]
    half = (np.abs(np.cos(angles) * sides) + np.abs(np.sin(angles) * sides[:, ::-1])) / 2
    middles = centres(boxes)
    around = np.concatenate([middles - half, middles + half], axis=1)
    return np.where(degrees[:, None] == 0, boxes, around.astype(boxes.dtype))


def intersection(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """Shared area of every pair, (N, M), in square pixels."""
    upper_left = np.maximum(first[:, None, :2], second[None, :, :2])
    lower_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(lower_right - upper_left, 0, None)  # (N, M, 2)
    product: NDArray[Real] = sides[..., 0] * sides[..., 1]
    return product


def iou(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """Intersection over union of every pair, (N, M); 0 where both boxes are empty."""
    shared = intersection(first, second)
    return _share(shared, area(first)[:, None] + area(second)[None, :] - shared)


def ios(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """Intersection over the smaller area of every pair, (N, M); 0 where a box is empty."""
    smaller = np.minimum(area(first)[:, None], area(second)[None, :])
    return _share(intersection(first, second), smaller)


MEASURES: Mapping[Overlap, Callable[[NDArray[Real], NDArray[Real]], NDArray[Real]]] = {
    Overlap.IOU: iou,
    Overlap.IOS: ios,
}
"""How each overlap is computed for every pair."""


def share_under(boxes: Boxes, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the pixels under each box that a mask marks, (N,), by a summed-area table.

    Args:
        boxes: (N, 4) pixel edges within the mask; a pixel that a box touches counts whole.
        mask: (height, width).
    """
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    table[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    left, top = np.floor(boxes[:, :2]).astype(np.int64).T
    right, bottom = np.ceil(boxes[:, 2:]).astype(np.int64).T
    marked = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return np.asarray(marked / np.maximum((right - left) * (bottom - top), 1), np.float64)


def _share(shared: NDArray[Real], whole: NDArray[Real]) -> NDArray[Real]:
    share: NDArray[Real] = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return share
