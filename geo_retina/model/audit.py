"""Do the anchors fit the objects? The share of objects that anything can be learned for, by size.

The audit asks the real assignment rule, chip by chip, before any training: an object that no anchor
is responsible for is one the network is never shown, and recall cannot rise above the share of the
others. It needs boxes only, no pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from geo_retina.errors import LabelError
from geo_retina.model.anchors import chip_anchors
from geo_retina.model.assign import best_iou
from geo_retina.model.criterion import Assignment, Targets
from geo_retina.model.settings import NetworkSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE_EDGES_PX = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, np.inf)
"""Bins of the size of an object, the square root of its area: octaves."""


@dataclass(frozen=True, slots=True, eq=False)
class AnchorAudit:
    """What becomes of M objects under a set of anchors and an assignment rule."""

    sizes_px: NDArray[np.float64]
    """(M,) square roots of the objects' areas, in chip pixels."""
    positives: NDArray[np.int64]
    """(M,) anchors that learn each object."""
    best_iou: NDArray[np.float64]
    """(M,) highest IoU of each object with any anchor."""
    separable: NDArray[np.bool_]
    """(M,) False where NMS drops the object beside another of its class, however well both are
    found."""

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.sizes_px)

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """(M,) whether at least one anchor learns the object."""
        return self.positives > 0

    @property
    def recall_ceiling(self) -> float:
        """Share of the objects that are learnable and separable; NaN without objects."""
        return _share(self.learnable & self.separable)

    def by_size(self) -> list["SizeBin"]:
        """Sum the objects up by `SIZE_EDGES_PX`; bins without objects are left out."""
        bins = []
        for low, high in pairwise(SIZE_EDGES_PX):
            inside = (self.sizes_px >= low) & (self.sizes_px < high)
            if inside.any():
                bins.append(
                    SizeBin(
                        low_px=float(low),
                        high_px=float(high),
                        objects=int(inside.sum()),
                        learnable=_share(self.learnable[inside]),
                        recall_ceiling=_share((self.learnable & self.separable)[inside]),
                        positives=float(self.positives[inside].mean()),
                        best_iou=float(self.best_iou[inside].mean()),
                    )
                )
        return bins


@dataclass(frozen=True, slots=True)
class SizeBin:
    """The objects of one range of sizes."""

    low_px: float
    """Least square root of the area, in chip pixels."""
    high_px: float
    """Upper edge, itself outside."""
    objects: int
    learnable: float
    """Share of the objects that at least one anchor learns."""
    recall_ceiling: float
    """Share that is learnable and not dropped by NMS."""
    positives: float
    """Mean number of anchors that learn an object."""
    best_iou: float
    """Mean over the objects of the highest IoU with any anchor."""


def audit_anchors(
    chips: Iterable[Targets],
    *,
    network: NetworkSettings,
    assignment: Assignment,
    chip_px: int,
    nms_iou: float,
) -> AnchorAudit:
    """Assign the anchors of every chip to its objects and count.

    With `low_quality`, a rule gives every object some anchor in the end; audit with it off to see
    which objects reach the thresholds by themselves.

    Args:
        chips: The objects of each chip, as `chips_of` or the training's dataset cuts them.
        network: Levels and anchors.
        assignment: Rule of the training.
        chip_px: Side of a chip.
        nms_iou: Overlap above which detection drops one of two boxes of a class.
    """
    anchors = chip_anchors(
        network.anchors,
        levels=network.levels,
        height=chip_px,
        width=chip_px,
        device=torch.device("cpu"),
    )
    parts = [np.zeros((0, 4))]
    for chip in chips:
        owners = assignment.assign(anchors, chip.boxes)
        count = torch.bincount(owners[owners >= 0], minlength=len(chip.boxes))
        apart = torch.zeros(len(chip.boxes), dtype=torch.bool)
        apart[_kept_by_nms(chip, nms_iou)] = True
        sides = chip.boxes[:, 2:] - chip.boxes[:, :2]
        columns = (sides.prod(dim=1).sqrt(), count, best_iou(chip.boxes, anchors), apart)
        parts.append(torch.stack([column.double() for column in columns], dim=1).numpy())
    table = np.concatenate(parts)  # (M, [size, positives, best IoU, separable])
    return AnchorAudit(table[:, 0], table[:, 1].astype(np.int64), table[:, 2], table[:, 3] > 0)


def chips_of(
    boxes: NDArray[np.floating], class_ids: NDArray[np.integer], *, chip_px: int
) -> list[Targets]:
    """Place the objects of a raster in chips laid edge to edge; each goes whole, once.

    An object belongs to the chip that its centre lies in, and is cut at that chip's edges.

    Args:
        boxes: (M, 4) pixel edges in the raster's frame.
        class_ids: (M,).
        chip_px: Edge of a chip, in pixels.

    Returns:
        The chips that have objects, in the chips' own frames.

    Raises:
        LabelError: A box has no area.
    """
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise LabelError("expected boxes with x_min < x_max and y_min < y_max; drop the empty ones")
    cells = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 / chip_px).astype(np.int64)
    order = np.lexsort(cells.T[::-1])  # by cell, and within one as they came
    places, firsts = np.unique(cells[order], axis=0, return_index=True)
    chips = []
    for place, inside in zip(places, np.split(order, firsts)[1:], strict=True):
        local = np.clip(boxes[inside] - np.tile(place * chip_px, 2), 0, chip_px)
        chips.append(
            Targets(
                torch.from_numpy(local.astype(np.float32)),
                torch.from_numpy(class_ids[inside].astype(np.int64)),
            )
        )
    return chips


def draw_audit(audits: dict[str, AnchorAudit]) -> "Figure":
    """Draw, by size, how many objects there are and which share of them is learnable.

    Args:
        audits: One or more audits of the same objects, by the name to show, such as those of the
            paper's anchors and of fitted ones.

    Returns:
        A figure; `figure.savefig(path)` writes it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    counts, shares = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    rows = {name: audit.by_size() for name, audit in audits.items()}
    seen = {(row.low_px, row.high_px): row.objects for bins in rows.values() for row in bins}
    ordered = sorted(seen)
    counts.bar(range(len(ordered)), [seen[edges] for edges in ordered], color="0.6")
    counts.set_ylabel("objects")
    bar = 0.8 / max(len(rows), 1)
    for number, (name, bins) in enumerate(rows.items()):
        places = [ordered.index((row.low_px, row.high_px)) for row in bins]
        left = np.array(places) - 0.4 + bar * (number + 0.5)
        label = f"{name}: ceiling of recall {audits[name].recall_ceiling:.1%}"
        shares.bar(left, [row.recall_ceiling for row in bins], width=bar, label=label)
    shares.set_ylim(0, 1.02)
    shares.set_ylabel("share with an anchor\n(and kept by NMS)")
    shares.set_xlabel("square root of the object's area, chip pixels")
    shares.set_xticks(range(len(ordered)), [_range_text(*edges) for edges in ordered])
    shares.legend(loc="lower right")
    return figure


def _kept_by_nms(chip: Targets, nms_iou: float) -> torch.Tensor:
    """Indices of the objects that NMS keeps if all are found exactly and score alike."""
    scores = torch.ones(len(chip.boxes))
    kept: torch.Tensor = batched_nms(chip.boxes.float(), scores, chip.class_ids, nms_iou)
    return kept


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else float("nan")


def _range_text(low_px: float, high_px: float) -> str:
    return f">= {low_px:g}" if np.isinf(high_px) else f"{low_px:g}-{high_px:g}"
