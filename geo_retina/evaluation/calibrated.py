"""Checkpoints whose scores say how often a detection is right."""

import math
from pathlib import Path

import numpy as np

from geo_retina.card import Calibrated, Metric, ModelCard
from geo_retina.errors import ModelError
from geo_retina.evaluation.calibration import ScoreMap
from geo_retina.evaluation.summary import Evaluation
from geo_retina.model.calibrate import calibrated_network
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.wording import counted


def write_calibrated(model: str | Path, evaluation: Evaluation, path: Path) -> ModelCard:
    """Write a copy of a model with the score map of an evaluation folded in.

    Detection finds the same objects in the same order, with other scores; the scores in the card
    move with them. Scores of the copy do not give way to neighbours (`decay_iou`): a score that has
    given way is no longer a hit rate.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        evaluation: Of this model, by plain NMS without `decay_iou`, on images that it did not
            learn from.
        path: Where the copy goes.

    Returns:
        The card of the copy.

    Raises:
        ModelError: There is nothing to calibrate by, or the network cannot be calibrated.
        OutputError: The file cannot be written.
    """
    found = evaluation.score_map
    if found is None:
        raise ModelError(
            "the scores cannot be calibrated here: it needs some hits and some misses, and higher "
            "scores must be right more often; evaluate on more rasters"
        )
    info = read_info(model)
    network = calibrated_network(
        load_network(info), temperature=found.temperature, shift=found.shift
    )
    card = calibrated_card(info.card, evaluation, found)
    save_checkpoint(path, network, card, recipe=info.recipe)
    return card


def calibrated_card(card: ModelCard, evaluation: Evaluation, found: ScoreMap) -> ModelCard:
    """The card of a model whose scores are mapped: its score moved, its calibration told.

    Args:
        card: Of the model as it was evaluated.
        evaluation: What the map was fitted to.
        found: The map.
    """
    before = card.calibrated or Calibrated(temperature=1, shift=0)
    where = f"{counted(len(evaluation.rasters), 'raster')}, {evaluation.quality.labels:,} labels"
    errors = {
        "calibration error (ECE) before": evaluation.calibration.ece,
        "calibration error (ECE), held out": found.ece,
    }
    metrics = tuple(
        Metric(name=name, value=round(value, 4), split=where, note=f"match by {evaluation.rule}")
        for name, value in errors.items()
        if math.isfinite(value)
    )
    changes = {
        "decay_iou": None,
        "score": _mapped(card.score, found),
        "class_scores": {name: _mapped(score, found) for name, score in card.class_scores.items()},
        "calibrated": Calibrated(
            temperature=before.temperature * found.temperature,
            shift=before.shift / found.temperature + found.shift,
        ),
        "metrics": (*card.metrics, *metrics),
    }
    return ModelCard.model_validate(
        card.model_dump()
        | {
            key: value.model_dump() if isinstance(value, Calibrated) else value
            for key, value in changes.items()
        }
    )


def _mapped(score: float, found: ScoreMap) -> float:
    """The score on the new scale, to the seven digits of a float32.

    A steep map crowds scores near 0 and 1: with few digits they would be 0 and 1 themselves, and
    keep everything or nothing.
    """
    return float(f"{found.apply(np.array([score]))[0]:.7g}")
