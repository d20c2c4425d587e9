"""Arrays of axis-aligned boxes: (N, 4) pixel edges `x_min, y_min, x_max, y_max`, y down."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]


def area(boxes: Boxes) -> NDArray[np.floating]:
    """Area of each box in square pixels, (N,); 0 where a box is turned inside out."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[np.floating] = sides[:, 0] * sides[:, 1]
    return product


def clip(boxes: Boxes, *, width: float, height: float) -> Boxes:
    """Cut boxes at the edges of an image of `width` x `height` pixels; returns a new array."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))


def shift(boxes: Boxes, *, x: float, y: float) -> Boxes:
    """Move boxes by `x` and `y` pixels; returns a new array."""
    return boxes + np.array([x, y, x, y], dtype=boxes.dtype)


def scale(boxes: Boxes, *, x: float, y: float) -> Boxes:
    """Multiply the coordinates of boxes by `x` and `y`; returns a new array."""
    return boxes * np.array([x, y, x, y], dtype=boxes.dtype)


def centres(boxes: Boxes) -> NDArray[np.floating]:
    """Centre of each box, (N, 2) as x, y."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def intersection(first: Boxes, second: Boxes) -> NDArray[np.floating]:
    """Shared area of every pair, (N, M), in square pixels."""
    upper_left = np.maximum(first[:, None, :2], second[None, :, :2])
    lower_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(lower_right - upper_left, 0, None)  # (N, M, 2)
    product: NDArray[np.floating] = sides[..., 0] * sides[..., 1]
    return product


def iou(first: Boxes, second: Boxes) -> NDArray[np.floating]:
    """Intersection over union of every pair, (N, M); 0 where both boxes are empty."""
    shared = intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
