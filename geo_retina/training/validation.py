"""Measuring val rasters while training: whole and stitched, through the whole product."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from geo_retina.card import Metric, ModelCard
from geo_retina.evaluation.calibrated import calibrated_card
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.metrics import OperatingPoint
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting
from geo_retina.evaluation.summary import Evaluation
from geo_retina.model.calibrate import calibrated_network
from geo_retina.model.checkpoint import SUFFIX, save_checkpoint
from geo_retina.training.averaging import AveragedWeights, kept_network
from geo_retina.training.data import ValRaster
from geo_retina.training.module import DetectorModule
from geo_retina.training.recipe_side import val_pairs
from geo_retina.training.records import StepTable
from geo_retina.training.settings import ValidationSettings
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

BEST_NAME = f"best{SUFFIX}"
"""File in the run folder with the weights that were best on val so far, and their metrics."""
LAST_NAME = f"last{SUFFIX}"
"""File in the run folder with the weights that were measured last, and their metrics."""
VALIDATION_NAME = "validation.csv"
"""File in the run folder with what was measured."""

_ENOUGH_LABELS = 10
"""With fewer labels on val, a class does not get a score of its own: chance would choose it."""


def measure(
    val: Sequence[ValRaster],
    checkpoint: Path,
    settings: ValidationSettings,
    *,
    device: str,
) -> Evaluation:
    """Detect on whole rasters with a checkpoint and compare with their labels.

    Raises:
        UsageError: One of its kinds, for a raster that does not fit the model.
        RasterReadError: A raster is damaged.
    """
    return evaluate_detections(
        val_pairs(val, checkpoint, Detecting(device=device)),
        iou=settings.iou,
        distance_m=settings.distance_m,
        options=EvaluationOptions(bootstrap_samples=0),
    )


def measured_card(card: ModelCard, evaluation: Evaluation, *, chosen_by_val: bool) -> ModelCard:
    """The card with the scores and the metrics that were measured on val.

    Args:
        card: Of the recipe.
        evaluation: Of val.
        chosen_by_val: Whether val also chose the weights, which flatters the metrics.
    """
    quality = evaluation.quality
    best = quality.best
    where = (
        f"val ({counted(len(evaluation.rasters), 'raster')}, {counted(quality.labels, 'label')})"
    )
    found = best.hits > 0
    note = f"match by {evaluation.rule}; " + _chosen(found=found, weights=chosen_by_val)
    values = {
        "AP": quality.ap,
        "best F1": best.f1,
        "precision at best F1": best.precision,
        "recall at best F1": best.recall,
    }
    metrics = tuple(
        Metric(name=name, value=round(value, 4), split=where, note=note)
        for name, value in values.items()
        if np.isfinite(value)
    )
    metrics += tuple(
        Metric(
            name=f"best F1 of {item.name}",
            value=round(item.best.f1, 4),
            split=where,
            note=f"{note}; at score {item.best.score:.3f}",
        )
        for item in evaluation.classes
        if item.labels and item.best.hits
    )
    changes: dict[str, Any] = {"metrics": (*card.metrics, *metrics)}
    if found:
        changes["score"] = _as_default(best)
        changes["class_scores"] = card.class_scores | {
            item.name: _as_default(item.best)
            for item in evaluation.classes
            if item.labels >= _ENOUGH_LABELS and item.best.hits
        }
    return ModelCard.model_validate(card.model_dump() | changes)


def _as_default(best: OperatingPoint) -> float:
    """A score to detect from, with few digits, that keeps what this one keeps."""
    return max(float(np.floor(best.score * 1000) / 1000), LOWEST_SCORE)


def _chosen(*, found: bool, weights: bool) -> str:
    """What val chose."""
    if not found:
        return "nothing that is labelled was found, so the score is the recipe's"
    return "val chose the weights and the score" if weights else "val chose the score"


def _row(evaluation: Evaluation) -> dict[str, str]:
    """Columns of `VALIDATION_NAME`: of all classes, then of each where there are several."""
    quality = evaluation.quality
    values = {
        "ap": quality.ap,
        "best_f1": quality.best.f1,
        "score": quality.best.score,
        "precision": quality.best.precision,
        "recall": quality.best.recall,
    }
    values |= {f"ap of {item.name}": item.ap for item in evaluation.classes}
    return {name: f"{value:.6g}" for name, value in values.items()}


class Validation(pl.Callback):
    """Measures val after epochs, keeps the best weights, stops when they get no better.

    The first process measures; others wait for it. `recipe` goes into the checkpoints.
    """

    def __init__(
        self,
        val: Sequence[ValRaster],
        folder: Path,
        settings: ValidationSettings,
        *,
        recipe: str,
        averaged: AveragedWeights | None,
        measures_start: bool = False,
    ) -> None:
        """Prepare.

        Args:
            val: What to measure on.
            folder: Run folder.
            settings: How.
            recipe: As JSON.
            averaged: The moving average of the weights, if that is what is kept.
            measures_start: Whether the weights at the start find the classes already: they are
                measured too, so that one sees what was won.
        """
        self._recipe = recipe
        self._val = tuple(val)
        self._folder = folder
        self._settings = settings
        self._averaged = averaged
        self._table = StepTable(folder / VALIDATION_NAME)
        self._measures_start = measures_start
        self._best = -1.0
        self._best_step = 0
        self._without_better = 0
        self._stopped = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {
            "best": self._best,
            "best_step": self._best_step,
            "without_better": self._without_better,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._best = state_dict["best"]
        self._best_step = state_dict.get("best_step", 1)  # of earlier versions
        self._without_better = state_dict["without_better"]
        self._stopped = state_dict["stopped"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what a broken run measured after its last state; measure the start."""
        assert isinstance(pl_module, DetectorModule)  # noqa: S101
        trainer.should_stop = trainer.should_stop or self._stopped
        if trainer.is_global_zero:
            self._table.cut_after(trainer.global_step or -1)  # a new run has no rows
        if self._measures_start and not trainer.global_step:
            _log.info("measuring the weights that the training starts from")
            self._judge(self._quality(trainer, pl_module), 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, if it is time."""
        assert isinstance(pl_module, DetectorModule)  # noqa: S101
        is_last = trainer.global_step >= pl_module.schedule.steps
        if (trainer.current_epoch + 1) % self._settings.every_epochs and not is_last:
            return
        quality = self._quality(trainer, pl_module)
        self._judge(
            quality,
            trainer.global_step,
            counts=trainer.global_step > pl_module.schedule.warm_up_steps,
        )
        trainer.callback_metrics["val_ap"] = torch.tensor(quality)
        if self._settings.patience is not None and self._without_better >= self._settings.patience:
            _log.info("no better for %d measurements: training ends", self._without_better)
            self._stopped = trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Say so where nothing that was learned is better than the start."""
        won_nothing = self._measures_start and not self._best_step and self._best > 0
        if won_nothing and self._settings.keep == "best" and trainer.is_global_zero:
            _log.warning(
                "no measurement was better on val than the weights that the training started from "
                "(AP %.3f): the model holds those, with the score that val chose",
                self._best,
            )

    def _quality(self, trainer: pl.Trainer, module: DetectorModule) -> float:
        """What the first process measures, for all."""
        quality = self._measure(trainer, module) if trainer.is_global_zero else -1.0
        return float(trainer.strategy.broadcast(quality))

    def _measure(self, trainer: pl.Trainer, module: DetectorModule) -> float:
        """Average precision; 0 where it is undefined."""
        begun = time.monotonic()
        path, network = self._folder / LAST_NAME, kept_network(module, self._averaged)
        save_checkpoint(path, network, module.card, recipe=self._recipe)
        evaluation = measure(self._val, path, self._settings, device=str(module.device))
        quality = evaluation.quality
        chosen_by_val = self._settings.keep == "best"
        card = measured_card(module.card, evaluation, chosen_by_val=chosen_by_val)
        found = evaluation.score_map if self._settings.calibrate else None
        if found is not None:
            network = calibrated_network(network, temperature=found.temperature, shift=found.shift)
            card = calibrated_card(card, evaluation, found)
        save_checkpoint(path, network, card, recipe=self._recipe)
        value = float(np.nan_to_num(quality.ap))
        if value >= self._best:
            save_checkpoint(self._folder / BEST_NAME, network, card, recipe=self._recipe)
        self._table.add(
            {"step": trainer.global_step, "epoch": trainer.current_epoch, **_row(evaluation)}
        )
        best = quality.best
        _log.info(
            "step %d: val AP %.3f, %s (%s), measured in %.0f s",
            trainer.global_step,
            quality.ap,
            f"best F1 {best.f1:.3f} at score {best.score:.3f}"
            if best.hits
            else "nothing that is labelled was found",
            evaluation.rule,
            time.monotonic() - begun,
        )
        if trainer.logger is not None:
            trainer.logger.log_metrics(
                {"val_ap": quality.ap, "val_f1": quality.best.f1}
                | {f"val_ap/{item.name}": item.ap for item in evaluation.classes if item.labels},
                step=trainer.global_step,
            )
        return value

    def _judge(self, quality: float, step: int, *, counts: bool = True) -> None:
        """Compare a measurement with the best; one that `counts` uses patience up."""
        if quality >= self._best:  # the later ones of equal weights are kept
            self._best_step = step
        if quality > self._best:
            self._best, self._without_better = quality, 0
        elif self._best > 0 and counts:  # patience starts with the first object that was found
            self._without_better += 1
