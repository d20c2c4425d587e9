"""What an int8 graph is made and measured with: both sides of the training behind a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geo_retina.detection.backends import Backend
from geo_retina.evaluation.export_loss import LossMeasure
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.runs import Detecting
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.training.recipe_side import RecipeSide, recipe_sides
from geo_retina.wording import counted


@dataclass(frozen=True, slots=True, eq=False)
class RecipeData:
    """Rasters to calibrate with, and others to measure on."""

    rasters: Sequence[tuple[str, ReadOptions]]
    """Those of train, each as training reads it."""
    measure: LossMeasure
    """Measures on val, as the training did."""


def recipe_data(info: CheckpointInfo, folder: Path) -> RecipeData:
    """Find train and val of a checkpoint again, by the recipe that it carries.

    Args:
        info: The checkpoint.
        folder: Folder that the recipe's paths are relative to.

    Raises:
        ModelError: The checkpoint carries no recipe that can be read.
        LabelError: Labels are missing or wrong, or the recipe has no val side.
    """
    train, val = recipe_sides(info.path, folder, [TRAIN, VAL])
    measure = LossMeasure(
        detect=partial(_detect, val, info.path),
        images=f"{val.split} of its recipe, {counted(len(val.rasters), 'raster')}",
        iou=val.settings.iou,
        distance_m=val.settings.distance_m,
    )
    rasters = [(item.labelled.raster, item.reading.options) for item in train.rasters]
    return RecipeData(rasters, measure)


def _detect(side: RecipeSide, model: Path, backend: Backend) -> list[Pair]:
    return side.pairs(model, Detecting(backend=backend))
