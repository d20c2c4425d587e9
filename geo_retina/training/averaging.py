"""The moving average of the weights, which is what a training keeps."""

from collections.abc import Callable, Sequence

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from geo_retina.model.retinanet import RetinaNet
from geo_retina.training.module import DetectorModule


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, step by step.

    Args:
        decay: Of the average, at each step, when it has risen to it (`rising_average`).
        device: Where the average lies: by the weights, or each step would wait for copies.
            Lightning's own choice is made before it moves the weights to the GPU.
    """

    def __init__(self, *, decay: float, device: torch.device) -> None:
        super().__init__(device=device, multi_avg_fn=rising_average(decay))

    @property
    def network(self) -> RetinaNet:
        """The network with the average; only while Lightning fits, and after it."""
        averaged = self._average_model
        assert averaged is not None  # noqa: S101  # set up when fitting begins
        module = averaged.module
        assert isinstance(module, DetectorModule)  # noqa: S101
        return module.network


def rising_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]:
    """An average whose decay rises to `decay` as (1 + n) / (4 + n), n the weights seen so far.

    With a fixed decay of 0.998 half the average of the first 350 steps would be the very first
    weights, which have learned nothing. While it rises, the weights of step s count as s squared:
    the polynomial-decay averaging of arXiv 1212.1824.
    """

    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], seen: Tensor) -> None:
        steps = int(seen)  # once for all tensors: on a GPU this waits for it
        new = 1 - min(decay, (1 + steps) / (4 + steps))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, new)
            else:  # counts of batches
                average.copy_(current)

    return update


def kept_network(module: DetectorModule, averaged: AveragedWeights | None) -> RetinaNet:
    """The weights to keep: the average, or without one the last."""
    return module.network if averaged is None else averaged.network
