"""Evaluate a model on labelled rasters through the whole product."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from geo_retina.detection.backends import Backend, choose_backend, load_backend
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.run import find_in_raster
from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import ONE_CLASS_HINT, Pair, found_as_one_class
from geo_retina.labels.choice import LabelChoice
from geo_retina.labels.image_paths import refuse_missing_images
from geo_retina.labels.labels import LabelledRaster, UnknownClassError
from geo_retina.model.checkpoint import CheckpointInfo, read_info

LOWEST_SCORE = 0.05
"""Score from which boxes take part: a curve of precision and recall needs the unsure ones too. What
is asked for at a lower one needs more; see `lowest_score`."""
FROM_LOWEST_SCORE = DetectOptions(score=LOWEST_SCORE)
"""The model's own options, but every box that takes part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detecting:
    """How a model detects on labelled rasters."""

    options: DetectOptions = FROM_LOWEST_SCORE
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    backend: str | Backend = "auto"
    """What runs the network: a name that `choose_backend` knows, or what it chose before."""
    batch: int | None = None
    """Chips at once; None chooses by device."""
    on_progress: Callable[[int, int], None] | None = None
    """Called after each raster with how many are done, of how many."""

    def chosen_backend(self, info: CheckpointInfo) -> Backend:
        """What runs the network of a checkpoint.

        Raises:
            UsageError: One of its kinds, where the backend or the device is unknown or not there.
        """
        if isinstance(self.backend, Backend):
            return self.backend
        return choose_backend(info, device=self.device, backend=self.backend)


BY_DEFAULT = Detecting()


def lowest_score(model: str | Path, score: float | None) -> float:
    """Score to detect from, so that all boxes are there that are kept at the score of interest.

    Args:
        model: Name of a bundled model, or path of a checkpoint.
        score: At which precision and recall are wanted; None = the model's own, of each class.

    Raises:
        ModelError: The model is unknown.
    """
    if score is not None:
        return min(LOWEST_SCORE, score)
    card = read_info(model).card
    return min(LOWEST_SCORE, card.score, *card.class_scores.values())


def model_pairs(labels: LabelChoice, model: str | Path, how: Detecting = BY_DEFAULT) -> list[Pair]:
    """Read labels, in the model's classes unless they state their own, and detect beside them.

    With `class_agnostic` all labels and all detections count as one class, whatever their names.

    Args:
        labels: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        how: To detect.

    Raises:
        LabelError: The labels cannot be read, or their classes are not the model's.
        UsageError: Another of its kinds, for a raster that does not fit the model.
    """
    info = read_info(model)
    how = replace(how, backend=how.chosen_backend(info))  # before labels are read, which may last
    names = labels.source.class_names
    if names is None and not how.options.class_agnostic:  # else the labels' own
        names = info.card.class_names
    try:
        labelled = replace(labels, source=replace(labels.source, class_names=names)).read()
    except UnknownClassError as error:
        raise LabelError(f"{error}; {ONE_CLASS_HINT}") from error
    refuse_missing_images(labelled, source=labels.source.path, some_may_lack=False)
    return detect_pairs(labelled, model, how)


def detect_pairs(
    labelled: Sequence[LabelledRaster], model: str | Path, how: Detecting = BY_DEFAULT
) -> list[Pair]:
    """Detect on each labelled raster, stitched, and put the result beside its labels.

    Args:
        labelled: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        how: To detect.

    Raises:
        LabelError: The labels' classes are not the model's.
        UsageError: Another of its kinds, for a raster that does not fit the model.
    """
    return detect_each([(item, how.options) for item in labelled], model, how)


def detect_each(
    tasks: Sequence[tuple[LabelledRaster, DetectOptions]], model: str | Path, how: Detecting
) -> list[Pair]:
    """Detect on labelled rasters that are not all read alike.

    Args:
        tasks: What is known, and the options of its detection.
        model: Name of a bundled model, or path of a checkpoint.
        how: To detect; its `options` are not used.

    Raises:
        LabelError: The labels' classes are not the model's; where both know one class, its names
            may differ, and with `class_agnostic` all classes are one.
        UsageError: Another of its kinds, for a raster that does not fit the model.
    """
    info = read_info(model)
    names = info.card.class_names
    for item, options in tasks:
        own = item.labels.class_names
        if options.class_agnostic:
            continue
        if own != names and not len(own) == len(names) == 1:  # one thing has one meaning
            raise LabelError(
                f"the model {info.card.name} knows the classes {', '.join(names)}, the labels "
                f"{', '.join(own)}; read the labels with the model's names; {ONE_CLASS_HINT}"
            )
    pairs: list[Pair] = []
    with _without_details():
        detector = load_backend(info, how.chosen_backend(info), batch=how.batch)
        for item, options in tasks:
            with open_job(item.raster, model, options) as job:
                limited = job if item.area is None else job.within(item.area)
                found = find_in_raster(limited, detector)
                grid = job.source.raster.grid
            known = item.labels
            if options.class_agnostic:
                found, known = found_as_one_class(found), known.as_one_class()
            pairs.append(Pair(item.raster, found, known, item.site, grid, item.area))
            if how.on_progress is not None:
                how.on_progress(len(pairs), len(tasks))
    return pairs


@contextmanager
def _without_details() -> Iterator[None]:
    """Of detection, log warnings only: what is of interest for one raster is noise for hundreds."""
    logger = logging.getLogger("geo_retina.detection")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)
