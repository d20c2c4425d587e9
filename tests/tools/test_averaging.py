import sys
from pathlib import Path

import numpy as np
import torch

from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import BackboneSettings, HeadSettings, NetworkSettings

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import average_weights
import cross_validate


def _network(seed: int) -> RetinaNet:
    torch.manual_seed(seed)
    return build_retinanet(
        NetworkSettings(
            num_classes=1,
            backbone=BackboneSettings(name="timm:test_efficientnet", frozen_batch_norm=False),
            pyramid_width=8,
            head=HeadSettings(depth=0, width=8),
        )
    )


def test_the_average_is_the_mean_of_weights_and_statistics() -> None:
    networks = [_network(seed) for seed in range(3)]
    for number, network in enumerate(networks):
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.fill_(number)
    states = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    mean = average_weights.averaged(networks).state_dict()
    statistics = [name for name in mean if name.endswith("running_mean")]
    assert statistics
    for name, value in mean.items():
        if value.is_floating_point():
            expected = sum(state[name] for state in states) / 3
            torch.testing.assert_close(value, expected)
    assert all(torch.equal(mean[name], torch.ones_like(mean[name])) for name in statistics)


def test_rasters_are_dealt_out_site_by_site() -> None:
    names = [f"{site}_{number}.tif" for site in ("NIWO", "SJER") for number in range(5)]
    labels = Labels.of(np.zeros((0, 4)), [], ("Tree",))
    labelled = [LabelledRaster(name, labels, site=name[:4]) for name in reversed(names)]
    parts = cross_validate.dealt_out(labelled, 2)
    assert sorted(item.raster for part in parts for item in part) == names
    for part in parts:
        assert {sum(item.site == site for item in part) for site in ("NIWO", "SJER")} == {2, 3}
