"""The losses: from cross entropy to focal loss, and what the paper compares them with.

Class losses take the logits x of (A, K) independent binary problems (one sigmoid per class, section
3) and targets y in {0, 1} of the same shape. They return one value for each problem, (A, K), in
float32 for logits of half precision and in the precision of the logits otherwise, finite together
with their gradient for logits of +-100. The caller adds them up and divides by the number of
positive anchors (section 4).

With x_t = x where y = 1 and -x where y = 0 (appendix A), p_t = sigmoid(x_t) (equation 2) and
1 - p_t = sigmoid(-x_t): logarithms of both come from log-sigmoid, never from a rounded probability.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

_LEAST_SIDE_PX = 1e-3


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """CE(p_t) = -log(p_t), section 3, equation 1."""
    return -F.logsigmoid(_signed(logits, targets))


def balanced_cross_entropy(logits: Tensor, targets: Tensor, *, alpha: float) -> Tensor:
    """CE(p_t) = -alpha_t log(p_t), section 3.1, equation 3.

    `alpha` weighs positives, 1 - `alpha` negatives.
    """
    return _alpha_t(logits, targets, alpha) * cross_entropy(logits, targets)


def focal(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """FL(p_t) = -(1 - p_t)^gamma log(p_t), section 3.2, equation 4."""
    signed = _signed(logits, targets)
    return -torch.exp(gamma * F.logsigmoid(-signed)) * F.logsigmoid(signed)


def balanced_focal(logits: Tensor, targets: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), section 3.2, equation 5: the paper's loss."""
    return _alpha_t(logits, targets, alpha) * focal(logits, targets, gamma=gamma)


def focal_star(logits: Tensor, targets: Tensor, *, gamma: float, beta: float) -> Tensor:
    """FL* = -log(p_t*) / gamma with p_t* = sigmoid(gamma x_t + beta), appendix A."""
    return -F.logsigmoid(gamma * _signed(logits, targets) + beta) / gamma


def quality_focal(logits: Tensor, targets: Tensor, *, beta: float) -> Tensor:
    """QFL = -|y - s|^beta ((1 - y) log(1 - s) + y log(s)) with s = sigmoid(x) (arXiv 2006.04388).

    `targets` y may lie anywhere in 0..1: the score learns to be y, the quality of a box. With y in
    {0, 1} it is the focal loss of equation 4 with gamma = `beta`.
    """
    wide = at_least_float32(logits)
    targets = targets.to(wide.dtype)
    cross = -(targets * F.logsigmoid(wide) + (1 - targets) * F.logsigmoid(-wide))
    return (targets - wide.sigmoid()).abs() ** beta * cross


def hard_negatives(values: Tensor, positive: Tensor, *, ratio: float) -> Tensor:
    """Select all positives and the hardest negatives, `ratio` to one (SSD, arXiv 1512.02325).

    Args:
        values: (A,) cross entropy of each anchor.
        positive: (A,) mask of the anchors that learn an object.
        ratio: Negatives per positive; with no positive, as many as for one.

    Returns:
        (A,) mask of the anchors that count.
    """
    wanted = int(ratio * max(int(positive.sum()), 1))
    return positive | _hardest(values, ~positive, wanted)


def online_hard_examples(values: Tensor, *, count: int) -> Tensor:
    """Select the `count` anchors of highest loss, whatever they are (OHEM, arXiv 1604.03540).

    Args:
        values: (A,) cross entropy of each anchor that is not ignored.
        count: Anchors to keep.

    Returns:
        (A,) mask of the anchors that count.
    """
    return _hardest(values, torch.ones_like(values, dtype=torch.bool), count)


def smooth_l1(deltas: Tensor, targets: Tensor, *, beta: float) -> Tensor:
    """Smooth L1 of (P, 4) regression outputs, summed over the coordinates: (P,).

    Quadratic below `beta`, linear above (Fast R-CNN, arXiv 1504.08083, equation 3, has beta 1);
    beta 0 is plain L1.
    """
    deltas = at_least_float32(deltas)
    return F.smooth_l1_loss(deltas, targets.to(deltas.dtype), beta=beta, reduction="none").sum(-1)


def giou(boxes: Tensor, objects: Tensor) -> Tensor:
    """1 - GIoU of (P, 4) pixel edges (arXiv 1902.09630, algorithm 1): (P,).

    GIoU = IoU - (area of the enclosing box outside the union) / (area of the enclosing box).
    """
    loss: Tensor = generalized_box_iou_loss(*_same_type(boxes, objects))
    return loss


def diou(boxes: Tensor, objects: Tensor) -> Tensor:
    """1 - DIoU of (P, 4) pixel edges (arXiv 1911.08287, section 3): (P,).

    DIoU = IoU - (distance of the centres / diagonal of the enclosing box)^2.
    """
    loss: Tensor = distance_box_iou_loss(*_same_type(boxes, objects))
    return loss


def ciou(boxes: Tensor, objects: Tensor) -> Tensor:
    """1 - CIoU of (P, 4) pixel edges (arXiv 1911.08287, section 3): (P,).

    CIoU = DIoU - a v, v the squared difference of the angles atan(w / h) in units of pi / 2, and
    a = v / (1 - IoU + v). A side under a thousandth of a pixel counts as that, so that the angle
    and its gradient stay finite.
    """
    boxes, objects = _same_type(boxes, objects)
    loss: Tensor = complete_box_iou_loss(_with_sides(boxes), _with_sides(objects))
    return loss


def at_least_float32(values: Tensor) -> Tensor:
    """The same values, half precision widened to float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _signed(logits: Tensor, targets: Tensor) -> Tensor:
    """x_t of appendix A."""
    wide = at_least_float32(logits)
    return wide * (2 * targets.to(wide.dtype) - 1)


def _alpha_t(logits: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """`alpha` where the target is 1, 1 - `alpha` where it is 0."""
    positive = targets.to(at_least_float32(logits).dtype)
    return alpha * positive + (1 - alpha) * (1 - positive)


def _hardest(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Mask of the `count` highest of (A,) values where `among` holds."""
    count = min(count, int(among.sum()))
    ranked = values.detach().masked_fill(~among, -torch.inf).topk(count).indices
    mask = torch.zeros_like(among)
    mask[ranked] = True
    return mask


def _same_type(boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    boxes = at_least_float32(boxes)
    return boxes, objects.to(boxes.dtype)


def _with_sides(boxes: Tensor) -> Tensor:
    """The same boxes, each side at least `_LEAST_SIDE_PX`."""
    return torch.cat(
        [boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + _LEAST_SIDE_PX)], dim=1
    )
