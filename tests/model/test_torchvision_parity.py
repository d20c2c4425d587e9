"""Same weights, same images: what torchvision's RetinaNets give is what ours give."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from geo_retina.errors import ModelError
from geo_retina.model.anchors import chip_anchors
from geo_retina.model.convert import (
    TORCHVISION_ANCHORS,
    ConvertedModel,
    convert_state_dict,
)
from geo_retina.model.criterion import (
    Criterion,
    Focal,
    LossSettings,
    MaxIou,
    OverlapLoss,
    SmoothL1,
    Targets,
)
from geo_retina.model.decode import decode_chips
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.model.settings import octave_sizes
from geo_retina.model.state_dict import read_state_dict
from geo_retina.model.thresholds import Thresholds

HEIGHT, WIDTH = 160, 192  # no multiple of 128: the coarse levels' spacing shows
CLASSES = 7
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
LIMITS = Thresholds(score=0.05, nms_iou=0.5, candidates_per_level=1000, detections_per_chip=300)


@dataclass
class Pair:
    theirs: nn.Module
    ours: RetinaNet
    loss: LossSettings
    pixels: Tensor
    images: Tensor


def targets_of() -> list[Targets]:
    random = torch.Generator().manual_seed(5)
    low = torch.rand(12, 2, generator=random) * 100
    boxes = torch.cat([low, low + 6 + 50 * torch.rand(12, 2, generator=random)], dim=1)
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return [Targets(boxes, torch.randint(CLASSES, (12,), generator=random)), nothing]


@pytest.fixture(scope="module", params=["v1", "v2"])
def pair(request: pytest.FixtureRequest) -> Pair:
    torch.manual_seed(0)
    build = {
        "v1": detection.retinanet_resnet50_fpn,
        "v2": detection.retinanet_resnet50_fpn_v2,
    }[request.param]
    theirs = build(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=HEIGHT, max_size=WIDTH
    )
    pixels = torch.rand(2, 3, HEIGHT, WIDTH)
    images = normalise(
        pixels, value_range=(0, 1), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    with torch.no_grad():  # weights of an unlearned network say nothing: give them life
        for layer in theirs.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        theirs.train().backbone(images)
        theirs.eval()
        deviation = theirs.head(list(theirs.backbone(images).values()))["cls_logits"].std()
        theirs.head.classification_head.cls_logits.weight.mul_(1.5 / deviation)
        theirs.head.regression_head.bbox_reg.weight.mul_(10)
    ours = convert_state_dict(theirs.state_dict())
    boxes = SmoothL1(beta=0) if request.param == "v1" else OverlapLoss(kind="giou")
    loss = LossSettings(
        classes=Focal(gamma=2, alpha=0.25), boxes=boxes, assignment=MaxIou(), divide_by="chip"
    )
    return Pair(theirs, ours, loss, pixels, images)


def test_settings_are_read_off_the_weights(pair: Pair) -> None:
    settings = pair.ours.settings
    second = settings.head.norm == "group"
    assert settings.backbone.name == "resnet50"
    assert settings.num_classes == CLASSES
    assert settings.levels == (3, 4, 5, 6, 7)
    assert settings.p6_from == ("c5" if second else "p5")
    assert settings.anchors == TORCHVISION_ANCHORS


def test_outputs_are_equal(pair: Pair) -> None:
    with torch.inference_mode():
        expected = pair.theirs.head(list(pair.theirs.eval().backbone(pair.images).values()))
        found = pair.ours.eval()(pair.images)
    assert found.logits.std() > 0.5
    torch.testing.assert_close(found.logits, expected["cls_logits"], **CLOSE)
    torch.testing.assert_close(found.deltas, expected["bbox_regression"], **CLOSE)


def test_detections_are_equal_in_order(pair: Pair) -> None:
    with torch.inference_mode():
        expected = pair.theirs.eval()(list(pair.pixels))
        found = decode_chips(
            pair.ours.eval()(pair.images),
            pair.ours.anchors(pair.images),
            height=HEIGHT,
            width=WIDTH,
            thresholds=LIMITS,
        )
    for mine, other in zip(found, expected, strict=True):
        assert len(other["boxes"]) > 20
        torch.testing.assert_close(mine.boxes, other["boxes"], atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(mine.scores, other["scores"], **CLOSE)
        assert torch.equal(mine.class_ids, other["labels"])


def test_training_losses_and_gradients_are_equal(pair: Pair) -> None:
    targets = targets_of()
    plain = [{"boxes": chip.boxes, "labels": chip.class_ids} for chip in targets]
    theirs, ours = copy.deepcopy(pair.theirs).train(), copy.deepcopy(pair.ours).train()
    expected = theirs(list(pair.pixels), plain)
    found = Criterion(pair.loss)(ours(pair.images), ours.anchors(pair.images), targets)
    torch.testing.assert_close(found.classes, expected["classification"], **CLOSE)
    torch.testing.assert_close(found.boxes, expected["bbox_regression"], **CLOSE)
    sum(expected.values()).backward()
    found.total.backward()
    for one, other in (
        (ours.heads.classes.last, theirs.head.classification_head.cls_logits),
        (ours.heads.boxes.last, theirs.head.regression_head.bbox_reg),
        (ours.backbone.conv1, theirs.backbone.body.conv1),
    ):
        scale = other.weight.grad.abs().max()
        torch.testing.assert_close(
            one.weight.grad / scale, other.weight.grad / scale, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("pair", ["v1"], indirect=True)
def test_files_of_deepforest_load_with_and_without_prefix(pair: Pair, tmp_path: Path) -> None:
    plain = {name: value.contiguous() for name, value in pair.theirs.state_dict().items()}
    save_file(plain, tmp_path / "hub.safetensors")
    prefixed = {f"model.{name}": value for name, value in plain.items()}
    prefixed["iou_metric.total"] = torch.zeros(1)
    torch.save({"state_dict": prefixed, "epoch": 3}, tmp_path / "trained.ckpt")
    for name in ("hub.safetensors", "trained.ckpt"):
        again = convert_state_dict(read_state_dict(tmp_path / name)).state_dict()
        assert all(
            torch.equal(again[key], tensor) for key, tensor in pair.ours.state_dict().items()
        )


def test_frozen_batch_norm_and_its_eps_are_kept(pair: Pair) -> None:
    state = {
        name: value for name, value in pair.theirs.state_dict().items() if "num_batches" not in name
    }
    network = convert_state_dict(state, batch_norm_eps=0)
    assert network.settings.backbone.frozen_batch_norm
    norms = [layer for layer in network.backbone.modules() if hasattr(layer, "running_var")]
    assert {layer.eps for layer in norms} == {0}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in norms)


@pytest.mark.parametrize("pair", ["v1"], indirect=True)  # the second came with new names
def test_names_from_before_torchvision_0_13_are_known(pair: Pair) -> None:
    old = {}
    for name, value in pair.theirs.state_dict().items():
        parts = name.split(".")
        if "conv" in parts and parts[0] == "head":
            parts = [*parts[:3], str(2 * int(parts[3])), parts[-1]]
        elif "inner_blocks" in parts or "layer_blocks" in parts:
            parts.pop(-2)
        old[".".join(parts)] = value
    assert old.keys() != pair.theirs.state_dict().keys()
    again = convert_state_dict(old).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in pair.ours.state_dict().items())


def test_another_network_is_an_error(pair: Pair) -> None:
    state = pair.theirs.state_dict()
    with pytest.raises(ModelError, match=r"'head\.regression_head\.bbox_reg\.weight' is not among"):
        convert_state_dict({k: v for k, v in state.items() if "bbox_reg" not in k})
    with pytest.raises(
        ModelError, match=r"(?s)differs from torchvision's layout.*head\.third\.weight"
    ):
        convert_state_dict(state | {"head.third.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="weights have 9 anchors a position, the anchors given 3"):
        convert_state_dict(
            state,
            anchors=TORCHVISION_ANCHORS.model_copy(
                update={"sizes": octave_sizes(range(3, 8), per_octave=1)}
            ),
        )
    with pytest.raises(ModelError, match="7 blocks in its third stage"):
        convert_state_dict(state | {"backbone.body.layer3.6.conv1.weight": torch.zeros(1)})


def test_anchors_of_other_sizes_lie_as_torchvisions_do(make_card: Callable[..., Any]) -> None:
    """A file of weights with anchors of its own, of which its user states the sizes alone."""
    sizes = ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    stated = ConvertedModel.model_validate(
        {"card": make_card().model_dump(), "anchors": {"sizes": sizes, "ratios": (0.5, 1.0, 2.0)}}
    )
    theirs = AnchorGenerator(
        tuple((int(size),) for (size,) in sizes), ((0.5, 1.0, 2.0),) * len(sizes)
    )
    images = torch.zeros(1, 3, 256, 320)
    strides = (8, 16, 32, 64, 128)
    features = [torch.zeros(1, 1, -(-256 // s), -(-320 // s)) for s in strides]
    (expected,) = theirs(ImageList(images, [(256, 320)]), features)
    levels, device = (3, 4, 5, 6, 7), torch.device("cpu")
    found = chip_anchors(stated.anchors, levels=levels, height=256, width=320, device=device)
    torch.testing.assert_close(torch.cat(found), expected)
