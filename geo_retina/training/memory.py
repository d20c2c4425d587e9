"""Will a batch fit into memory? Measured on one chip before the training starts."""

import os
from pathlib import Path

import psutil
import torch
from torch import Tensor

from geo_retina.detection.torch_device import setting_up
from geo_retina.errors import DeviceError
from geo_retina.model.criterion import Criterion, Targets
from geo_retina.model.retinanet import RetinaNet
from geo_retina.training.settings import TrainingSettings

_OPTIMISER_COPIES = {"adamw": 2, "sgd": 1}
_CGROUP = Path("/sys/fs/cgroup")
_HALF = 0.5  # of the activations, roughly, in mixed precision


def refuse_too_large_batch(
    network: RetinaNet, settings: TrainingSettings, device: torch.device
) -> None:
    """Compare what a batch needs with what the device has free.

    Raises:
        DeviceError: It needs more.
    """
    free = free_bytes(device)
    needed = training_bytes(network, settings)
    if needed > free:
        raise DeviceError(
            f"a batch of {settings.schedule.batch} chips of {settings.augment.crop_px} px needs "
            f"about {needed / 2**30:.1f} GiB to train, {device} has {free / 2**30:.1f} GiB free; "
            f"{advice(settings)}"
        )


def advice(settings: TrainingSettings) -> str:
    """Which settings to lower."""
    schedule = settings.schedule
    return (
        f"lower schedule.batch (now {schedule.batch}; raise schedule.accumulate as much to learn "
        f"the same), augment.crop_px (now {settings.augment.crop_px}), or set schedule.precision "
        "to bf16-mixed"
    )


def training_bytes(network: RetinaNet, settings: TrainingSettings) -> int:
    """Memory of weights, gradients, the optimiser's state, and of one batch until its backward.

    One chip is sent through the network, on its device, and what autograd keeps of it is counted.
    """
    kept = _saved_bytes(network, settings)
    if settings.schedule.precision != "32-true":
        kept = int(kept * _HALF)
    weights = sum(item.numel() * item.element_size() for item in network.parameters())
    copies = 2 + _OPTIMISER_COPIES[settings.schedule.optimiser]
    copies += settings.schedule.ema_decay > 0
    return kept * settings.schedule.batch + weights * copies


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had.

    Raises:
        DeviceError: The device is a GPU that cannot be used.
    """
    if device.type == "cuda":
        # of several processes each has the device of its own number; Lightning sets it later
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        with setting_up(device):
            free, _ = torch.cuda.mem_get_info(index)
        return int(free)
    in_group = _free_in_group()
    on_machine = int(psutil.virtual_memory().available)
    return on_machine if in_group is None else min(on_machine, in_group)


def _saved_bytes(network: RetinaNet, settings: TrainingSettings) -> int:
    sizes: dict[tuple[int, int], int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    device = next(network.parameters()).device
    size = settings.augment.crop_px
    image = torch.zeros(1, len(settings.card.bands), size, size, device=device)
    nothing = Targets(
        torch.zeros(0, 4, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    )
    was_training = network.training
    network.eval()  # leave batch-norm statistics alone
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
            # Held until all is counted: what autograd keeps must not be freed and used again.
            losses = Criterion(settings.loss)(network(image), network.anchors(image), [nothing])
            del losses
    finally:
        network.train(was_training)
    return sum(bytes_ for (pointer, _), bytes_ in sizes.items() if pointer not in own)


def _free_in_group() -> int | None:
    """What a container may still take (control groups, version 2)."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used
