"""Which anchor learns which object.

Every rule maps A anchors and M objects to (A,) integers: the index of the object that an anchor is
responsible for, `BACKGROUND`, or `IGNORED` (takes no part in the class loss). No rule holds all
M x A pairs at once, so that thousands of objects in a chip cost time, not memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.ops import box_iou

BACKGROUND = -1
IGNORED = -2

PAIRS_AT_ONCE = 1_000_000
"""Pairs of an object and an anchor that are compared in one go: some 4 MB a value."""


class Similarity(Protocol):
    """How alike objects and anchors are, between 0 and 1."""

    def likeness(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """Compare (M, 4) objects with (A, 4) anchors: (M, A)."""

    def near(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """Mark, (M,), the objects that may have likeness above 0 with some of the anchors."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Intersection over union."""

    def likeness(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """IoU of (M, 4) objects with (A, 4) anchors: (M, A)."""
        overlap: Tensor = box_iou(objects, anchors)
        return overlap

    def near(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """Mark, (M,), the objects that meet the rectangle around all the anchors."""
        low, high = anchors[:, :2].amin(dim=0), anchors[:, 2:].amax(dim=0)
        return ((objects[:, :2] < high) & (objects[:, 2:] > low)).all(dim=1)


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """Normalised Wasserstein distance as a likeness (arXiv 2110.13389, section 3).

    A box is the Gaussian with its centre and half its sides as standard deviations;
    NWD = exp(-W / constant) with W the second-order Wasserstein distance of the Gaussians. Unlike
    IoU it does not fall to 0 for tiny boxes a few pixels apart.
    """

    constant: float
    """About the mean object size of the data, in pixels (12.8 for AI-TOD)."""

    def likeness(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """NWD of (M, 4) objects with (A, 4) anchors: (M, A), 1 for equal boxes."""
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(_gaussians(objects), _gaussians(anchors), compute_mode=exact)
        return torch.exp(-apart / self.constant)

    def near(self, objects: Tensor, anchors: Tensor) -> Tensor:
        """Mark, (M,), every object: no distance is too far."""
        return torch.ones(len(objects), dtype=torch.bool, device=anchors.device)


_IOU = Overlap()


def max_similarity(
    anchors: Sequence[Tensor],
    objects: Tensor,
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    low_quality: bool = True,
    similarity: Similarity = _IOU,
) -> Tensor:
    """The paper's rule (section 4, Anchors), with IoU or another likeness.

    An anchor learns the object it is most like if the likeness is at least `positive`, is
    background below `negative`, and ignored between. With `low_quality` the anchors that some
    object is most like, all of them in a tie, also become positive, however little the likeness,
    as in torchvision and Detectron; each still learns the object that *it* is most like. An object
    that is like no anchor at all (likeness 0) gets none.

    Args:
        anchors: (A_l, 4) pixel edges for each level.
        objects: (M, 4) pixel edges; M may be 0.
        positive: Least likeness of a positive.
        negative: Likeness under which an anchor is background.
        low_quality: Whether each object's best anchors are positive in any case.
        similarity: How alike an object and an anchor are.

    Returns:
        (A,) int64.
    """
    every = torch.cat(list(anchors))
    if len(objects) == 0:
        return every.new_full((len(every),), BACKGROUND, dtype=torch.int64)
    objects = objects.to(every.dtype)
    owner = torch.zeros(len(every), dtype=torch.int64, device=every.device)
    best = torch.zeros_like(every[:, 0])  # of each anchor
    top = torch.zeros_like(objects[:, 0])  # of each object
    claims = []
    chunk = max(PAIRS_AT_ONCE // len(objects), 1)
    for start in range(0, len(every), chunk):
        part = slice(start, start + chunk)
        rows = similarity.near(objects, every[part]).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        likeness = similarity.likeness(objects[rows], every[part])  # (R, part)
        best[part], nearest = likeness.max(dim=0)
        owner[part] = rows[nearest]
        if low_quality:
            top[rows] = torch.maximum(top[rows], likeness.amax(dim=1))
            claims.append(_favourites(likeness, rows, top[rows], start))
    assigned = owner.clone()
    assigned.masked_fill_(best < positive, IGNORED).masked_fill_(best < negative, BACKGROUND)
    for row, anchor, value in claims:
        wanted = anchor[value == top[row]]
        assigned[wanted] = owner[wanted]
    return assigned


def adaptive(anchors: Sequence[Tensor], objects: Tensor, *, nearest: int = 9) -> Tensor:
    """Adaptive training sample selection, ATSS (arXiv 1912.02424, algorithm 1).

    Candidates of an object are, on each level, the `nearest` positions by distance of centres, with
    every anchor there (the authors' code, too, multiplies by the anchors of a position). Those
    whose IoU reaches mean + standard deviation of the candidates' IoU, and whose centre lies inside
    the object, are positive. An anchor that several objects claim goes to the one of highest IoU.

    Args:
        anchors: (A_l, 4) pixel edges for each level, the anchors of a position side by side.
        objects: (M, 4) pixel edges; M may be 0.
        nearest: Candidate positions of each level.

    Returns:
        (A,) int64; nothing is ignored.
    """
    every = torch.cat(list(anchors))
    assigned = every.new_full((len(every),), BACKGROUND, dtype=torch.int64)
    if len(objects) == 0:
        return assigned
    positions = _Positions(anchors)
    owners, claimed, overlaps = [], [], []
    for start in range(0, len(objects), positions.at_once):
        part = objects[start : start + positions.at_once].to(every.dtype)
        candidates = positions.nearest_anchors(part, nearest)  # (m, C)
        overlap, positive = _adaptive_positives(every[candidates], part)
        row, column = positive.nonzero(as_tuple=True)
        owners.append(row + start)
        claimed.append(candidates[row, column])
        overlaps.append(overlap[row, column])
    owner, anchor, overlap = torch.cat(owners), torch.cat(claimed), torch.cat(overlaps)
    highest = every.new_zeros(len(every)).scatter_reduce_(0, anchor, overlap, "amax")
    wins = overlap == highest[anchor]
    first = torch.full_like(assigned, len(objects))  # of objects in a tie, the first
    first.scatter_reduce_(0, anchor[wins], owner[wins], "amin")
    assigned[anchor[wins]] = first[anchor[wins]]
    return assigned


def best_iou(objects: Tensor, anchors: Sequence[Tensor]) -> Tensor:
    """Highest IoU of each object with any anchor, (M,).

    Of one shape, that is the anchor whose centre is nearest: moved away along either axis, it
    shares less with the object.

    Args:
        objects: (M, 4) pixel edges; M may be 0.
        anchors: (A_l, 4) pixel edges for each level, the anchors of a position side by side.
    """
    every = torch.cat(list(anchors))
    positions = _Positions(anchors)
    best = []
    for part in torch.split(objects.to(every.dtype), positions.at_once):
        candidates = positions.nearest_anchors(part, 1)  # (m, C)
        best.append(paired_iou(every[candidates], part[:, None]).amax(dim=1))
    return torch.cat(best)


def _favourites(
    likeness: Tensor, rows: Tensor, top: Tensor, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The anchors of one part that may be an object's best: objects, anchors, likenesses.

    Args:
        likeness: (R, part) of R objects with the part's anchors.
        rows: (R,) indices of the objects.
        top: (R,) highest likeness of each object with this part and those before.
        start: Index of the part's first anchor.
    """
    reached = (likeness == top[:, None]) & (top > 0)[:, None]
    row, column = reached.nonzero(as_tuple=True)
    return rows[row], column + start, likeness[row, column]


class _Positions:
    """Where the anchors of each level stand, several shapes at one position."""

    def __init__(self, anchors: Sequence[Tensor]) -> None:
        self._levels: list[tuple[Tensor, int, int]] = []  # centres (P, 2), shapes, first anchor
        first = 0
        for level in anchors:
            centres = (level[:, :2] + level[:, 2:]) / 2
            at_first = (centres - centres[0]).abs().amax(dim=1) < 1  # positions lie 4 px apart
            shapes = int(at_first.sum())
            self._levels.append((centres[::shapes], shapes, first))
            first += len(level)

    @property
    def at_once(self) -> int:
        """How many objects are compared with the positions in one go."""
        return max(PAIRS_AT_ONCE // max(len(centres) for centres, _, _ in self._levels), 1)

    def nearest_anchors(self, objects: Tensor, nearest: int) -> Tensor:
        """Indices of the anchors at each level's `nearest` positions: (M, C)."""
        middle = (objects[:, :2] + objects[:, 2:]) / 2
        chosen = []
        for centres, shapes, first in self._levels:
            x, y = centres.T
            distance = (middle[:, :1] - x) ** 2 + (middle[:, 1:] - y) ** 2  # (M, positions)
            positions = distance.topk(min(nearest, len(x)), largest=False).indices
            shape = torch.arange(shapes, device=centres.device)
            chosen.append((first + positions[:, :, None] * shapes + shape).flatten(1))
        return torch.cat(chosen, dim=1)


def _adaptive_positives(candidates: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each object with its candidates, (M, C), and which of them are positive, (M, C).

    Args:
        candidates: (M, C, 4) pixel edges.
        objects: (M, 4) pixel edges.
    """
    overlap = paired_iou(candidates, objects[:, None])
    spread = overlap.std(dim=1, keepdim=True, correction=min(1, overlap.shape[1] - 1))
    threshold = overlap.mean(dim=1, keepdim=True) + spread
    centres = (candidates[..., :2] + candidates[..., 2:]) / 2
    inside = (centres > objects[:, None, :2]) & (centres < objects[:, None, 2:])
    return overlap, (overlap >= threshold) & (overlap > 0) & inside.all(dim=-1)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes pair by pair: (..., 4) and (..., 4) to (...)."""
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    shared = sides.clamp(min=0).prod(dim=-1)
    sizes = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(
        -1
    )
    return shared / (sizes - shared)


def _gaussians(boxes: Tensor) -> Tensor:
    """Mean and standard deviations of each box's Gaussian: (N, 4) as x, y, sigma_x, sigma_y."""
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2], dim=1)
