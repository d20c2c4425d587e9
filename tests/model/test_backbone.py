import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from geo_retina.errors import ModelError
from geo_retina.model.backbone import (
    TimmBackbone,
    adapt_filters,
    build_backbone,
    fix_padding,
)
from geo_retina.model.settings import BackboneSettings


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("resnet18", 3),
        ("resnet18", 5),
        ("timm:test_resnet", 4),
        ("timm:test_efficientnet", 1),
        ("timm:test_convnext", 6),
        ("timm:dla46_c", 3),  # has features at stride 1, so numbers are not positions
    ],
)
def test_features_have_the_promised_strides_and_channels(name: str, bands: int) -> None:
    backbone = build_backbone(BackboneSettings(name=name), bands).eval()
    stages = backbone(torch.zeros(2, bands, 64, 96))
    expected = [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(stage.shape) for stage in stages] == expected
    assert backbone.in_bands == bands


@pytest.mark.slow
def test_windowed_transformers_take_any_chip() -> None:
    backbone = build_backbone(BackboneSettings(name="timm:swin_tiny_patch4_window7_224"), 3).eval()
    stages = backbone(torch.zeros(1, 3, 96, 160))
    assert [tuple(stage.shape[1:]) for stage in stages] == [
        (channels, 96 // stride, 160 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_resnet_is_torchvision_s() -> None:
    theirs = resnet18(weights=None).eval()
    ours = build_backbone(BackboneSettings(name="resnet18"), 3).eval()
    state = {name: value for name, value in theirs.state_dict().items() if "fc." not in name}
    ours.load_state_dict(
        {name: value for name, value in state.items() if "num_batches" not in name}
    )
    images = torch.rand(1, 3, 64, 64)
    expected = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images)))))
    torch.testing.assert_close(ours(images)[0], expected)


@pytest.mark.parametrize("name", ["resnet18", "timm:test_resnet"])
def test_frozen_batch_norm_never_learns(name: str) -> None:
    backbone = build_backbone(BackboneSettings(name=name), 3)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.eval()
    backbone.train()
    sum(stage.sum() for stage in backbone(torch.rand(2, 3, 64, 64))).backward()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    norms = [key for key in before if "bn" in key and key.endswith((".weight", ".bias"))]
    learning = {key for key, value in backbone.named_parameters() if value.grad is not None}
    assert norms
    assert not learning & set(norms)
    assert learning


def test_unfrozen_batch_norm_learns() -> None:
    settings = BackboneSettings(name="timm:test_resnet", frozen_batch_norm=False)
    backbone = build_backbone(settings, 3).train()
    backbone(torch.rand(2, 3, 64, 64))
    assert any(
        layer.num_batches_tracked > 0
        for layer in backbone.modules()
        if isinstance(layer, nn.BatchNorm2d)
    )


def test_a_frozen_backbone_can_be_copied_and_pickled() -> None:
    backbone = build_backbone(BackboneSettings(name="timm:test_resnet"), 3)
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):  # noqa: S301
        twin.train()
        assert not any(
            layer.training for layer in twin.modules() if isinstance(layer, nn.BatchNorm2d)
        )


@pytest.mark.parametrize("name", ["resnet18", "timm:test_resnet"])
@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_eps_is_what_was_asked_for(name: str, *, frozen: bool) -> None:
    settings = BackboneSettings(name=name, frozen_batch_norm=frozen, batch_norm_eps=0.125)
    eps = {layer.eps for layer in build_backbone(settings, 3).modules() if hasattr(layer, "eps")}
    assert eps == {0.125}


@pytest.mark.parametrize("bands", [1, 2, 4, 5, 6, 9])
def test_adapted_filters_answer_alike_to_bands_that_are_alike(bands: int) -> None:
    filters = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    grey = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    wider = adapt_filters(filters, bands)
    assert wider.shape == (8, bands, 7, 7)
    torch.testing.assert_close(
        nn.functional.conv2d(grey.expand(1, bands, -1, -1), wider),
        nn.functional.conv2d(grey.expand(1, 3, -1, -1), filters),
        atol=1e-4,
        rtol=1e-4,
    )


def test_adapted_filters_repeat_the_bands_they_know() -> None:
    filters = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapt_filters(filters, 3), filters)
    torch.testing.assert_close(adapt_filters(filters, 6), filters.repeat(1, 2, 1, 1) / 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet19", "unknown backbone 'resnet19'; known: resnet18"),
        ("timm:no_such_network", "cannot build features of 'no_such_network'"),
        ("timm:hf-hub:someone/network", "got the address 'hf-hub:someone/network'"),
        ("timm:local-dir:/somewhere", "got the address"),
        ("timm:test_vit", "must offer features at strides 4, 8, 16 and 32"),
    ],
)
def test_an_unusable_backbone_is_an_error(name: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        build_backbone(BackboneSettings(name=name), 3)


def test_timm_names_may_carry_their_prefix_only_once() -> None:
    backbone = build_backbone(BackboneSettings(name="timm:test_resnet"), 3)
    assert isinstance(backbone, TimmBackbone)
    assert backbone.architecture == "test_resnet"


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100"])
def test_padding_that_is_fixed_is_tensorflow_s(name: str) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name, features_only=True).eval()
    ours = copy.deepcopy(theirs)
    fix_padding(ours)
    assert not any(type(layer).__name__ == "Conv2dSame" for layer in ours.modules())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(ours(image), theirs(image), strict=True):
            assert torch.equal(one, other)
