import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from geo_retina.evaluation.metrics import OperatingPoint
from geo_retina.training.module import parameter_groups
from geo_retina.training.records import StepTable
from geo_retina.training.settings import ScheduleSettings
from geo_retina.training.validation import measured_card


def test_rates_warm_up_and_fall_along_a_cosine() -> None:
    schedule = ScheduleSettings(steps=110, warm_up_steps=10)
    factors = [schedule.rate_factor(step) for step in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_rates_fall_at_steps() -> None:
    schedule = ScheduleSettings(steps=90, warm_up_steps=0, decay={"kind": "steps", "at": (60, 80)})
    assert [schedule.rate_factor(step) for step in (0, 59)] == [1, 1]
    assert [schedule.rate_factor(step) for step in (60, 80)] == pytest.approx([0.1, 0.01])


def test_epochs_cover_the_steps() -> None:
    assert ScheduleSettings(steps=10, epoch_steps=5).epochs == 2
    assert ScheduleSettings(steps=11, epoch_steps=5).epochs == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network__num_classes": 2}, "network.num_classes is 2, but the card names 1"),
        ({"network__in_bands": 4}, "network.in_bands is 4, but the card names 3"),
        ({"network": None}, "network is missing"),
        ({"card__name": "oak/pine"}, "card.name 'oak/pine' names the checkpoint: leave out"),
        ({"card__name": "site:2"}, "card.name 'site:2' names the checkpoint: leave out"),
        ({"augment__crop_px": 96}, "is over card.chip_px"),
        ({"augment__zoom": (2, 1)}, "two rising factors"),
        (
            {"val": [{"kind": "voc", "images": ["a.png"]}], "divide": {"kind": "column"}},
            "val and divide exclude each other: .* take the other table out",
        ),
        ({"validation__calibrate": True}, r"calibrate needs val.* state \[\[val\]\] or \[divide\]"),
    ],
)
def test_recipes_that_contradict_themselves(
    changes: dict[str, Any], said: str, recipe: Callable[..., Any]
) -> None:
    with pytest.raises(ValidationError, match=said):
        recipe(**changes)


def test_parameter_groups_hold_every_parameter_once(recipe: Callable[..., Any]) -> None:
    from geo_retina.model.retinanet import build_retinanet

    network = build_retinanet(recipe().network)
    groups = parameter_groups(network, ScheduleSettings(steps=1))
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())
    for group in groups:
        decayed = {parameter.ndim > 1 for parameter in group["params"]}
        assert decayed == {group["weight_decay"] > 0}
    assert {group["lr"] for group in groups} == {1e-3, 3e-4}


def test_a_backbone_with_rate_0_is_frozen(recipe: Callable[..., Any]) -> None:
    from geo_retina.model.retinanet import build_retinanet
    from geo_retina.training.module import DetectorModule

    settings = recipe(schedule__backbone_learning_rate=0)
    module = DetectorModule(
        build_retinanet(settings.network),
        card=settings.card,
        loss=settings.loss,
        schedule=settings.schedule,
    )
    assert not any(parameter.requires_grad for parameter in module.network.backbone.parameters())
    assert all(parameter.requires_grad for parameter in module.network.heads.parameters())
    groups = parameter_groups(module.network, settings.schedule)
    assert {group["lr"] for group in groups} == {settings.schedule.learning_rate}


def test_step_tables_forget_what_comes_after_a_state(tmp_path: Path) -> None:
    table = StepTable(tmp_path / "a.csv")
    table.cut_after(0)
    for step in (10, 20, 30):
        table.add({"step": step, "loss": step / 10})
    before = table.path.read_text().splitlines()
    table.cut_after(20)
    assert table.path.read_text().splitlines() == before[:3]
    table.cut_after(0)
    table.add({"step": 10, "loss": 1.0})
    assert table.path.read_text().splitlines() == before[:2]


def test_step_tables_keep_the_columns_that_they_began_with(tmp_path: Path) -> None:
    """A run that an earlier version began may know fewer."""
    table = StepTable(tmp_path / "a.csv")
    table.add({"step": 10, "ap": 0.5})
    table.add({"step": 20, "ap": 0.6, "ap of a, or b": 0.7})
    table.cut_after(20)
    assert table.path.read_text().splitlines() == ["step,ap", "10,0.5", "20,0.6"]


def _evaluation(score: float, hits: int) -> Any:
    best = OperatingPoint(score=score, hits=hits, detections=10, labels=10)
    quality = SimpleNamespace(ap=0.5 if hits else math.nan, best=best, labels=10)
    classes = (SimpleNamespace(name="oak", best=best, labels=10),) if hits else ()
    return SimpleNamespace(quality=quality, classes=classes, rasters=(1, 2), rule="IoU 0.5")


def test_classes_with_enough_labels_get_scores_of_their_own(make_card: Callable[..., Any]) -> None:
    def of(name: str, score: float, *, labels: int, hits: int = 5) -> Any:
        best = OperatingPoint(score=score, hits=hits, detections=10, labels=labels)
        return SimpleNamespace(name=name, best=best, labels=labels)

    evaluation = _evaluation(0.6, 5)
    evaluation.classes = (
        of("oak", 0.61259, labels=200),
        of("ash", 0.172, labels=10),
        of("elm", 0.3, labels=9),
        of("fir", 1.0, labels=50, hits=0),
        of("yew", 0.05, labels=12),
    )
    names = ("oak", "ash", "elm", "fir", "yew")
    recipe = make_card(class_names=names, class_scores={"fir": 0.4, "oak": 0.5})
    card = measured_card(recipe, evaluation, chosen_by_val=True)
    assert card.score == 0.6
    assert card.class_scores == {"oak": 0.612, "ash": 0.172, "fir": 0.4, "yew": 0.05}
    with pytest.raises(ValidationError, match="class_scores names beech, which class_names does"):
        make_card(class_names=names, class_scores={"beech": 0.4})


def test_the_card_gets_the_score_that_val_chose(make_card: Callable[..., Any]) -> None:
    two = make_card(class_names=("oak", "ash"))
    card = measured_card(two, _evaluation(0.43219, 5), chosen_by_val=True)
    assert card.score == 0.432
    assert [item.name for item in card.metrics][:2] == ["AP", "best F1"]
    assert card.metrics[1].value == 0.5
    assert card.metrics[0].split == "val (2 rasters, 10 labels)"
    assert card.metrics[-1].name == "best F1 of oak"
    assert card.metrics[-1].note.endswith("at score 0.432")
    assert card.class_scores == {"oak": 0.432}
    nothing = measured_card(make_card(), _evaluation(0.0, 0), chosen_by_val=False)
    assert (nothing.score, nothing.class_scores) == (make_card().score, {})
    assert "the score is the recipe's" in nothing.metrics[0].note
