import pytest

from geo_retina.errors import ModelError
from geo_retina.model.calibrate import calibrated_network
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import NetworkSettings


def _network(*, objectness: bool) -> RetinaNet:
    return build_retinanet(
        NetworkSettings.model_validate(
            {
                "num_classes": 2,
                "backbone": {"name": "timm:test_efficientnet"},
                "pyramid_width": 16,
                "levels": (3,),
                "head": {"depth": 0, "width": 16, "objectness": objectness},
                "anchors": {"sizes": ((16,),), "ratios": (1.0,)},
            }
        )
    )


def test_the_given_network_stays_as_it_was() -> None:
    network = _network(objectness=False)
    bias = network.heads.classes.last.bias
    assert bias is not None
    before = bias.clone()
    changed = calibrated_network(network, temperature=2, shift=1).heads.classes.last.bias
    assert bias.equal(before)
    assert changed is not None
    assert changed.detach().allclose(before / 2 + 1)


def test_what_cannot_be_calibrated() -> None:
    with pytest.raises(ModelError, match="objectness"):
        calibrated_network(_network(objectness=True), temperature=1.5, shift=0)
    with pytest.raises(ModelError, match="over 0"):
        calibrated_network(_network(objectness=False), temperature=0, shift=0)
