"""One training step and the optimiser, as a Lightning module."""

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from geo_retina.card import ModelCard
from geo_retina.errors import TrainingError
from geo_retina.model.criterion import Criterion, LossSettings, Targets
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.training.settings import ScheduleSettings


class DetectorModule(pl.LightningModule):
    """Loss of a batch, optimiser and learning-rate schedule."""

    def __init__(
        self,
        network: RetinaNet,
        *,
        card: ModelCard,
        loss: LossSettings,
        schedule: ScheduleSettings,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.card = card
        self.criterion = Criterion(loss)
        self.schedule = schedule

    def training_step(self, batch: tuple[Tensor, Sequence[Targets]], batch_idx: int) -> Tensor:
        """Loss of one batch.

        Raises:
            TrainingError: The loss is not finite.
        """
        pixels, targets = batch
        images = normalise(
            pixels, value_range=self.card.value_range, mean=self.card.mean, std=self.card.std
        ).contiguous(memory_format=torch.channels_last)
        losses = self.criterion(self.network(images), self.network.anchors(images), targets)
        if not torch.isfinite(losses.total):
            raise TrainingError(
                f"the loss is {losses.total.item()} in batch {batch_idx} of epoch "
                f"{self.current_epoch}: lower schedule.learning_rate or look at that batch's labels"
            )
        self.log_dict(
            {"loss": losses.total, "loss_classes": losses.classes, "loss_boxes": losses.boxes},
            prog_bar=True,
            batch_size=len(pixels),
        )
        total: Tensor = losses.total
        return total

    def configure_optimizers(self) -> Any:  # noqa: ANN401  Lightning's own loose type
        """AdamW or SGD with warm-up and cosine; no decay on norms and biases."""
        options = self.schedule
        groups = parameter_groups(self.network, options)
        optimiser: torch.optim.Optimizer
        if options.optimiser == "adamw":
            optimiser = torch.optim.AdamW(groups)
        else:
            optimiser = torch.optim.SGD(groups, momentum=options.momentum)
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(step, options)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": factor, "interval": "step"},
        }


def parameter_groups(network: nn.Module, options: ScheduleSettings) -> list[dict[str, Any]]:
    """Split parameters by learning rate (backbone or not) and weight decay (matrices or not)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": options.backbone_learning_rate if backbone else options.learning_rate,
            "weight_decay": options.weight_decay if decayed else 0.0,
        }
        for (backbone, decayed), parameters in groups.items()
    ]


def rate_factor(step: int, options: ScheduleSettings) -> float:
    """Share of the full learning rate at `step`: linear warm-up, then a cosine to 0."""
    if step < options.warm_up_steps:
        return (step + 1) / options.warm_up_steps
    rest = max(options.steps - options.warm_up_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - options.warm_up_steps) / rest, 1)))
