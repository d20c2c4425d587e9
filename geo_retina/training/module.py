"""One training step and the optimiser, as a Lightning module."""

import pickle
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from geo_retina.card import ModelCard
from geo_retina.errors import ConfigError, TrainingError
from geo_retina.model.criterion import Criterion, LossSettings
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.model.settings import NetworkSettings
from geo_retina.training.dataset import Batch
from geo_retina.training.depthwise import FastDepthwise
from geo_retina.training.settings import ScheduleSettings

_LISTED = 4
_NETWORK_KEY = "network_settings"


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
        if schedule.backbone_learning_rate == 0:  # frozen: its gradients need not be computed
            self.network.backbone.requires_grad_(requires_grad=False)
        self.card = card
        self.criterion = Criterion(loss)
        self.schedule = schedule

    def transfer_batch_to_device(
        self,
        batch: Batch,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002
    ) -> Batch:
        """Let a GPU fetch the chips while the host goes on."""
        return batch.to(device, non_blocking=True)

    def on_train_epoch_start(self) -> None:
        """Start each epoch with random numbers of its own, so that a resumed run has the same.

        The statistics of a frozen backbone stay as they are, like its weights.
        """
        if self.schedule.backbone_learning_rate == 0:
            self.network.backbone.eval()
        torch.manual_seed(self.schedule.seed + 1_000_003 * self.current_epoch + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Losses of one batch; the key `loss` is minimised.

        Raises:
            TrainingError: The loss is not finite.
        """
        card = self.card
        images = normalise(
            batch.pixels, value_range=card.value_range, mean=card.mean, std=card.std
        ).contiguous(memory_format=torch.channels_last)
        with FastDepthwise():
            outputs = self.network(images)
        losses = self.criterion(outputs, self.network.anchors(images), batch.targets)
        if not torch.isfinite(losses.total):
            raise TrainingError(_not_finite(losses.total.item(), batch, batch_idx, self))
        found = {"loss": losses.total, "loss_classes": losses.classes, "loss_boxes": losses.boxes}
        if losses.objectness is not None:
            found["loss_objectness"] = losses.objectness
        if self.trainer.logger is not None:
            self.log_dict(found, batch_size=len(batch.pixels))
        return {name: value if name == "loss" else value.detach() for name, value in found.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the network: its anchors may be fitted to labels that change before a resume."""
        checkpoint[_NETWORK_KEY] = self.network.settings.model_dump(mode="json")

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:  # noqa: ARG002
        """End the training after its last step, be it in the middle of an epoch."""
        if self.global_step >= self.schedule.steps:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:  # noqa: ANN401  Lightning's own loose type
        """AdamW or SGD with warm-up and decay; no weight decay on norms and biases."""
        options = self.schedule
        groups = parameter_groups(self.network, options)
        optimiser: torch.optim.Optimizer
        if options.optimiser == "adamw":
            optimiser = torch.optim.AdamW(groups)
        else:
            optimiser = torch.optim.SGD(groups, momentum=options.momentum)
        factor = torch.optim.lr_scheduler.LambdaLR(optimiser, options.rate_factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": factor, "interval": "step"},
        }


def network_of_state(state: Path) -> NetworkSettings | None:
    """The network that a state has the weights of; None where an earlier version wrote it.

    Raises:
        ConfigError: The state cannot be read.
    """
    try:
        # Lightning's own states hold more than weights; mapped, the weights are not read yet.
        held = torch.load(state, map_location="cpu", weights_only=False, mmap=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"cannot resume: {state} is damaged ({error}); start a new run with another --out"
        ) from error
    settings = held.get(_NETWORK_KEY)
    return None if settings is None else NetworkSettings.model_validate(settings)


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


def _not_finite(loss: float, batch: Batch, number: int, module: DetectorModule) -> str:
    pixels = batch.pixels.float()
    if not torch.isfinite(pixels).all():
        why = "its pixels are not finite: mask them as nodata"
    elif not all(bool(torch.isfinite(item.boxes).all()) for item in batch.targets):
        why = "its boxes are not finite: mend the labels"
    else:
        why = "lower schedule.learning_rate, state a low schedule.clip_norm, or train in 32-true"
    return (
        f"the loss is {loss} in batch {number} of epoch {module.current_epoch} (step "
        f"{module.global_step}), cut from {'; '.join(batch.origins[:_LISTED])}: {why}"
    )
