"""Scores that are hit rates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geo_retina.errors import ModelError
from geo_retina.evaluation.calibrated import calibrated_card, write_calibrated
from geo_retina.evaluation.calibration import ScoreMap, calibration, fit_score_map
from geo_retina.evaluation.evaluate import evaluate_detections
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.labels import Labels
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.model.retinanet import build_retinanet
from geo_retina.model.settings import NetworkSettings
from geo_retina.space.detections import Detections


def _logit(shares: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.log(shares / (1 - shares))
    return values


def _drawn(temperature: float, shift: float, *, count: int = 20_000) -> tuple[Any, Any]:
    """Scores, and hits that are as likely as the mapped scores say."""
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.05, 0.95, count)
    likely = 1 / (1 + np.exp(-(_logit(scores) / temperature + shift)))
    return scores, rng.random(count) < likely


@pytest.mark.parametrize(("temperature", "shift"), [(1, 0), (0.5, 0.8), (2.0, -1.0), (0.3, 0)])
def test_the_map_that_made_the_hits_is_found(temperature: float, shift: float) -> None:
    scores, hits = _drawn(temperature, shift)
    found = fit_score_map(scores, hits, groups=np.arange(len(scores)))
    assert found is not None
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.shift == pytest.approx(shift, abs=0.08)
    assert found.ece < 0.02
    assert found.ece <= calibration(scores, hits).ece + 0.005
    assert (np.diff(found.apply(np.sort(scores))) >= 0).all(), "the order must stay"


def test_a_perfect_order_of_ten_each_gives_eleven_of_twelve() -> None:
    """Platt's targets: (hits + 1) / (hits + 2) for hits and 1 / (misses + 2) for misses."""
    hits = np.arange(20) < 10
    found = fit_score_map(np.where(hits, 0.8, 0.3), hits, groups=np.arange(20))
    assert found is not None
    np.testing.assert_allclose(found.apply(np.array([0.8, 0.3])), [11 / 12, 1 / 12], atol=1e-6)


def test_scores_of_a_perfect_order_get_a_finite_map() -> None:
    scores = np.linspace(0.05, 0.95, 40)
    found = fit_score_map(scores, scores > 0.5, groups=np.arange(40))
    assert found is not None
    assert 0 < found.temperature < 1


@pytest.mark.parametrize(
    ("scores", "hits"),
    [
        ([], []),
        ([0.9, 0.1], [True, False]),
        (np.linspace(0.1, 0.9, 50), np.ones(50)),
        (np.linspace(0.1, 0.9, 50), np.linspace(0, 1, 50) < 0.5),
    ],
    ids=["nothing", "too-few", "all-right", "wrong-way-round"],
)
def test_where_no_map_helps_there_is_none(scores: Any, hits: Any) -> None:
    numbers = np.asarray(scores, np.float64)
    groups = np.arange(len(numbers))
    assert fit_score_map(numbers, np.asarray(hits, np.bool_), groups=groups) is None


@pytest.fixture
def checkpoint(tmp_path: Path, make_card: Callable[..., Any]) -> Path:
    """A small network with random weights."""
    torch.manual_seed(0)
    network = build_retinanet(
        NetworkSettings.model_validate(
            {
                "num_classes": 1,
                "backbone": {"name": "timm:test_efficientnet"},
                "pyramid_width": 16,
                "levels": (2,),
                "head": {"depth": 1, "width": 16, "prior": 0.3},
                "anchors": {"sizes": ((12,),), "ratios": (1.0,)},
            }
        )
    )
    card = make_card(score=0.4, class_scores={"tree": 0.3})
    save_checkpoint(tmp_path / "m.safetensors", network, card, recipe='{"a": 1}')
    return tmp_path / "m.safetensors"


def _evaluation() -> Any:
    """60 detections by falling score, of which ever more are wrong."""
    left = np.arange(60.0) * 20
    boxes = np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)
    wrong = np.random.default_rng(0).random(60) < np.linspace(0.1, 0.8, 60)
    moved = boxes + np.where(wrong, 500, 0)[:, None]
    found = Detections.of(moved, np.linspace(0.9, 0.1, 60), np.zeros(60))
    return evaluate_detections([Pair("a", found, Labels.of(boxes, [0] * 60, ("tree",)))])


def test_a_calibrated_checkpoint_gives_mapped_scores(checkpoint: Path) -> None:
    evaluation = _evaluation()
    score_map: ScoreMap = evaluation.score_map
    path = checkpoint.with_name("calibrated.safetensors")
    card = write_calibrated(checkpoint, evaluation, path)
    before, after = (load_network(read_info(file)) for file in (checkpoint, path))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        old, new = before(images), after(images)
    expected = score_map.apply(old.logits.sigmoid().double().numpy())
    np.testing.assert_allclose(new.logits.sigmoid().numpy(), expected, atol=1e-5)
    torch.testing.assert_close(new.deltas, old.deltas)
    assert card.score == pytest.approx(score_map.apply(np.array([0.4]))[0], abs=1e-4)
    assert card.class_scores["tree"] == pytest.approx(score_map.apply(np.array([0.3]))[0], abs=1e-4)
    assert card.calibrated is not None
    assert card.calibrated.temperature == pytest.approx(score_map.temperature)
    assert read_info(path).card == card
    assert read_info(path).recipe == '{"a": 1}'
    assert "calibration error (ECE) before" in {item.name for item in card.metrics}


@pytest.mark.parametrize(("score", "shift"), [(0.86, 4.4), (0.05, -5.0)], ids=["near 1", "near 0"])
def test_a_steep_map_leaves_a_score_that_tells_detections_apart(
    make_card: Callable[..., Any], score: float, shift: float
) -> None:
    steep = ScoreMap(temperature=0.3, shift=shift, ece=0.01)
    card = calibrated_card(
        make_card(score=score, class_scores={"tree": score}), _evaluation(), steep
    )
    just_under, just_over = np.float32(steep.apply(np.array([score - 0.005, score + 0.005])))
    for mapped in (card.score, card.class_scores["tree"]):
        assert just_under < mapped < just_over


def test_calibrating_twice_adds_up(checkpoint: Path) -> None:
    evaluation = _evaluation()
    once, twice = (checkpoint.with_name(f"{n}.safetensors") for n in ("once", "twice"))
    write_calibrated(checkpoint, evaluation, once)
    card = write_calibrated(once, evaluation, twice)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        old = load_network(read_info(checkpoint))(images).logits
        new = load_network(read_info(twice))(images).logits
    assert card.calibrated is not None
    told = old / card.calibrated.temperature + card.calibrated.shift
    torch.testing.assert_close(new, told, atol=1e-4, rtol=1e-4)


def test_nothing_to_calibrate_by_is_an_error(checkpoint: Path) -> None:
    nothing = evaluate_detections([Pair("a", Detections.empty(), Labels.empty(["tree"]))])
    with pytest.raises(ModelError, match="some hits and some misses"):
        write_calibrated(checkpoint, nothing, checkpoint.with_name("x.safetensors"))


def test_the_error_is_measured_on_groups_that_were_held_out() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), [400, 100, 100, 100, 100])
    scores = rng.uniform(0.2, 0.8, 800)
    hits = rng.random(800) < np.where(groups == 0, 0.25, 0.75) + 0.4 * (scores - 0.5)
    apart = fit_score_map(scores, hits, groups=groups)
    mixed = fit_score_map(scores, hits, groups=np.arange(800))
    assert apart is not None
    assert mixed is not None
    assert apart.ece > mixed.ece + 0.05
