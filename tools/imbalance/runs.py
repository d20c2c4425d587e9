"""One run of the study: train a row with a seed, measure it, keep what came out as JSON."""

import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geo_retina.config import load_settings
from geo_retina.errors import TrainingError
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.runs import FROM_LOWEST_SCORE, Detecting, detect_pairs
from geo_retina.labels.coco import read_coco
from geo_retina.labels.labels import LabelledRaster
from geo_retina.training.fit import fit
from geo_retina.training.recipe_side import read_as
from geo_retina.training.run_folder import STATE_NAME
from geo_retina.training.settings import TrainingSettings
from imbalance.prepare import HELD_OUT

RECIPES = Path(__file__).parent
_PACKAGES = ("torch", "timm", "pytorch-lightning")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run to make."""

    data: str
    """`neon` or `tanks`."""
    row: str
    """A key of `rows.ROWS`."""
    overrides: tuple[str, ...]
    """What the row changes in the recipe, as `geo-retina train` takes it."""
    seed: int
    steps: int | None
    """Instead of the recipe's; None = the recipe's."""

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.data}-{self.row}-{self.seed}"

    def settings(self) -> TrainingSettings:
        """The recipe with all changes.

        Raises:
            ConfigError: A change does not fit the recipe.
        """
        changes = [*self.overrides, f"schedule.seed={self.seed}"]
        if self.steps is not None:
            changes += [f"schedule.steps={self.steps}", f"schedule.epoch_steps={self.steps}"]
        return load_settings(
            RECIPES / f"{self.data}.toml", TrainingSettings, overrides=tuple(changes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a model reaches on the held-out part, between 0 and 1."""

    ap50: float
    ap: float
    """Mean over the IoUs 0.50, 0.55, ... 0.95."""
    ap50_smallest: float
    """AP50 of the smallest third of the labels."""


def run_task(task: Task, folder: Path) -> dict[str, Any]:
    """Train and measure, or read what was measured before.

    A loss that stops being finite ends the training, not the study: such a run has no quality.

    Args:
        task: What to run.
        folder: Holds the prepared data, `neon/` or `tanks/`; gets `results/` and `models/`.

    Returns:
        What `folder/results/NAME.json` holds.

    Raises:
        SystemExit: The folder has the run, made with other settings.
    """
    settings = task.settings()
    path = folder / "results" / f"{task.name}.json"
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if TrainingSettings.model_validate(known["recipe"]) != settings:
            raise SystemExit(f"{path} was made with another recipe; remove it, or choose --out")
        return known
    found = _train_and_measure(task, settings, folder) | {
        "recipe": settings.model_dump(mode="json")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(found, indent=1), encoding="utf-8")
    unfinished.replace(path)
    return found


def _train_and_measure(task: Task, settings: TrainingSettings, folder: Path) -> dict[str, Any]:
    losses: list[float] = []
    data, run = folder / task.data, _fresh_run(folder / "models" / task.name)
    wall, cpu = time.perf_counter(), time.process_time()
    quality, failure = None, ""
    try:
        model = fit(
            settings,
            data_folder=data,
            run_folder=run,
            device="cpu",
            on_progress=lambda progress: losses.append(progress.loss),
        )
    except TrainingError as error:
        failure = str(error).split(", cut from")[0]
        _log.warning("%s: %s", task.name, failure)
    trained = time.process_time() - cpu
    if not failure:
        quality = asdict(measure(model, settings, data))
        (run / STATE_NAME).unlink(missing_ok=True)
    return asdict(task) | {
        "overrides": list(task.overrides),  # as JSON gives it back
        "losses": losses,
        "failure": failure,
        "quality": quality,
        "train_cpu_s": round(trained, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "made": {
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def measure(model: Path, settings: TrainingSettings, data: Path) -> Quality:
    """Detect on the held-out chips through the whole product, and compare with their labels."""
    labelled = read_coco(data / f"{HELD_OUT}.json", class_names=settings.card.class_names)
    options = read_as(FROM_LOWEST_SCORE, settings.train[0].reading)
    pairs = detect_pairs(labelled, model, Detecting(options=options, device="cpu"))
    bounds = EvaluationOptions(size_bounds_px=(smallest_third_px(labelled),), bootstrap_samples=0)
    quality = evaluate_detections(pairs, iou=0.5, options=bounds).quality
    return Quality(ap50=quality.ap50, ap=quality.ap50_95, ap50_smallest=quality.by_size[0].ap)


def smallest_third_px(labelled: Sequence[LabelledRaster]) -> float:
    """Size (square root of the area) under which a third of the objects lie, raster pixels."""
    boxes = np.concatenate([item.labels.boxes[item.labels.counted] for item in labelled])
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return float(np.quantile(sizes, 1 / 3))


def _fresh_run(folder: Path) -> Path:
    """A run folder without what a broken run left there."""
    for leftover in folder.glob("*"):
        if leftover.is_file():
            leftover.unlink()
    return folder
