"""What the recipe inside a checkpoint tells about an evaluation.

Reads no pixels and does not load torch.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import TypeAdapter, ValidationError

from geo_retina.errors import GeoRetinaError
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.seen import KnownRaster, known_raster, read_split_map
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.model.checkpoint import CheckpointInfo, read_info
from geo_retina.training.division import Division, divide_sources
from geo_retina.training.sources import Source
from geo_retina.training.split_map import SPLIT_NAME

if TYPE_CHECKING:
    from geo_retina.training.settings import ValidationSettings  # loads torch

_RECIPE_NAME = "recipe.json"  # as in training.run_folder, which takes seconds to import
_SAME_RASTERS = "on these same rasters"
_ADVICE = "optimistic; hold out a test set (another split or file given with --labels)"


def point_size_m(model: str) -> float | None:
    """Side of the boxes around points that a model learned from; None where no one size is told."""
    recipe = _plain(read_info(model).recipe)
    sources = [*(recipe.get("train") or ()), *(recipe.get("val") or ())]
    sizes = {source.get("point_size_m") for source in sources} - {None}
    return float(sizes.pop()) if len(sizes) == 1 else None


def score_origin(validation: "ValidationSettings") -> str:
    """Where the score in a card comes from, for an evaluation on the recipe's own val side."""
    weights = ", as were the weights" if _chooses_weights(validation) else ""
    return f"chosen {_SAME_RASTERS}{weights}: {_ADVICE}"


def weights_caution(validation: "ValidationSettings") -> list[str]:
    """The same where the score was stated by the user: a sentence, or none."""
    return [f"the weights were chosen {_SAME_RASTERS}: {_ADVICE}."] * _chooses_weights(validation)


def _chooses_weights(validation: "ValidationSettings") -> bool:
    return validation.keep == "best" or validation.patience is not None


def rasters_of_run(info: CheckpointInfo) -> list[KnownRaster]:
    """Rasters of the run folder that a checkpoint lies in; none where it lies elsewhere."""
    if not _is_run_of(info, info.path.with_name(_RECIPE_NAME)):
        return []
    return read_split_map(info.path.with_name(SPLIT_NAME))


def known_rasters(
    model: str, pairs: Sequence[Pair], *, labels: str, data: Path | None
) -> list[KnownRaster]:
    """Rasters that the training of a model used, as far as that can be found out here.

    They are those of the run folder that the checkpoint lies in; otherwise those that the sources
    of its recipe give, where these are found in `data`, or in the folder that the evaluated labels
    or rasters would have if they were the recipe's.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        pairs: What is evaluated.
        labels: Path of its labels.
        data: Folder that the recipe's paths are relative to, if it was stated.
    """
    info = read_info(model)
    known = rasters_of_run(info)
    if known:
        return known
    places = [Path(labels), *(Path(pair.name) for pair in pairs)]
    with _silent():
        return _rasters_of(_Sides.of(info), data=data, places=places)


@dataclass(frozen=True, slots=True)
class _Sides:
    """What a recipe says about its rasters; its other parts would load torch."""

    sources: tuple[tuple[str, Source], ...]
    """Each with its side."""
    division: Division | None
    """How the train sources are divided; None where each is of one side."""
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, info: CheckpointInfo) -> Self:
        """Read the recipe of a checkpoint; of one of another version, nothing."""
        plain = _plain(info.recipe)
        one, names = TypeAdapter[Source](Source), info.card.class_names
        divided = TypeAdapter[Division | None](Division | None)
        try:
            sources = [
                (side, one.validate_python(item))
                for side in (TRAIN, VAL)
                for item in plain.get(side) or ()
            ]
            return cls(tuple(sources), divided.validate_python(plain.get("divide")), names)
        except ValidationError:
            return cls((), None, names)


def _plain(recipe: str | None) -> dict[str, Any]:
    try:
        found = json.loads(recipe or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_run_of(info: CheckpointInfo, recipe: Path) -> bool:
    """Whether a recipe beside a checkpoint is that of the checkpoint."""
    try:
        return _plain(recipe.read_text(encoding="utf-8")) == _plain(info.recipe)
    except (OSError, UnicodeDecodeError):
        return False


def _rasters_of(sides: _Sides, *, data: Path | None, places: Sequence[Path]) -> list[KnownRaster]:
    """Rasters of all sources; those that a source's paths name where its labels are not found."""
    found = [
        _labelled(source, sides.class_names, data=data, places=places)
        for _, source in sides.sources
    ]
    if sides.division is not None:
        try:
            found = divide_sources(sides.division, found)
        except (GeoRetinaError, OSError, ValueError):  # changed since
            return []
    names = {place.name for place in places}
    known = []
    for (side, source), labelled in zip(sides.sources, found, strict=True):
        paths = _paths(source)
        sure = data is not None or all(path.is_absolute() for path in paths)
        known += [
            known_raster(item, side if sides.division is None else item.split, sure=sure)
            for item in labelled
            if Path(item.raster).name in names
        ]
        if not labelled and sides.division is None:  # else nobody knows on which side they were
            known += [
                KnownRaster(str(path), side, sure=sure) for path in paths if path.name in names
            ]
    return known


def _labelled(
    source: Source, class_names: tuple[str, ...], *, data: Path | None, places: Sequence[Path]
) -> list[LabelledRaster]:
    """What a source reads in the first folder that holds it; nothing where none does."""
    for folder in [data] if data is not None else _folders(_paths(source), places):
        with suppress(GeoRetinaError, OSError, ValueError):  # not there, or changed since
            return source.read(folder, class_names)
    return []


def _paths(source: Source) -> list[Path]:
    """Paths of labels and rasters as the recipe states them."""
    stated = source.model_dump()
    images = stated.get("images") or ()
    images = (images,) if isinstance(images, str) else images
    labels = () if stated.get("labels") is None else (stated["labels"],)
    return [Path(path) for path in (*labels, *images) if "://" not in path]


def _folders(paths: Sequence[Path], places: Sequence[Path]) -> list[Path]:
    """Where a data folder may be: here, or where a place ends as one of the recipe's paths does."""
    known = {place for path in map(Path.resolve, places) for place in (path, path.parent)}
    ends = [path.parts for path in paths if path.parts and not path.is_absolute()]
    found = {
        Path(*place.parts[: -len(end)])
        for place in known
        for end in ends
        if place.parts[-len(end) :] == end
    }
    return [Path(), *sorted(found)]


@contextmanager
def _silent() -> Iterator[None]:
    """Log nothing of labels that are not those to evaluate on."""
    logger = logging.getLogger("geo_retina.labels")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
