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
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.formats import LabelSource, read_labels
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.listing import choose_listed
from geo_retina.model.checkpoint import read_info

LOWEST_SCORE = 0.05
"""Score from which boxes take part: a curve of precision and recall needs the unsure ones too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """Labels to evaluate on, and which of their rasters."""

    source: LabelSource
    label_format: str | None = None
    """A key of `geo_retina.labels.formats.READERS`; None = told by the file."""
    only: str | Path | None = None
    """Text file that names the rasters to take, one a line; None = all."""
    split: str | None = None
    """Only rasters of this split; None = all."""

    def read(self) -> list[LabelledRaster]:
        """Read the labels of the chosen rasters.

        Raises:
            LabelError: They cannot be read, or none is left.
        """
        labelled = read_labels(self.source, label_format=self.label_format)
        if self.only is not None:
            labelled = choose_listed(labelled, self.only)
        return choose_split(labelled, self.split)


def choose_split(labelled: Sequence[LabelledRaster], split: str | None) -> list[LabelledRaster]:
    """The rasters of one split, or all.

    Raises:
        LabelError: There are none.
    """
    chosen = [item for item in labelled if split in (None, item.split)]
    if not chosen:
        known = ", ".join(sorted({item.split for item in labelled})) or "none"
        raise LabelError(f"no labelled raster belongs to the split {split!r}; known: {known}")
    return chosen


def model_pairs(
    labels: LabelChoice,
    model: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Read labels, in the model's classes unless they state their own, and detect beside them.

    Args:
        labels: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        options: Of the detection; by default the model's, from `LOWEST_SCORE` up.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_progress: Called after each raster with how many are done, of how many.

    Raises:
        LabelError: The labels cannot be read, or their classes are not the model's.
        UsageError: Another of its kinds, for a raster that does not fit the model.
    """
    names = labels.source.class_names or read_info(model).card.class_names
    labelled = replace(labels, source=replace(labels.source, class_names=names)).read()

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(labelled))

    return list(detect_pairs(labelled, model, options=options, device=device, on_progress=report))


def detect_pairs(
    labelled: Sequence[LabelledRaster],
    model: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    backend: Backend | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Pair]:
    """Detect on each labelled raster, stitched, and put the result beside its labels.

    Args:
        labelled: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        options: Of the detection; by default the model's, from `LOWEST_SCORE` up.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        backend: What runs the network; None = what `choose_backend` takes for the device.
        on_progress: Called with the number of rasters done, after each.

    Raises:
        LabelError: The labels' classes are not the model's.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    info = read_info(model)
    names = info.card.class_names
    for item in labelled:
        if item.labels.class_names != names:
            raise LabelError(
                f"the model {info.card.name} knows the classes {', '.join(names)}, the labels "
                f"{', '.join(item.labels.class_names)}; read the labels with the model's names"
            )
    options = options or DetectOptions(score=LOWEST_SCORE)
    with _without_details():
        detector = load_backend(info, backend or choose_backend(info, device=device))
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
