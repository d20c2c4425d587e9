"""A side of the training that made a checkpoint, found again by the recipe it carries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from geo_retina.detection.options import DetectOptions
from geo_retina.errors import LabelError, ModelError
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.runs import BY_DEFAULT, Detecting, detect_each
from geo_retina.model.checkpoint import read_info
from geo_retina.training.data import ValRaster, read_sides
from geo_retina.training.settings import TrainingSettings, ValidationSettings
from geo_retina.training.sources import Reading


@dataclass(frozen=True, slots=True, eq=False)
class RecipeSide:
    """Rasters that a recipe divides off, and how a training measures."""

    split: str
    """`val`: what the model was measured on while it learned; or another, such as `test`."""
    rasters: tuple[ValRaster, ...]
    settings: ValidationSettings
    label_files: tuple[str | Path, ...] = ()
    """What the recipe learns and measures by."""

    def pairs(self, model: str | Path, how: Detecting = BY_DEFAULT) -> list[Pair]:
        """Detect on these rasters with a model: `val_pairs`."""
        return val_pairs(self.rasters, model, how)


def recipe_sides(model: str | Path, folder: Path, splits: Sequence[str]) -> list[RecipeSide]:
    """Read sides again: the division depends on nothing but the recipe and the data.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        folder: Folder that the recipe's paths are relative to.
        splits: Names of the sides.

    Raises:
        ModelError: The model is unknown or carries no recipe that can be read.
        LabelError: Labels are missing or wrong, or the recipe has no such side.
    """
    info = read_info(model)
    if info.recipe is None:
        raise ModelError(
            f"{info.path} does not carry the recipe of its training: name labels to evaluate on "
            "(--labels)"
        )
    try:
        recipe = TrainingSettings.model_validate_json(info.recipe)
    except ValidationError as error:
        raise ModelError(
            f"the recipe in {info.path} is of another version of geo_retina ({error}): name labels "
            "to evaluate on (--labels)"
        ) from error
    try:
        sides = read_sides(recipe, folder, splits)
    except LabelError as error:
        raise LabelError(
            f"{error} (by the recipe in {info.path}, with paths relative to {folder}; --data names "
            "another folder)"
        ) from error
    files = tuple(file for source in (*recipe.train, *recipe.val) for file in source.files(folder))
    return [
        RecipeSide(split, rasters, recipe.validation, files)
        for split, rasters in zip(splits, sides, strict=True)
    ]


def val_pairs(
    val: Sequence[ValRaster], checkpoint: str | Path, how: Detecting = BY_DEFAULT
) -> list[Pair]:
    """Detect on val rasters, each read as its source says.

    Args:
        val: Rasters with their labels.
        checkpoint: Bundled model or path of a checkpoint.
        how: To detect; how rasters are read is taken from `val`.

    Raises:
        UsageError: One of its kinds, for a raster that does not fit the model.
        RasterReadError: A raster is damaged.
    """
    tasks = [(item.labelled, read_as(how.options, item.reading)) for item in val]
    return detect_each(tasks, checkpoint, how)


def read_as(options: DetectOptions, reading: Reading) -> DetectOptions:
    """Options with which detection reads rasters as training does."""
    return replace(options, **asdict(reading.options))
