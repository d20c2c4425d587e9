"""Evaluate a model on labelled rasters through the whole product."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from geo_retina.detection.backends import Backend, choose_backend, load_backend
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.run import find_in_raster
from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.choice import LabelChoice, choose_split
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.checkpoint import read_info

__all__ = ["LOWEST_SCORE", "LabelChoice", "choose_split", "detect_pairs", "model_pairs"]

LOWEST_SCORE = 0.05
"""Score from which boxes take part: a curve of precision and recall needs the unsure ones too."""


def model_pairs(
    labels: LabelChoice,
    model: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    backend: str = "auto",
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Read labels, in the model's classes unless they state their own, and detect beside them.

    Args:
        labels: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        options: Of the detection; by default the model's, from `LOWEST_SCORE` up.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        backend: `auto`, `torch` or `openvino`, see `backends.choose_backend`.
        batch: Chips at once; None chooses by device.
        on_progress: Called after each raster with how many are done, of how many.

    Raises:
        LabelError: The labels cannot be read, or their classes are not the model's.
        UsageError: Another of its kinds, for a raster that does not fit the model.
    """
    info = read_info(model)
    chosen = choose_backend(info, device=device, backend=backend)
    names = labels.source.class_names or info.card.class_names
    labelled = replace(labels, source=replace(labels.source, class_names=names)).read()

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(labelled))

    return list(
        detect_pairs(
            labelled, model, options=options, backend=chosen, batch=batch, on_progress=report
        )
    )


def detect_pairs(
    labelled: Sequence[LabelledRaster],
    model: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    backend: Backend | None = None,
    batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Pair]:
    """Detect on each labelled raster, stitched, and put the result beside its labels.

    Args:
        labelled: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        options: Of the detection; by default the model's, from `LOWEST_SCORE` up.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        backend: What runs the network; None = what `choose_backend` takes for the device.
        batch: Chips at once; None chooses by device.
        on_progress: Called with the number of rasters done, after each.

    Raises:
        LabelError: The labels' classes are not the model's; where both know one class, its names
            may differ.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    info = read_info(model)
    names = info.card.class_names
    for item in labelled:
        own = item.labels.class_names
        if own != names and not len(own) == len(names) == 1:  # one thing has one meaning
            raise LabelError(
                f"the model {info.card.name} knows the classes {', '.join(names)}, the labels "
                f"{', '.join(own)}; read the labels with the model's names"
            )
    options = options or DetectOptions(score=LOWEST_SCORE)
    with _without_details():
        detector = load_backend(info, backend or choose_backend(info, device=device), batch=batch)
    for number, item in enumerate(labelled, start=1):
        with _without_details(), open_job(item.raster, model, options) as job:
            found = find_in_raster(job, detector)
            grid = job.source.raster.grid
        yield Pair(item.raster, found, item.labels, item.site, grid, item.area)
        if on_progress is not None:
            on_progress(number)


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
