"""How imbalanced the anchors of a recipe are, before anything is learned."""

from dataclasses import dataclass
from pathlib import Path

import torch

from geo_retina.model.anchors import chip_anchors
from geo_retina.model.assign import BACKGROUND
from geo_retina.model.criterion import Targets
from geo_retina.training.data import read_data
from geo_retina.training.dataset import RandomChips
from geo_retina.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class AnchorCounts:
    """Anchors of some training chips, all chips together."""

    objects: int
    with_anchor: int
    """Objects that some anchor learns."""
    foreground: int
    background: int

    def __str__(self) -> str:
        return (
            f"{self.background / max(self.foreground, 1):.0f} background anchors for each "
            f"foreground one, {self.foreground / max(self.objects, 1):.1f} foreground anchors an "
            f"object, {self.with_anchor / max(self.objects, 1):.1%} of {self.objects} objects "
            "with an anchor"
        )


def training_targets(settings: TrainingSettings, data: Path, *, chips: int) -> list[Targets]:
    """Objects of the first chips of a training."""
    drawn = RandomChips(
        read_data(settings, data).train,
        card=settings.card,
        augment=settings.augment,
        seed=settings.schedule.seed,
    )
    return [drawn[number].targets for number in range(chips)]


def count_anchors(settings: TrainingSettings, targets: list[Targets]) -> AnchorCounts:
    """Assign the anchors of a recipe, which states its network, to objects of chips, and count."""
    assert settings.network is not None  # noqa: S101  # the study's recipes state theirs
    anchors = chip_anchors(
        settings.network.anchors,
        levels=settings.network.levels,
        height=settings.augment.crop_px,
        width=settings.augment.crop_px,
        device=torch.device("cpu"),
    )
    assigned = [settings.loss.assignment.assign(anchors, chip.boxes) for chip in targets]
    return AnchorCounts(
        objects=sum(len(chip.boxes) for chip in targets),
        with_anchor=sum(len(set(owners[owners >= 0].tolist())) for owners in assigned),
        foreground=sum(int((owners >= 0).sum()) for owners in assigned),
        background=sum(int((owners == BACKGROUND).sum()) for owners in assigned),
    )
