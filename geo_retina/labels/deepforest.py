"""Labels and detections as DeepForest writes them: a CSV with one row an object."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.labels.csv_table import (
    BOX,
    DESCRIPTIONS,
    LABEL,
    SCORE,
    further_text_columns,
    read_table,
    single_value,
)
from geo_retina.labels.features import CLASS_OPTION
from geo_retina.labels.image_paths import IMAGE, locate_images, same_file_key
from geo_retina.labels.labels import ANY_CLASS, LabelledRaster, Labels, class_ids_of

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


def read_deepforest_csv(
    csv: str | PathLike[str],
    image_folder: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    class_column: str | None = None,
    class_option: str = CLASS_OPTION,
) -> list[LabelledRaster]:
    """Read a CSV with the columns `image_path, xmin, ymin, xmax, ymax, label`.

    Boxes are pixel edges in the image's frame; in their place, `geometry` may hold polygons in
    pixels as WKT. A row with empty coordinates lists an image without objects; so does a row of
    four zeros, which DeepForest itself writes for it. The columns `score`, `site` and `split` are
    kept where present; others are passed over.

    Args:
        csv: The file; separated by commas, semicolons or tabs.
        image_folder: Where the images lie; None = beside the CSV. An image whose path leads
            nowhere is taken from this folder by its name.
        class_names: Names of class ids 0..K-1; None takes the names that occur, in alphabetical
            order.
        class_column: Column with the class; None = `label`. A file without it, and without other
            columns of text, has one class. Empty: all is one class.
        class_option: What states `class_column`, for the error's text.

    Returns:
        One entry an image, in the order of first mention, however its path is spelt.

    Raises:
        LabelError: The file cannot be read, lacks a column, holds a half-empty, infinite or
            non-numeric box or a class that is not among `class_names`, does not tell which column
            is the class, or has several sites or splits for one image.
    """
    table = read_table(Path(csv), class_column=class_column)
    folder = Path(csv).parent if image_folder is None else image_folder
    boxes = table[list(BOX)].to_numpy(dtype=np.float64)
    has_object = ~np.isnan(boxes).any(axis=1) & (boxes != 0).any(axis=1)
    names = _class_of_rows(table, class_names, class_column, source=str(csv), option=class_option)
    class_ids = np.full(len(table), -1, dtype=np.int64)
    class_ids[has_object], known = class_ids_of(
        names[has_object].tolist(), class_names, source=str(csv)
    )
    scores = table[SCORE].to_numpy(dtype=np.float32) if SCORE in table else None
    images = table[IMAGE].astype(str)
    paths = locate_images(images, folder, source=csv)
    files = images.map({name: same_file_key(path) for name, path in paths.items()})
    found = []
    for group in table.groupby(files.to_numpy(), sort=False).indices.values():
        rows = np.asarray(group, dtype=np.int64)
        image = images.iloc[rows[0]]
        kept = rows[has_object[rows]]
        labels = Labels.of(
            boxes[kept], class_ids[kept], known, scores=None if scores is None else scores[kept]
        )
        site, split = (single_value(table, column, rows, image=image) for column in DESCRIPTIONS)
        found.append(LabelledRaster(paths[image], labels, site=site, split=split))
    return found


def _class_of_rows(
    table: "pd.DataFrame",
    class_names: Sequence[str] | None,
    class_column: str | None,
    *,
    source: str,
    option: str,
) -> NDArray[np.object_]:
    """(N,) class name of each row.

    Raises:
        LabelError: There is no column `class_column`, or none is stated and no `label` is there
            while other columns or several classes say that there is more than one.
    """
    column = class_column or LABEL
    if class_column != "" and column in table:
        return table[column].astype(str).to_numpy(dtype=object)
    known = tuple(class_names or (ANY_CLASS,))
    if class_column == "" and len(known) > 1:
        raise LabelError(
            f"{source}: nothing tells {', '.join(known)} apart; state the column with the class, "
            f"one of {', '.join(map(str, table.columns))}: {option}"
        )
    texts = [] if class_column == "" else further_text_columns(table)
    if class_column or texts or len(known) > 1:
        others = ", ".join(texts or map(str, table.columns))
        raise LabelError(
            f"{source}: has no column {column!r} with the class, but {others}; state the one with "
            f'the class: {option}, "" where all is one class'
        )
    if len(table) and class_column is None:
        _log.warning(
            "%s: has no column %r; all %d rows are taken as one class, %r; another column: %s",
            source, LABEL, len(table), known[0], option,
        )  # fmt: skip
    return np.full(len(table), known[0], dtype=object)
