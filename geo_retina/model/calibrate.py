"""Scores that are hit rates: a temperature and a shift, folded into the weights."""

import copy

import torch

from geo_retina.errors import ModelError
from geo_retina.model.retinanet import RetinaNet


def calibrated_network(network: RetinaNet, *, temperature: float, shift: float) -> RetinaNet:
    """A copy whose class logits are those of `network`, divided by `temperature`, plus `shift`.

    The last convolution of the class subnet is linear, so it takes both in: nothing else of the
    network, of an exported graph, or of detection needs to know. The order of the detections stays.

    Args:
        network: Is not changed.
        temperature: Over 0.
        shift: Added to the logits.

    Raises:
        ModelError: The temperature is not over 0, or scores are factored into objectness and class,
            of whose product this would be no temperature.
    """
    if not temperature > 0:
        raise ModelError(f"a temperature must be over 0, got {temperature}")
    if network.heads.factored:
        raise ModelError(
            "a network with objectness (head.objectness) cannot be calibrated: its scores are "
            "products; train it without"
        )
    changed = copy.deepcopy(network)
    last = changed.heads.classes.last
    with torch.no_grad():
        last.weight.div_(temperature)
        if last.bias is not None:
            last.bias.div_(temperature).add_(shift)
    return changed
