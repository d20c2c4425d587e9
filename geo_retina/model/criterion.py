"""From the network's outputs and the labelled objects to the loss: assign, select, add up.

The three steps stand in `Criterion.forward` one after the other. What each step does is a settings
value with its own `kind`, so that a TOML file chooses it and another rule is one more class here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from geo_retina.errors import LabelError
from geo_retina.model import assign, losses
from geo_retina.model.anchors import decode, encode
from geo_retina.model.heads import HeadOutputs
from geo_retina.plain import Plain


def _none_as_a_word(value: object) -> object:
    return None if value == "none" else value


Alpha = Annotated[Annotated[float, Field(gt=0, lt=1)] | None, BeforeValidator(_none_as_a_word)]
"""Weight of positives against negatives, or None; "none" in TOML, which knows no null."""


class _ClassLoss(Plain, ABC):
    learns_overlap: ClassVar[bool] = False
    """Whether the target of a positive is the IoU of its box with the object, not 1."""

    @abstractmethod
    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem; 0 for anchors that are not selected."""


class CrossEntropy(_ClassLoss):
    """Cross entropy (equation 1), balanced by `alpha` (equation 3) if given."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    alpha: Alpha = None

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem."""
        if self.alpha is None:
            return losses.cross_entropy(logits, targets)
        return losses.balanced_cross_entropy(logits, targets, alpha=self.alpha)


class Focal(_ClassLoss):
    """Focal loss (equation 4), balanced by `alpha` (equation 5) unless it is None."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)
    alpha: Alpha = 0.25

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem."""
        if self.alpha is None:
            return losses.focal(logits, targets, gamma=self.gamma)
        return losses.balanced_focal(logits, targets, gamma=self.gamma, alpha=self.alpha)


class FocalStar(_ClassLoss):
    """FL* (appendix A); the paper tries gamma 2, beta 1 and gamma 4, beta 0."""

    kind: Literal["focal_star"] = "focal_star"
    gamma: float = Field(default=2.0, gt=0)
    beta: float = 1.0

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem."""
        return losses.focal_star(logits, targets, gamma=self.gamma, beta=self.beta)


class QualityFocal(_ClassLoss):
    """Quality focal loss: the score of a positive learns the IoU of its box with the object."""

    kind: Literal["quality_focal"] = "quality_focal"
    beta: float = Field(default=2.0, ge=1)
    learns_overlap: ClassVar[bool] = True

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem; targets anywhere in 0..1."""
        return losses.quality_focal(logits, targets, beta=self.beta)


class HardNegatives(_ClassLoss):
    """Cross entropy on the positives and `ratio` times as many hardest negatives (SSD)."""

    kind: Literal["hard_negatives"] = "hard_negatives"
    ratio: float = Field(default=3.0, gt=0)

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem; 0 for anchors that are not selected."""
        values = losses.cross_entropy(logits, targets)
        mask = losses.hard_negatives(values.sum(dim=1), targets.any(dim=1), ratio=self.ratio)
        return values * mask[:, None]


class OnlineHardExamples(_ClassLoss):
    """Cross entropy on the `count` anchors of a chip with the highest loss (OHEM)."""

    kind: Literal["ohem"] = "ohem"
    count: int = Field(default=256, gt=0)

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each (A, K) problem; 0 for anchors that are not selected."""
        values = losses.cross_entropy(logits, targets)
        mask = losses.online_hard_examples(values.sum(dim=1), count=self.count)
        return values * mask[:, None]


class SmoothL1(Plain):
    """Smooth L1 on the regression targets; beta 0 is L1.

    The paper takes Fast R-CNN's, which is that of beta 1; detectron2's RetinaNet has 0.1.
    """

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: float = Field(default=0.1, ge=0)
    weight: float = Field(default=1.0, gt=0)

    def values(self, deltas: Tensor, anchors: Tensor, objects: Tensor) -> Tensor:
        """Loss of each of P positive anchors."""
        return self.weight * losses.smooth_l1(deltas, encode(objects, anchors), beta=self.beta)


class OverlapLoss(Plain):
    """1 - generalised, distance or complete IoU of the decoded box and the object."""

    kind: Literal["giou", "diou", "ciou"] = "giou"
    weight: float = Field(default=1.0, gt=0)

    def values(self, deltas: Tensor, anchors: Tensor, objects: Tensor) -> Tensor:
        """Loss of each of P positive anchors."""
        rule = {"giou": losses.giou, "diou": losses.diou, "ciou": losses.ciou}[self.kind]
        return self.weight * rule(decode(losses.at_least_float32(deltas), anchors), objects)


class _Thresholds(Plain, ABC):
    """Assignment by two thresholds of likeness."""

    kind: str
    positive: float = Field(default=0.5, gt=0, le=1)
    negative: float = Field(default=0.4, ge=0, le=1)
    low_quality: bool = True
    """Whether each object's best anchors are positive in any case, as in torchvision and Detectron;
    the paper has no such rule."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.negative > self.positive:
            raise ValueError(
                f"negative {self.negative:g} must not be over positive {self.positive:g}: anchors "
                "between them would be background all the same"
            )
        return self

    def _assign(
        self, anchors: Sequence[Tensor], objects: Tensor, similarity: assign.Similarity
    ) -> Tensor:
        return assign.max_similarity(
            anchors,
            objects,
            positive=self.positive,
            negative=self.negative,
            low_quality=self.low_quality,
            similarity=similarity,
        )


class MaxIou(_Thresholds):
    """The paper's assignment by IoU thresholds (section 4)."""

    kind: Literal["max_iou"] = "max_iou"

    def assign(self, anchors: Sequence[Tensor], objects: Tensor) -> Tensor:
        """Object index, BACKGROUND or IGNORED of each anchor."""
        return self._assign(anchors, objects, assign.Overlap())


class Adaptive(Plain):
    """ATSS: thresholds from the statistics of each object's candidates."""

    kind: Literal["atss"] = "atss"
    nearest: int = Field(default=9, gt=0)

    def assign(self, anchors: Sequence[Tensor], objects: Tensor) -> Tensor:
        """Object index or BACKGROUND of each anchor."""
        return assign.adaptive(anchors, objects, nearest=self.nearest)


class Wasserstein(_Thresholds):
    """The paper's rule on the normalised Wasserstein distance, for tiny objects."""

    kind: Literal["nwd"] = "nwd"
    positive: float = Field(default=0.7, gt=0, le=1)
    negative: float = Field(default=0.3, ge=0, le=1)
    constant: float = Field(default=12.8, gt=0)
    """About the mean object size of the data, in chip pixels."""

    def assign(self, anchors: Sequence[Tensor], objects: Tensor) -> Tensor:
        """Object index, BACKGROUND or IGNORED of each anchor."""
        return self._assign(anchors, objects, assign.Wasserstein(self.constant))


ClassLoss = Annotated[
    CrossEntropy | Focal | FocalStar | QualityFocal | HardNegatives | OnlineHardExamples,
    Field(discriminator="kind"),
]
BoxLoss = Annotated[SmoothL1 | OverlapLoss, Field(discriminator="kind")]
Assignment = Annotated[MaxIou | Adaptive | Wasserstein, Field(discriminator="kind")]


class LossSettings(Plain):
    """What is learned from which anchor."""

    classes: ClassLoss = Focal()
    boxes: BoxLoss = SmoothL1()
    assignment: Assignment = MaxIou()
    divide_by: Literal["batch", "chip"] = "batch"
    """Divide the sums by the positives of the whole batch, that of all processes which train
    together; or of each chip and average over the chips as torchvision does."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The labelled objects of one chip; M may be 0."""

    boxes: Tensor
    """(M, 4) pixel edges in the chip's frame."""
    class_ids: Tensor
    """(M,) int64 in 0..K-1."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.class_ids.shape != (count,):
            raise LabelError(
                "expected boxes of shape (M, 4) and class_ids of shape (M,), got "
                f"{tuple(self.boxes.shape)} and {tuple(self.class_ids.shape)}"
            )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Targets":
        """The same objects on another device."""
        return Targets(
            self.boxes.to(device, non_blocking=non_blocking),
            self.class_ids.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Targets":
        """The same objects in memory that a GPU fetches by itself."""
        return Targets(self.boxes.pin_memory(), self.class_ids.pin_memory())


@dataclass(frozen=True, slots=True)
class Losses:
    """The parts of the loss of one batch, each a scalar."""

    classes: Tensor
    boxes: Tensor
    objectness: Tensor | None

    @property
    def total(self) -> Tensor:
        """The value to minimise."""
        parts = self.classes + self.boxes
        return parts if self.objectness is None else parts + self.objectness


class Criterion(nn.Module):
    """The loss of a batch of chips."""

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, outputs: HeadOutputs, anchors: Sequence[Tensor], targets: Sequence[Targets]
    ) -> Losses:
        """Assign each anchor, take the losses of those that take part, divide by the positives.

        Args:
            outputs: Of N chips.
            anchors: (A_l, 4) for each level, the same for every chip.
            targets: The objects of each of the N chips.

        Raises:
            LabelError: A class id is not one of the network's.
        """
        _check_class_ids(torch.cat([chip.class_ids for chip in targets]), outputs.logits.shape[2])
        every = torch.cat(list(anchors))
        sums = []
        for index, chip in enumerate(targets):
            with torch.no_grad():
                assigned = self.settings.assignment.assign(anchors, chip.boxes)
            sums.append(self._chip(outputs, index, every, assigned, chip))
        table = torch.stack(sums)  # (N, [classes, boxes, objectness, positives])
        values, positives = table[:, :3], table[:, 3:]
        if self.settings.divide_by == "batch":
            means = values.sum(dim=0) / _share_of_positives(positives.detach().sum())
        else:
            means = (values / positives.clamp(min=1)).mean(dim=0)
        return Losses(means[0], means[1], None if outputs.objectness is None else means[2])

    def _chip(
        self,
        outputs: HeadOutputs,
        index: int,
        anchors: Tensor,
        assigned: Tensor,
        chip: Targets,
    ) -> Tensor:
        """Sums over one chip's anchors: class loss, box loss, objectness loss, positives.

        Where the score is factored, the imbalance lies in objectness: the chosen class loss acts
        on that, and the classes are learned from positives alone (as in YOLOv2), by cross entropy.
        """
        logits, deltas = outputs.logits[index], outputs.deltas[index]
        learning = assigned >= 0
        # places, not masks: the host waits for a GPU each time it is to index by a mask
        positive = learning.nonzero().squeeze(1)
        taking_part = (assigned != assign.IGNORED).nonzero().squeeze(1)
        owners = assigned[positive]
        found = learning.to(losses.at_least_float32(logits).dtype)
        if self.settings.classes.learns_overlap:
            with torch.no_grad():
                boxes = decode(losses.at_least_float32(deltas[positive]), anchors[positive])
                found[positive] = assign.paired_iou(boxes, chip.boxes[owners]).to(found.dtype)
        classes = torch.zeros_like(logits, dtype=found.dtype)
        rule = self.settings.classes.values
        if outputs.objectness is None:
            classes[positive, chip.class_ids[owners]] = found[positive]
            class_loss = rule(logits[taking_part], classes[taking_part]).sum()
            objectness_loss = torch.zeros_like(class_loss)
        else:
            classes[positive, chip.class_ids[owners]] = 1
            class_loss = losses.cross_entropy(logits[positive], classes[positive]).sum()
            objectness = outputs.objectness[index][taking_part, None]  # (A', 1)
            objectness_loss = rule(objectness, found[taking_part, None]).sum()
        box_loss = self.settings.boxes.values(
            deltas[positive], anchors[positive], chip.boxes[owners]
        ).sum()
        count = learning.sum().to(class_loss.dtype)
        return torch.stack([class_loss, box_loss, objectness_loss, count])


def _share_of_positives(positives: Tensor) -> Tensor:
    """What a process divides its sums by: all positives, or its share where several train together.

    So the mean over the processes, which DDP takes of their gradients, is that of one process with
    all the chips (as DETR's loss does it).
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return positives.clamp(min=1)
    torch.distributed.all_reduce(positives)
    return positives.clamp(min=1) / torch.distributed.get_world_size()


def _check_class_ids(class_ids: Tensor, num_classes: int) -> None:
    if len(class_ids) == 0:
        return
    lowest, highest = torch.stack(class_ids.aminmax()).tolist()
    if not 0 <= lowest <= highest < num_classes:
        raise LabelError(
            f"expected class ids in 0..{num_classes - 1}, got {lowest} to {highest}; background is "
            "no class, and num_classes must count the rest"
        )
