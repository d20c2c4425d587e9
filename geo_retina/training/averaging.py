"""The moving average of the weights, which is what a training keeps."""

import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from geo_retina.model.retinanet import RetinaNet
from geo_retina.training.module import DetectorModule


class AveragedWeights(EMAWeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, step by step.

    Args:
        decay: Of the average, at each step.
        device: Where the average lies: by the weights, or each step would wait for copies.
            Lightning's own choice is made before it moves the weights to the GPU.
    """

    def __init__(self, *, decay: float, device: torch.device) -> None:
        super().__init__(device=device, decay=decay)

    @property
    def network(self) -> RetinaNet:
        """The network with the average; only while Lightning fits, and after it."""
        averaged = self._average_model
        assert averaged is not None  # noqa: S101  # set up when fitting begins
        module = averaged.module
        assert isinstance(module, DetectorModule)  # noqa: S101
        return module.network


def kept_network(module: DetectorModule, averaged: AveragedWeights | None) -> RetinaNet:
    """The weights to keep: the average, or without one the last."""
    return module.network if averaged is None else averaged.network
