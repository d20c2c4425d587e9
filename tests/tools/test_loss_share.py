import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "tools" / "figures"))

import loss_share

from geo_retina.model.criterion import MaxIou, Targets
from geo_retina.model.retinanet import build_retinanet
from geo_retina.model.settings import NetworkSettings


def test_shares_rise_to_one_and_are_those_of_the_formula() -> None:
    p = np.array([0.2, 0.9, 0.5])
    found = loss_share.cumulative_share(torch.tensor(p).logit(), target=1, gamma=2)
    values = np.sort(-((1 - p) ** 2) * np.log(p))
    assert found == pytest.approx(np.cumsum(values) / values.sum())
    background = loss_share.cumulative_share(torch.tensor(1 - p).logit(), target=0, gamma=2)
    assert background == pytest.approx(found)


def test_equal_anchors_share_equally_whatever_gamma() -> None:
    shares = loss_share.cumulative_share(torch.full((10,), -3.0), target=0, gamma=5)
    assert shares == pytest.approx(np.arange(1, 11) / 10)
    assert loss_share.share_of_hardest(shares, 0.2) == pytest.approx(0.2)
    assert loss_share.share_of_hardest(shares, 1.0) == 1


def test_gamma_moves_the_loss_to_the_hard() -> None:
    logits = torch.linspace(-6, 2, 500)
    held = [
        loss_share.share_of_hardest(loss_share.cumulative_share(logits, target=0, gamma=g), 0.1)
        for g in loss_share.GAMMAS
    ]
    assert held == sorted(held)
    assert held[-1] > held[0] + 0.2


def test_foreground_background_and_ignored_anchors_are_told_apart() -> None:
    settings = NetworkSettings.model_validate(
        {
            "num_classes": 2,
            "backbone": {"name": "timm:test_efficientnet"},
            "levels": (3, 4),
            "pyramid_width": 8,
            "head": {"depth": 0},
            "anchors": {"sizes": ((16,), (32,)), "ratios": (1.0,)},
        }
    )
    network = build_retinanet(settings).eval()
    targets = Targets(torch.tensor([[8.0, 8.0, 24.0, 24.0]]), torch.tensor([1]))
    images = torch.zeros(1, 3, 64, 64)
    rule = MaxIou(positive=0.7, negative=0.2)
    found = loss_share.chip_logits(network, images, targets, rule)
    assigned = rule.assign(network.anchors(images), targets.boxes)
    assert len(found.foreground) == int((assigned >= 0).sum()) > 0
    assert len(found.background) == 2 * int((assigned == -1).sum())
    assert int((assigned == -2).sum()) > 0
    with torch.inference_mode():
        logits = network(images).logits[0]
    assert torch.equal(found.foreground, logits[assigned >= 0][:, 1])
