import pytest
import torch
from pytorch_lightning.callbacks.weight_averaging import AveragedModel

from geo_retina.training.averaging import rising_average


@pytest.mark.parametrize(("steps", "decay"), [(60, 0.998), (2000, 0.9)])
def test_the_average_follows_weights_from_the_first_steps_on(steps: int, decay: float) -> None:
    """Weights that rise by 1 a step: the average lags by a quarter of them, or as decay says."""
    weights = torch.nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(weights, multi_avg_fn=rising_average(decay))
    for step in range(1, steps + 1):
        weights.weight.data.fill_(step)
        averaged.update_parameters(weights)
    lag = steps - averaged.module.weight.item()
    assert lag == pytest.approx(min(steps / 4, decay / (1 - decay)), rel=0.1)


def test_counts_of_batches_are_taken_over_and_what_stands_still_stays() -> None:
    layer = torch.nn.BatchNorm1d(2)
    averaged = AveragedModel(layer, multi_avg_fn=rising_average(0.9), use_buffers=True)
    before = layer.weight.detach().clone()
    for _ in range(5):
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked += 3
        averaged.update_parameters(layer)
    assert averaged.module.num_batches_tracked == 15
    assert torch.equal(averaged.module.weight, before)
