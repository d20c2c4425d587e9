"""The val side of the training that made a checkpoint, found again by the recipe it carries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from geo_retina.detection.backends import choose_backend
from geo_retina.detection.options import DetectOptions
from geo_retina.errors import LabelError, ModelError
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.runs import LOWEST_SCORE, detect_pairs
from geo_retina.model.checkpoint import read_info
from geo_retina.training.data import ValRaster, read_val
from geo_retina.training.settings import TrainingSettings, ValidationSettings
from geo_retina.training.sources import Reading


@dataclass(frozen=True, slots=True, eq=False)
class ValSide:
    """What a model was measured on while it learned, and how."""

    rasters: tuple[ValRaster, ...]
    settings: ValidationSettings

    def pairs(self, model: str | Path, **work: Any) -> list[Pair]:  # noqa: ANN401  see val_pairs
        """Detect on these rasters with a model: `val_pairs`."""
        return val_pairs(self.rasters, model, **work)


def val_side_of(model: str | Path, folder: Path) -> ValSide:
    """Read the val side again: the division depends on nothing but the recipe and the data.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        folder: Folder that the recipe's paths are relative to.

    Raises:
        ModelError: The model is unknown or carries no recipe that can be read.
        LabelError: Labels are missing or wrong, or the recipe has no val side.
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
        return ValSide(read_val(recipe, folder), recipe.validation)
    except LabelError as error:
        raise LabelError(
            f"{error} (by the recipe in {info.path}, with paths relative to {folder}; --data names "
            "another folder)"
        ) from error


def val_pairs(
    val: Sequence[ValRaster],
    checkpoint: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    backend: str = "auto",
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Detect on val rasters, each read as its source says.

    Args:
        val: Rasters with their labels.
        checkpoint: Bundled model or path of a checkpoint.
        options: Of the detection; how rasters are read is taken from `val`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        backend: `auto`, `torch` or `openvino`.
        batch: Chips at once; None chooses by device.
        on_progress: Called after each raster with how many are done, of how many.

    Raises:
        UsageError: One of its kinds, for a raster that does not fit the model.
        RasterReadError: A raster is damaged.
    """
    chosen = choose_backend(read_info(checkpoint), device=device, backend=backend)
    pairs: list[Pair] = []
    for reading in dict.fromkeys(item.reading for item in val):
        labelled = [item.labelled for item in val if item.reading == reading]
        found = detect_pairs(
            labelled,
            checkpoint,
            options=detect_options(reading, options),
            backend=chosen,
            batch=batch,
        )
        for pair in found:
            pairs.append(pair)
            if on_progress is not None:
                on_progress(len(pairs), len(val))
    return pairs


def detect_options(reading: Reading, options: DetectOptions | None = None) -> DetectOptions:
    """Options with which detection reads rasters as training does.

    Args:
        reading: Of the rasters' source.
        options: All else; by default the model's own from `LOWEST_SCORE` up.
    """
    return replace(
        options or DetectOptions(score=LOWEST_SCORE),
        bands=reading.bands,
        scale=reading.scale,
        stretch=reading.stretch,
        gsd_m=reading.gsd_m,
        any_gsd=reading.any_gsd,
        pixel_coordinates=reading.gsd_m is not None,
    )
