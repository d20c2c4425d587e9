"""Labels as DeepForest writes them, for `geo_retina.labels.deepforest.read_deepforest_csv`."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from geo_retina.labels.csv_table import BOX, DESCRIPTIONS, LABEL, SCORE
from geo_retina.labels.image_paths import IMAGE
from geo_retina.labels.labels import LabelledRaster


def write_deepforest_csv(labelled: Sequence[LabelledRaster], path: Path) -> None:
    """Write a CSV with one row an object; an image without objects gets one without coordinates.

    Images are named as they are in `labelled`. Scores are written where all labels have them.
    """
    with_scores = all(item.labels.scores is not None for item in labelled if len(item.labels))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([IMAGE, *BOX, LABEL, *DESCRIPTIONS, *([SCORE] if with_scores else [])])
        for item in labelled:
            writer.writerows(_rows(item, with_scores=with_scores))


def _rows(item: LabelledRaster, *, with_scores: bool) -> Iterator[list[object]]:
    labels, scores = item.labels, item.labels.scores if with_scores else None
    if not len(labels):
        yield [item.raster, *[""] * (len(BOX) + 1), item.site, item.split]
    for index, box in enumerate(labels.boxes.tolist()):
        name = labels.class_names[labels.class_ids[index]]
        edges = [f"{edge:.12g}" for edge in box]
        score = [] if scores is None else [f"{scores[index]:.9g}"]
        yield [item.raster, *edges, name, item.site, item.split, *score]
