"""Evaluate a model on labelled rasters through the whole product, or detections from a file."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from geo_retina.detection.backends import load_detector
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.run import find_in_raster
from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import Pair, pair_up
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.files import read_grid
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.checkpoint import read_info

_log = logging.getLogger(__name__)

LOWEST_SCORE = 0.05
"""Score from which boxes take part: a curve of precision and recall needs the unsure ones too."""


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


def detect_pairs(
    labelled: Sequence[LabelledRaster],
    model: str | Path,
    *,
    options: DetectOptions | None = None,
    device: str = "auto",
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Pair]:
    """Detect on each labelled raster, stitched, and put the result beside its labels.

    Args:
        labelled: What is known.
        model: Name of a bundled model, or path of a checkpoint.
        options: Of the detection; by default the model's, from `LOWEST_SCORE` up.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
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
    detector = load_detector(info, device=device)
    for number, item in enumerate(labelled, start=1):
        with open_job(item.raster, model, options) as job:
            found = find_in_raster(job, detector)
            grid = job.source.raster.grid
        yield Pair(item.raster, found, item.labels, item.site, grid, item.area)
        if on_progress is not None:
            on_progress(number)


def read_pairs(labelled: Sequence[LabelledRaster], detections: str | Path) -> list[Pair]:
    """Put the detections of a CSV in DeepForest's layout beside the labels.

    Raises:
        LabelError: The file cannot be read, has no scores, or lies on other rasters.
    """
    folder = Path(labelled[0].raster).parent
    found = read_deepforest_csv(detections, folder)
    return pair_up(labelled, found, grid_of=read_grid)
