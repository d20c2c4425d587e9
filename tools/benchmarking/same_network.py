"""One network for all: ResNet-50-FPN RetinaNet in torchvision's layout, with seeded weights.

Weights of no training find nothing: every score is the prior. So the statistics of batch norm are
taken from chips of the raster, and the last layer is scaled until the scores of its anchors spread
as a trained detector's do, with a wanted number of boxes above a score.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor, nn
from torchvision.models import detection

from geo_retina.card import ModelCard
from geo_retina.model.checkpoint import save_checkpoint
from geo_retina.model.convert import convert_state_dict

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCORE = 0.3
"""Boxes above it are what is found: SAHI's default."""
CANDIDATES_PER_LEVEL = 1000
DETECTIONS_PER_CHIP = 300
"""torchvision's limits, which DeepForest and SAHI leave as they are."""


def make_weights(
    chips: Sequence[NDArray[np.uint8]], *, share: float, seed: int
) -> dict[str, Tensor]:
    """Weights in torchvision's layout, with frozen batch norm, for one class.

    Args:
        chips: (3, H, W) 8-bit chips of the raster.
        share: Part of all anchors that shall score above `SCORE`.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    network = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=1)
    pixels = torch.from_numpy(np.stack(chips)).float() / 255
    images = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the mean over all that it sees, which is one batch
        network.train().backbone(images)
        levels = list(network.eval().backbone(images).values())
        last = network.head.classification_head.cls_logits
        # 1.2 is about the deviation of logits of a trained detector on its background
        last.weight.mul_(1.2 / network.head(levels)["cls_logits"].std())
        logits = network.head(levels)["cls_logits"].flatten()
        wanted = torch.quantile(logits[:: len(logits) // 1_000_000 + 1], 1 - share)
        last.bias.add_(float(np.log(SCORE / (1 - SCORE))) - wanted)
        network.head.regression_head.bbox_reg.weight.mul_(5)
    state: Mapping[str, Tensor] = network.state_dict()
    return {name: value for name, value in state.items() if "num_batches_tracked" not in name}


def read_chips(raster: Path, *, chip_px: int, count: int) -> list[NDArray[np.uint8]]:
    """Chips (3, chip_px, chip_px) along the diagonal of a raster."""
    with rasterio.open(raster) as file:
        places = np.linspace(0, 1, count)
        spare = np.array([file.width - chip_px, file.height - chip_px])
        corners = (places[:, None] * spare).astype(int)
        return [
            file.read([1, 2, 3], window=Window(col, row, chip_px, chip_px))
            for col, row in corners.tolist()
        ]


def write_checkpoint(
    path: Path, state: Mapping[str, Tensor], *, chip_px: int, overlap_px: int, gsd_m: float
) -> None:
    """Convert the weights to a checkpoint of geo_retina with torchvision's limits and scaling."""
    card = ModelCard(
        name=path.stem,
        summary="Random weights, to measure speed with.",
        licence="CC0-1.0",
        class_names=("tree",),
        bands=("red", "green", "blue"),
        dtype="uint8",
        value_range=(0, 255),
        mean=MEAN,
        std=STD,
        gsd_m=gsd_m,
        coarsest_gsd_m=2 * gsd_m,
        chip_px=chip_px,
        overlap_px=overlap_px,
        score=SCORE,
        nms_iou=0.5,
        candidates_per_level=CANDIDATES_PER_LEVEL,
        detections_per_chip=DETECTIONS_PER_CHIP,
    )
    save_checkpoint(path, convert_state_dict(state), card)
