from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geo_retina.errors import ConfigError, LabelError
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.model.audit import AnchorAudit
from geo_retina.model.checkpoint import save_checkpoint
from geo_retina.model.criterion import Targets
from geo_retina.model.retinanet import RetinaNet, build_retinanet
from geo_retina.model.settings import NetworkSettings
from geo_retina.training import network as network_module
from geo_retina.training.anchors import propose_anchors
from geo_retina.training.data import read_data
from geo_retina.training.memory import free_bytes, training_bytes
from geo_retina.training.network import (
    audit_chips,
    audit_network,
    audit_text,
    resolve_network,
)
from geo_retina.training.start import fill_network, start_network


def _tiny(recipe: Callable[..., Any], **changes: Any) -> NetworkSettings:
    network = recipe().network
    return NetworkSettings.model_validate(network.model_dump() | changes)


def _fresh(settings: NetworkSettings, seed: int = 0) -> RetinaNet:
    torch.manual_seed(seed)
    return build_retinanet(settings).eval()


def _audited(chips: list[Targets], settings: Any) -> AnchorAudit:
    return audit_chips(
        chips,
        network=settings.network,
        assignment=settings.loss.assignment,
        chip_px=64,
        nms_iou=0.5,
    )


def test_anchors_are_fitted_unless_stated(recipe: Callable[..., Any], field_data: Path) -> None:
    stated = recipe()
    assert resolve_network(stated, ()) == stated.network
    settings = recipe(network__levels=None, network__anchors=None)
    rasters = read_data(settings, field_data).train
    fitted = resolve_network(settings, rasters)
    assert fitted.levels == (2,), "all objects have sides of 12 px"
    assert np.mean(fitted.anchors.sizes[0]) == pytest.approx(12, abs=0.5)
    audit = audit_network(fitted, settings, rasters)
    assert len(audit) == sum(len(item) for item in rasters)
    assert audit.recall_ceiling > 0.9
    told = audit_text(audit, objects=len(audit))
    assert told.startswith(f"{len(audit)} objects audited; recall cannot exceed")


def test_of_many_objects_some_are_audited(
    recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe()
    low = torch.cartesian_prod(torch.arange(4.0, 60, 28), torch.arange(4.0, 60, 14))
    boxes = torch.cat([low, low + 12], dim=1)
    chips = [Targets(boxes, torch.zeros(len(boxes), dtype=torch.int64))] * 10
    for most, expected in ((10_000, 80), (80, 80), (20, 24), (1, 8)):
        monkeypatch.setattr(network_module, "_ENOUGH_AUDITED_OBJECTS", most)
        audit = _audited(chips, settings)
        assert len(audit) == expected
        told = audit_text(audit, objects=80).splitlines()[0]
        assert ("a sample of the chips" in told) == (expected < 80)
    assert told.startswith("8 of 80 objects audited (a sample of the chips); recall")


def test_objects_that_lie_in_one_of_many_chips_are_audited(
    recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe()
    monkeypatch.setattr(network_module, "_ENOUGH_AUDITED_OBJECTS", 20)
    low = torch.cartesian_prod(torch.arange(4.0, 60, 8), torch.arange(4.0, 60, 8))
    crowded = Targets(torch.cat([low, low + 6], dim=1), torch.zeros(49, dtype=torch.int64))
    lone = Targets(torch.tensor([[4.0, 4, 60, 60]]), torch.zeros(1, dtype=torch.int64))
    for place in range(10):
        chips = [lone] * place + [crowded] + [lone] * (9 - place)
        audit = _audited(chips, settings)
        assert (audit.sizes_px < 10).sum() == 49


def test_the_audit_counts_no_forced_matches(recipe: Callable[..., Any], field_data: Path) -> None:
    settings = recipe(network__anchors={"sizes": ((100,), (200,)), "ratios": (1.0,)})
    rasters = read_data(settings, field_data).train
    assert settings.loss.assignment.low_quality
    assert audit_network(settings.network, settings, rasters).recall_ceiling == 0


def test_starting_from_itself_changes_nothing(
    recipe: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    known, network = _fresh(_tiny(recipe), 1), _fresh(_tiny(recipe), 2)
    card = make_card()
    assert fill_network(network, known, card=card, known_card=card) == ()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(image).logits, known(image).logits)


def test_classes_keep_their_filters_by_name(
    recipe: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    known_card = make_card(class_names=("tree", "shrub"))
    card = make_card(class_names=("car", "shrub", "tree"))
    known = _fresh(_tiny(recipe, num_classes=2), 1)
    network = _fresh(_tiny(recipe, num_classes=3), 2)
    fill_network(network, known, card=card, known_card=known_card)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = known(image), network(image)
    torch.testing.assert_close(after.logits[..., [2, 1]], before.logits)
    torch.testing.assert_close(after.deltas, before.deltas)
    assert after.logits[..., 0].sigmoid().mean() == pytest.approx(0.01, rel=0.2)


def test_new_and_dropped_classes_are_told(
    recipe: Callable[..., Any], make_card: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="geo_retina")

    def told(*names: str, of: NetworkSettings) -> str:
        caplog.clear()
        network = _fresh(of.model_copy(update={"num_classes": len(names)}), 2)
        fill_network(
            network,
            _fresh(_tiny(recipe, num_classes=2), 1),
            card=make_card(class_names=names),
            known_card=make_card(class_names=("tree", "shrub")),
        )
        return caplog.text

    text = told("car", "tree", of=_tiny(recipe))
    assert "classes that start from nothing: car\n" in text
    assert "classes that are dropped: shrub\n" in text
    assert "new are" not in text
    assert "classes that" not in told("shrub", "tree", of=_tiny(recipe))
    other = told("car", "bus", of=_tiny(recipe))
    assert "new are heads.classes.last.weight, heads.classes.last.bias" in other
    assert "start from nothing: car, bus\n" in other
    assert "dropped: tree, shrub\n" in other
    assert 'classes = { "car" = "tree" }' in other
    wide = told("shrub", "tree", of=_tiny(recipe, head={"depth": 1, "width": 24}))
    assert "start from nothing: shrub, tree\n" in wide
    assert "dropped" not in wide


def test_bands_keep_their_filters_by_name(
    recipe: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    card = make_card(bands=("nir", "blue", "green", "red"), mean=(0.5,) * 4, std=(0.2,) * 4)
    known, network = _fresh(_tiny(recipe), 1), _fresh(_tiny(recipe, in_bands=4), 2)
    fill_network(network, known, card=card, known_card=make_card())
    image = torch.rand(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits, known(image[:, [3, 2, 1]]).logits)


def test_what_does_not_fit_starts_new(
    recipe: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    known = _fresh(_tiny(recipe), 1)
    wide = _fresh(_tiny(recipe, head={"depth": 1, "width": 24}), 2)
    fresh = fill_network(wide, known, card=make_card(), known_card=make_card())
    assert fresh
    assert all(name.startswith("heads.") for name in fresh)


def test_starting_from_a_checkpoint_takes_its_network(
    recipe: Callable[..., Any], make_card: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "known.safetensors"
    known = _fresh(_tiny(recipe), 1)
    save_checkpoint(path, known, make_card())
    two = make_card(class_names=("tree", "car")).model_dump()
    settings = recipe(network=None, start_from=str(path), card=two)
    network_settings = resolve_network(settings, ())
    assert network_settings.num_classes == 2
    assert network_settings.anchors == known.settings.anchors
    network = start_network(network_settings, settings).network.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits[..., :1], known(image).logits)


def test_a_pretrained_backbone_stays_beside_the_rest_of_another_model(
    recipe: Callable[..., Any], make_card: Callable[..., Any], tmp_path: Path
) -> None:
    path, backbone = tmp_path / "known.safetensors", tmp_path / "backbone.pth"
    known = _fresh(_tiny(recipe), 1)
    save_checkpoint(path, known, make_card())
    other = _fresh(_tiny(recipe), 2)
    torch.save(other.backbone.body.state_dict(), backbone)
    settings = recipe(start_from=str(path), pretrained=str(backbone))
    network = start_network(_tiny(recipe), settings).network
    for name, tensor in network.state_dict().items():
        given = other if name.startswith("backbone.") else known
        assert torch.equal(tensor, given.state_dict()[name]), name


def test_memory_grows_with_the_batch_and_the_chip(recipe: Callable[..., Any]) -> None:
    network = _fresh(_tiny(recipe))
    statistics = {k: v.clone() for k, v in network.state_dict().items()}
    small = training_bytes(network, recipe())
    assert training_bytes(network, recipe(schedule__batch=20)) > 5 * small
    large = recipe(augment__crop_px=128, card__chip_px=128)
    assert training_bytes(network, large) > 2.5 * small
    assert all(torch.equal(statistics[k], v) for k, v in network.state_dict().items())


def test_free_memory_is_told_on_linux() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20


def test_proposed_anchors_say_what_they_find(
    write_raster: Callable[..., Path], field_of_objects: Callable[..., Any], tmp_path: Path
) -> None:
    pixels, boxes = field_of_objects(120, 100)
    path = write_raster("a.tif", pixels)
    labelled = [LabelledRaster(str(path), Labels.of(boxes, np.zeros(len(boxes)), ["tree"]))]
    proposed = propose_anchors(labelled, gsd_m=0.05, chip_px=128)
    assert proposed.proposal.levels == (2,), "sides of 12 px at 0.1 m are 24 px at 0.05 m"
    assert proposed.fitted.recall_ceiling > proposed.paper.recall_ceiling
    assert "[network.anchors]" in proposed.to_text()
    assert proposed.draw(tmp_path / "audit.png").stat().st_size > 1000
    with pytest.raises(LabelError, match="anchors need objects"):
        propose_anchors(
            [LabelledRaster(str(path), Labels.empty(["tree"]))], gsd_m=None, chip_px=128
        )


@pytest.mark.parametrize("frozen", [True, False])
def test_a_random_backbone_under_frozen_batch_norm_is_warned_of(
    recipe: Callable[..., Any], caplog: pytest.LogCaptureFixture, frozen: bool
) -> None:
    settings = recipe(network__backbone__frozen_batch_norm=frozen)
    start_network(settings.network, settings)
    assert ("random weights" in caplog.text) is frozen


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedule__batch": 1}, True),
        ({"schedule__batch": 1, "schedule__accumulate": 4}, True),
        ({"schedule__batch": 2}, False),
        ({"schedule__batch": 1, "schedule__backbone_learning_rate": 0}, False),
        ({"schedule__batch": 1, "network__backbone__frozen_batch_norm": True}, False),
        ({"schedule__batch": 1, "network__backbone__name": "timm:convnext_atto"}, False),
    ],
)
def test_batch_norm_that_learns_from_one_chip_at_a_time_is_warned_of(
    recipe: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    told: bool,
) -> None:
    settings = recipe(**changes)
    start_network(settings.network, settings)
    assert ("one chip at a time" in caplog.text) is told


def test_batch_norm_of_a_single_position_is_refused(recipe: Callable[..., Any]) -> None:
    settings = recipe(schedule__batch=1, augment__crop_px=32)
    with pytest.raises(ConfigError, match="single position"):
        start_network(settings.network, settings)
    pair = recipe(schedule__batch=2, augment__crop_px=32)
    start_network(pair.network, pair)


def test_a_backbone_that_another_model_cannot_fill_is_warned_of_too(
    recipe: Callable[..., Any],
    make_card: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    path = tmp_path / "known.safetensors"
    save_checkpoint(path, _fresh(_tiny(recipe)), make_card())
    backbone = {"name": "timm:test_resnet", "frozen_batch_norm": True}
    settings = recipe(start_from=str(path), network__backbone=backbone)
    start_network(settings.network, settings)
    assert "random weights" in caplog.text
    caplog.clear()
    same = recipe(start_from=str(path), network__backbone__frozen_batch_norm=True)
    start_network(same.network, same)
    assert "random weights" not in caplog.text


@pytest.mark.parametrize(
    ("gsd_m", "told"), [(0.1, False), (0.14, False), (1.0, True), (0.05, True)]
)
def test_another_gsd_than_that_of_the_first_weights_is_warned_of(
    recipe: Callable[..., Any],
    make_card: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    gsd_m: float,
    told: bool,
) -> None:
    path = tmp_path / "known.safetensors"
    save_checkpoint(path, _fresh(_tiny(recipe)), make_card())
    settings = recipe(start_from=str(path), card__gsd_m=gsd_m, card__coarsest_gsd_m=2.0)
    start_network(settings.network, settings)
    assert ("times as large to the network" in caplog.text) is told
