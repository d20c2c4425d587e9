import csv
import json
import math
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from geo_retina.detection.run import detect
from geo_retina.errors import ConfigError, DeviceError, LabelError, TrainingError
from geo_retina.evaluation.metrics import OperatingPoint
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.model.anchor_fit import AnchorProposal
from geo_retina.model.checkpoint import read_info
from geo_retina.model.settings import AnchorSettings
from geo_retina.training import depthwise, records
from geo_retina.training.data import read_data
from geo_retina.training.fit import _check_precision, fit
from geo_retina.training.network import audit_network, resolve_network
from geo_retina.training.rasters import prepare_rasters
from geo_retina.training.records import TrainingProgress
from geo_retina.training.run_folder import RECIPE_NAME, STATE_NAME
from geo_retina.training.sources import Reading
from geo_retina.training.surroundings import STARTS_NAME
from geo_retina.training.validation import measure

Recipe = Callable[..., Any]


class _PulledPlugError(Exception):
    pass


def _pull_plug_at(step: int) -> Callable[[TrainingProgress], None]:
    def watch(progress: TrainingProgress) -> None:
        if progress.step >= step:
            raise _PulledPlugError

    return watch


def _train(settings: Any, data: Path, out: Path, **options: Any) -> Path:
    return fit(settings, data_folder=data, run_folder=out, device="cpu", **options)


def _same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule__accumulate": 2, "schedule__optimiser": "sgd"},
        {"schedule__ema_decay": 0, "schedule__clip_norm": 0, "schedule__steps": 5},
    ],
    ids=["adamw", "sgd-accumulated", "last-weights-short-epoch"],
)
def test_a_broken_run_ends_as_an_unbroken_one(
    changes: dict[str, Any],
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = recipe(val=[val_source], **changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = _train(settings, field_data, whole)
    with pytest.raises(_PulledPlugError):
        _train(settings, field_data, broken, on_progress=_pull_plug_at(3))
    caplog.set_level("INFO", logger="geo_retina")
    found = _train(settings, field_data, broken, resume=True)
    assert "going on after step 2 of" in caplog.text
    assert (broken / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (broken / "validation.csv").read_text() == (whole / "validation.csv").read_text()
    assert len((whole / "metrics.csv").read_text().splitlines()) == 1 + 3
    assert _same_weights(found, expected)
    assert read_info(found).card == read_info(expected).card


def test_the_checkpoint_detects_and_its_card_tells_where_it_comes_from(
    recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    path = _train(recipe(val=[val_source]), field_data, tmp_path / "run")
    card = read_info(path).card
    assert [item.role for item in card.trained_on] == ["train", "val"]
    assert {item.split for item in card.metrics} == {"val (1 raster, 42 labels)"}
    assert card.metrics[0].name == "AP"
    best = read_info(tmp_path / "run" / "best.safetensors")
    assert best.card == card
    assert _same_weights(best.path, path)
    assert len(detect(field_data / "images" / "c.tif", model=path, score=0.0)) > 0


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Val finds AP 0.2, 0.6 and 0.4, one after the other; a folder with the weights of each."""
    folder, left = tmp_path / "measured", [0.2, 0.6, 0.4] * 2
    folder.mkdir()

    def play(val: Any, path: Path, *args: Any, **options: Any) -> Any:
        found = measure(val, path, *args, **options)
        value = left.pop(0)
        shutil.copy(path, folder / f"{value}.safetensors")
        return replace(found, quality=replace(found.quality, ap=value))

    monkeypatch.setattr("geo_retina.training.validation.measure", play)
    return folder


@pytest.mark.parametrize(("keep", "ap"), [("best", 0.6), ("last", 0.4)])
def test_the_weights_that_were_asked_for_are_kept(
    keep: str, ap: float, measured: Path, recipe: Recipe, field_data: Path, val_source: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    settings = recipe(val=[val_source], validation__keep=keep, schedule__ema_decay=0)
    path = _train(settings, field_data, tmp_path / "run")
    assert not _same_weights(measured / "0.6.safetensors", measured / "0.4.safetensors")
    assert _same_weights(path, measured / f"{ap}.safetensors")
    best = tmp_path / "run" / "best.safetensors"
    assert _same_weights(best, measured / "0.6.safetensors")


def test_a_resumed_run_keeps_what_was_best_before(
    measured: Path, recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    settings = recipe(val=[val_source], schedule__ema_decay=0)
    steps = settings.schedule.epoch_steps
    with pytest.raises(_PulledPlugError):
        _train(settings, field_data, tmp_path / "run", on_progress=_pull_plug_at(2 * steps + 1))
    path = _train(settings, field_data, tmp_path / "run", resume=True)
    assert (measured / "0.4.safetensors").exists()
    assert _same_weights(path, measured / "0.6.safetensors")


@pytest.mark.parametrize("fitted", [False, True], ids=["stated anchors", "fitted anchors"])
def test_recipe_json_trains_again(
    fitted: bool, recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    from geo_retina.config import load_settings
    from geo_retina.training.settings import TrainingSettings

    settings = recipe(**({"network__anchors": None, "network__levels": None} if fitted else {}))
    first = _train(settings, field_data, tmp_path / "run")
    again = load_settings(tmp_path / "run" / RECIPE_NAME, TrainingSettings)
    assert again == settings
    assert _same_weights(first, _train(again, field_data, tmp_path / "again"))
    network = read_info(first).network
    assert network == read_info(tmp_path / "again" / first.name).network
    assert (network.levels == (2, 3)) is not fitted
    with pytest.raises(_PulledPlugError):
        _train(again, field_data, tmp_path / "broken", on_progress=_pull_plug_at(3))
    resumed = _train(settings, field_data, tmp_path / "broken", resume=True)
    assert _same_weights(first, resumed)


def test_what_is_ignored_shapes_no_anchor(
    recipe: Recipe, write_raster_at: Callable[..., Path], tmp_path: Path
) -> None:
    raster = write_raster_at(tmp_path / "a.tif", np.zeros((3, 700, 700), np.uint8))
    small = [[x, x, x + 12, x + 12] for x in range(0, 400, 20)]
    crowds = [[0, 0, 600, 600]] * 4
    networks = []
    for boxes, ignored in ((small, [False] * 20), (small + crowds, [False] * 20 + [True] * 4)):
        labels = Labels.of(np.array(boxes, float), np.zeros(len(boxes)), ["tree"])
        labels = replace(labels, ignored=np.array(ignored))
        settings = recipe(network__anchors=None, network__levels=None)
        labelled = [LabelledRaster(str(raster), labels)]
        rasters = prepare_rasters(labelled, Reading(), settings.card, source="a")
        networks.append(resolve_network(settings, rasters))
        assert len(audit_network(networks[-1], settings, rasters)) == 20
    assert networks[0].levels == networks[1].levels
    assert networks[0].anchors == networks[1].anchors


def test_a_frozen_backbone_keeps_its_statistics(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    known = load_file(_train(recipe(), field_data, tmp_path / "known"))
    settings = recipe(
        start_from=str(tmp_path / "known" / "tiny.safetensors"),
        schedule__backbone_learning_rate=0,
    )
    found = load_file(_train(settings, field_data, tmp_path / "run"))
    changed = {name for name in known if not torch.equal(known[name], found[name])}
    assert changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_a_run_says_with_what_it_was_started(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    _train(recipe(), field_data, tmp_path / "run")
    (line,) = (tmp_path / "run" / STARTS_NAME).read_text().splitlines()
    start = json.loads(line)
    assert start["packages"]["torch"] == torch.__version__.split("+")[0]
    assert start["device"] == platform.machine()
    assert start["resumed"] is False


def test_a_loss_that_rose_far_is_told(
    recipe: Recipe, field_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rising = recipe(schedule__learning_rate=3.0, schedule__optimiser="sgd")
    _train(recipe(), field_data, tmp_path / "calm")
    assert "diverged" not in caplog.text
    _train(rising, field_data, tmp_path / "run")
    assert "the training diverged" in caplog.text


def test_the_loss_that_is_told_is_that_of_its_parts(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    settings = recipe(schedule__accumulate=2)
    _train(settings, field_data, tmp_path / "run")
    header, first, *_ = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), map(float, first.split(",")), strict=True))
    assert row["loss"] == pytest.approx(row["loss_classes"] + row["loss_boxes"], rel=1e-3)


def test_objectness_that_is_inherited_cannot_be_calibrated(
    recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    known = _train(recipe(network__head__objectness=True), field_data, tmp_path / "known")
    settings = recipe(
        network=None, start_from=str(known), val=[val_source], validation__calibrate=True
    )
    with pytest.raises(ConfigError, match="has objectness"):
        _train(settings, field_data, tmp_path / "run")
    assert not (tmp_path / "run" / RECIPE_NAME).exists()


def test_a_run_without_a_bar_tells_how_long_it_takes(
    recipe: Recipe, field_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="geo_retina")
    _train(recipe(schedule__steps=14, schedule__epoch_steps=12), field_data, tmp_path / "run")
    told = [text for text in caplog.messages if " s a step" in text]
    assert [text.partition(":")[0] for text in told] == [f"step {n} of 14" for n in (10, 12, 14)]
    assert all("s of learning to go" in text for text in told[:2])
    assert "to go" not in told[2]


def test_the_loss_falls(recipe: Recipe, field_data: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = recipe(
        schedule__steps=40, schedule__epoch_steps=40, schedule__learning_rate=3e-3,
        schedule__backbone_learning_rate=3e-3,
    )  # fmt: skip
    _train(
        settings,
        field_data,
        tmp_path / "run",
        on_progress=lambda progress: losses.append(progress.loss),
    )
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    settings = recipe()
    path = _train(settings, field_data, tmp_path / "run")
    before = {key: value.clone() for key, value in load_file(path).items()}
    path.unlink()
    again = load_file(_train(settings, field_data, tmp_path / "run", resume=True))
    assert all(torch.equal(before[key], again[key]) for key in before)


def test_a_resumed_run_keeps_its_anchors_when_labels_change(
    recipe: Recipe, field_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = recipe(network__anchors=None, network__levels=None)
    first = _train(settings, field_data, tmp_path / "run")
    before = {key: value.clone() for key, value in load_file(first).items()}
    network = read_info(first).network
    with _fitted_otherwise():
        again = _train(settings, field_data, tmp_path / "run", resume=True)
    assert "goes on with the anchors that it began with" in caplog.text
    assert read_info(again).network == network
    assert all(torch.equal(before[key], value) for key, value in load_file(again).items())


def _fitted_otherwise() -> Any:
    """Labels seem to have changed so that other levels and sizes fit them."""
    fitted = AnchorProposal((3, 4), AnchorSettings(sizes=((70.0,), (90.0,)), ratios=(1.0,)))
    return patch("geo_retina.training.network.fit_anchors", lambda boxes: fitted)  # noqa: ARG005


def test_a_damaged_state_is_refused(recipe: Recipe, field_data: Path, tmp_path: Path) -> None:
    settings = recipe()
    _train(settings, field_data, tmp_path / "run")
    state = tmp_path / "run" / STATE_NAME
    state.write_bytes(state.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"cannot resume: .*state\.ckpt is damaged"):
        _train(settings, field_data, tmp_path / "run", resume=True)


def _measures(monkeypatch: pytest.MonkeyPatch, *qualities: float, **classes: float) -> None:
    """Val seems to be measured with these average precisions, one after the other.

    Those of classes, by their names, stay; NaN for a class without labels.
    """
    left = iter(qualities)

    def measure(*_: object, **__: object) -> Any:
        ap = next(left)
        best = OperatingPoint(0.4, 10, 5, 10) if ap > 0 else OperatingPoint(1.0, 0, 0, 10)
        quality = SimpleNamespace(ap=ap, best=best, labels=10)
        each = tuple(
            SimpleNamespace(name=name, ap=value, best=best, labels=0 if math.isnan(value) else 5)
            for name, value in classes.items()
        )
        return SimpleNamespace(quality=quality, classes=each, rasters=(1,), rule="IoU 0.5")

    monkeypatch.setattr("geo_retina.training.validation.measure", measure)


def test_each_class_is_measured_while_training(
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names may have commas and letters of any script."""
    _measures(monkeypatch, 0.4, 0.4, **{"Bäume, groß": 0.25, "10": math.nan})
    _train(recipe(val=[val_source], schedule__steps=4), field_data, tmp_path / "run")
    with (tmp_path / "run" / "validation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["ap of Bäume, groß"], row["ap of 10"]) for row in rows] == [("0.25", "nan")] * 2


def test_patience_ends_a_training(
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="geo_retina")
    settings = recipe(
        val=[val_source],
        validation__patience=1,
        schedule__steps=20,
        schedule__epoch_steps=1,
    )
    seen: list[int] = []
    run = tmp_path / "run"
    _measures(monkeypatch, 0, 0, math.nan, 0, 0.2, 0.3, 0.3)
    _train(settings, field_data, run, on_progress=lambda p: seen.append(p.step))
    assert max(seen) == 7, "measurements that found nothing do not count"
    _train(settings, field_data, run, resume=True, on_progress=lambda p: seen.append(p.step))
    assert max(seen) == 7, "a run that ended early does not go on"
    assert "val chose the score 0.400" in caplog.text
    assert "val AP is 0" not in caplog.text


@pytest.mark.parametrize(("later", "kept"), [((0.4, 0.45), True), ((0.4, 0.6), False)])
def test_the_start_is_measured_too_where_it_knows_the_classes(
    later: tuple[float, ...],
    kept: bool,
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = _train(recipe(), field_data, tmp_path / "known")
    _measures(monkeypatch, 0.5, *later)
    settings = recipe(start_from=str(known), val=[val_source], schedule__steps=4)
    found = _train(settings, field_data, tmp_path / "run")
    rows = (tmp_path / "run" / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "2", "4"]
    assert _same_weights(found, known) is kept
    assert ("no measurement was better on val than the weights" in caplog.text) is kept


def test_a_start_that_lacks_a_class_is_not_measured(
    recipe: Recipe,
    make_card: Callable[..., Any],
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = _train(recipe(), field_data, tmp_path / "known")
    _measures(monkeypatch, 0.5)
    two = make_card(name="tiny", class_names=("tree", "car")).model_dump()
    settings = recipe(
        start_from=str(known), card=two, network=None, val=[val_source], schedule__steps=2
    )
    _train(settings, field_data, tmp_path / "run")
    rows = (tmp_path / "run" / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2"]


def test_patience_waits_for_the_end_of_the_warm_up(
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = recipe(
        val=[val_source],
        validation__patience=1,
        schedule__steps=20,
        schedule__epoch_steps=1,
        schedule__warm_up_steps=5,
    )
    seen: list[int] = []
    _measures(monkeypatch, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1)
    _train(settings, field_data, tmp_path / "run", on_progress=lambda p: seen.append(p.step))
    assert max(seen) == 6


def test_how_far_it_is_is_told_once(
    recipe: Recipe,
    field_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="geo_retina")
    monkeypatch.setattr(records, "EVERY_STEPS", 1)
    _train(recipe(schedule__steps=2, schedule__epoch_steps=1), field_data, tmp_path / "run")
    told = [item.getMessage().partition(":")[0] for item in caplog.records]
    assert [text for text in told if " of 2" in text] == ["step 1 of 2", "step 2 of 2"]


def test_objects_that_no_anchor_learns_are_warned_of(
    recipe: Recipe, field_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _train(recipe(schedule__steps=1), field_data, tmp_path / "fits")
    assert "have an anchor" not in caplog.text
    far = recipe(schedule__steps=1, network__anchors__sizes=((120,), (240,)))
    _train(far, field_data, tmp_path / "far")
    assert "only 0 % of the objects have an anchor that learns them" in caplog.text


@pytest.mark.parametrize("quality", [0.0, math.nan])
def test_a_training_that_found_nothing_on_val_warns(
    quality: float,
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="geo_retina")
    _measures(monkeypatch, quality)
    known = {"name": "best F1", "value": 0.9, "split": "test"}
    settings = recipe(val=[val_source], card__metrics=[known], schedule__steps=2)
    path = _train(settings, field_data, tmp_path / "run")
    warnings = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert any("val AP is 0" in text and "the recipe's" in text for text in warnings)
    assert "nothing that is labelled was found (IoU 0.5)" in caplog.text
    assert "val chose the score" not in caplog.text
    card = read_info(path).card
    assert card.score == settings.card.score
    assert not any("val chose" in metric.note for metric in card.metrics)


def test_a_loss_that_is_not_finite_names_the_batch(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    settings = recipe(
        schedule__learning_rate=1e30, schedule__clip_norm=0, schedule__warm_up_steps=0
    )
    with pytest.raises(TrainingError, match=r"loss is .* in batch \d+ of epoch .*images/[ab]\.tif"):
        _train(settings, field_data, tmp_path / "run")


def test_run_folders_are_not_mixed_up(recipe: Recipe, field_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="nothing to resume"):
        _train(recipe(), field_data, run, resume=True)
    _train(recipe(), field_data, run)
    assert (run / STATE_NAME).is_file()
    with pytest.raises(ConfigError, match="--resume or choose another --out"):
        _train(recipe(), field_data, run)
    older = json.loads((run / RECIPE_NAME).read_text())
    del older["validation"]["calibrate"], older["schedule"]["seed"]
    (run / RECIPE_NAME).write_text(json.dumps(older))  # as a version without these keys wrote it
    _train(recipe(), field_data, run, resume=True)
    way = rf'schedule\.batch was 2, is 4; .* start_from = "{run}/tiny\.safetensors"'
    with pytest.raises(ConfigError, match=way):
        _train(recipe(schedule__batch=4), field_data, run, resume=True)
    (run / "tiny.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"start a new one with another --out$"):
        _train(recipe(schedule__batch=4), field_data, run, resume=True)


def test_train_and_val_that_share_pixels_are_refused(
    recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    settings = recipe(val=[val_source | {"split": "train", "names": "a.tif"}])
    with pytest.raises(LabelError, match=r"share pixels.*a\.tif"):
        _train(settings, field_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_test_side_is_compared_too(recipe: Recipe, field_data: Path) -> None:
    source = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
    labels = (field_data / "labels.csv").read_text()
    b_again = [line for line in labels.splitlines() if line.startswith("b.tif")]
    (field_data / "labels.csv").write_text(labels + "\n".join(b_again).replace("b.tif", "d.tif"))
    shutil.copy(field_data / "images" / "b.tif", field_data / "images" / "d.tif")
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    told = []
    for seed in range(30):
        division = {"kind": "file", "shares": shares, "seed": seed}
        try:
            read_data(recipe(train=[source], val=[], divide=division), field_data)
        except LabelError as error:
            told.append(str(error).partition(" share pixels")[0])
    assert "train and test" in told or "test and train" in told
    assert len(told) < 30, "b and d are on one side now and then"


def test_a_batch_that_does_not_fit_says_what_to_lower(
    recipe: Recipe, field_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geo_retina.training.memory.free_bytes", lambda _device: 2**20)
    with pytest.raises(DeviceError, match=r"needs about .* GiB.*schedule\.batch \(now 2"):
        _train(recipe(), field_data, tmp_path / "run")


@pytest.mark.slow
def test_prepared_in_other_processes_chips_are_the_same(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    alone = _train(recipe(), field_data, tmp_path / "alone")
    with pytest.raises(_PulledPlugError):
        _train(recipe(), field_data, tmp_path / "helped", workers=2, on_progress=_pull_plug_at(3))
    helped = _train(recipe(), field_data, tmp_path / "helped", workers=2, resume=True)
    assert _same_weights(alone, helped)


def test_scores_can_be_calibrated_on_val(
    recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    learning = {"steps": 30, "epoch_steps": 30, "learning_rate": 3e-3, "ema_decay": 0}
    changes = {f"schedule__{key}": value for key, value in learning.items()}
    plain = _train(recipe(val=[val_source], **changes), field_data, tmp_path / "plain")
    settings = recipe(val=[val_source], validation__calibrate=True, **changes)
    path = _train(settings, field_data, tmp_path / "run")
    card, raw = read_info(path).card, read_info(plain).card
    assert raw.calibrated is None
    assert card.calibrated is not None
    assert card.score != raw.score
    logits = {file: load_file(file)["heads.classes.last.bias"] for file in (plain, path)}
    told = logits[plain] / card.calibrated.temperature + card.calibrated.shift
    torch.testing.assert_close(logits[path], told)
    with pytest.raises(ValidationError, match="exclude each other"):
        recipe(validation__calibrate=True, network__head__objectness=True)
    with pytest.raises(ValueError, match="decay_iou exclude each other"):
        recipe(validation__calibrate=True, card__decay_iou=0.1)


def test_scores_that_cannot_be_calibrated_are_told(
    recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    settings = recipe(val=[val_source], validation__calibrate=True, schedule__steps=2)
    path = _train(settings, field_data, tmp_path / "run")
    assert read_info(path).card.calibrated is None
    assert "the scores are not calibrated (validation.calibrate)" in caplog.text


def test_rates_that_are_never_reached_are_told(
    recipe: Recipe, field_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    falls = {"kind": "steps", "at": (3, 6, 8)}
    _train(recipe(schedule__decay=falls), field_data, tmp_path / "late")
    assert "will not fall at 6, 8 (schedule.decay.at): the training has 6 steps" in caplog.text
    assert "schedule.warm_up_steps" not in caplog.text
    _train(recipe(schedule__warm_up_steps=6), field_data, tmp_path / "rising")
    assert "still rises when the 6 steps end: schedule.warm_up_steps is 6" in caplog.text


def test_a_single_raster_is_told_to_be_divided_by_its_ground(
    recipe: Recipe, field_data: Path, tmp_path: Path
) -> None:
    source = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
    settings = recipe(train=[source | {"names": "a.tif"}], divide={"kind": "file"})
    with pytest.raises(LabelError, match=r"divide\.kind = 'ground'"):
        _train(settings, field_data, tmp_path / "run")


def test_the_last_weights_can_be_kept(
    recipe: Recipe,
    field_data: Path,
    val_source: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    _measures(monkeypatch, 0.5, 0.4)
    settings = recipe(val=[val_source], validation__keep="last", schedule__steps=3)
    path = _train(settings, field_data, run)
    without = _train(recipe(schedule__steps=3), field_data, tmp_path / "without")
    assert _same_weights(path, without)
    note = read_info(path).card.metrics[0].note
    assert note.endswith("; val chose the score")


def test_float16_is_for_gpus(recipe: Callable[..., Any], field_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16-mixed, which needs a GPU"):
        _train(recipe(schedule__precision="16-mixed"), field_data, tmp_path / "run")


def test_bfloat16_on_a_gpu_that_imitates_it_is_warned_of(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for capability, warned in (((7, 5), True), ((8, 0), False)):
        caplog.clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        _check_precision(recipe(schedule__precision="bf16-mixed"), torch.device("cuda"))
        assert ("16-mixed is what it is fast in" in caplog.text) == warned


def test_training_in_bfloat16_gives_depthwise_filters_their_gradients(
    recipe: Callable[..., Any], field_data: Path, tmp_path: Path
) -> None:
    settings = recipe(schedule__precision="bf16-mixed", schedule__steps=2)
    fast = depthwise._Depthwise.backward
    with patch.object(depthwise._Depthwise, "backward", MagicMock(side_effect=fast)) as backward:
        path = _train(settings, field_data, tmp_path / "run")
    assert backward.call_count > 0
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_trains_measures_and_resumes(
    precision: str, recipe: Recipe, field_data: Path, val_source: Any, tmp_path: Path
) -> None:
    settings = recipe(val=[val_source], schedule__precision=precision)
    run = tmp_path / "run"
    with pytest.raises(_PulledPlugError):
        fit(settings, data_folder=field_data, run_folder=run, device="cuda",
            on_progress=_pull_plug_at(3))  # fmt: skip
    path = fit(settings, data_folder=field_data, run_folder=run, device="cuda", resume=True)
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 3
    assert len((run / "validation.csv").read_text().splitlines()) == 1 + 3
    assert len(detect(field_data / "images" / "c.tif", model=path, score=0.0, device="cpu")) > 0
