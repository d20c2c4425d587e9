"""Which column of a vector file holds the class, and the class of each feature."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.labels.features import column_of, text_columns
from geo_retina.labels.image_paths import IMAGE
from geo_retina.labels.labels import ANY_CLASS, class_ids_of
from geo_retina.wording import counted, fid_list

if TYPE_CHECKING:
    import geopandas as gpd

CLASS_COLUMNS = ("class", "label")
"""Columns that name the class where none is stated: the first that is there. geo_retina writes the
first, DeepForest the second."""
_CALLED_CLASS = re.compile("class|label|categor|species", re.IGNORECASE)
"""How columns of numbers begin that may tell classes apart, such as ArcGIS's `Classvalue`; most
numbers of a feature do not."""
SCORE_COLUMN = "score"
"""Column that holds the score where no other is stated; geo_retina writes this one."""
_OUTLINES = "WKT"
"""Column of a CSV that GDAL hands on as text too, beside the geometries that it makes of it."""


def classes_of(
    frame: "gpd.GeoDataFrame",
    class_names: Sequence[str] | None,
    class_column: str | None,
    *,
    source: str,
    option: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class ids (N,) of features, and the class names.

    Args:
        frame: Features; their index is their number in the file.
        class_names: Names of class ids 0..K-1; None = those that occur.
        class_column: As stated, see `VectorOptions`.
        source: The file, for the error's text.
        option: What states `class_column`, likewise.

    Raises:
        LabelError: A feature has no class, an unknown one, or nothing tells where the class is.
    """
    column = None
    if class_column != "":
        column = column_of(frame, class_column, *CLASS_COLUMNS, source=source, option=option)
    if column is not None:
        texts = column.where(column.notna(), "").astype(str)
        without = frame.index[(texts.str.strip() == "").to_numpy()].unique()
        if len(without):
            raise LabelError(
                f"{source}: expected a class in the column {column.name!r}, "
                f"{counted(len(without), 'feature')} without ({fid_list(without)}); complete or "
                f"remove them, or state another column: {option}"
            )
        return class_ids_of(texts.tolist(), class_names, source=source)
    known = tuple(class_names or (ANY_CLASS,))
    if len(frame):
        _refuse_classless(frame, known, class_column, source=source, option=option)
    return np.zeros(len(frame), np.int64), known


def _refuse_classless(
    frame: "gpd.GeoDataFrame",
    known: Sequence[str],
    class_column: str | None,
    *,
    source: str,
    option: str,
) -> None:
    """Complain about features without a class column that cannot be taken as one class."""
    columns = [str(name) for name in frame.columns.drop(frame.geometry.name)]
    texts = [
        name
        for name in text_columns(frame)
        if name in columns and name not in (IMAGE, SCORE_COLUMN, _OUTLINES)
    ]
    numbers = [name for name in columns if _CALLED_CLASS.match(name) and frame[name].nunique() > 1]
    if class_column is None and (texts or numbers):
        names = " nor ".join(map(repr, CLASS_COLUMNS))
        kind, found = ("text", texts) if texts else ("numbers", numbers)
        raise LabelError(
            f"{source}: has neither a column {names}, but columns of {kind}: {', '.join(found)}; "
            f'state the one with the class: {option}, or "" where all is one class'
        )
    if len(known) > 1:
        raise LabelError(
            f"{source}: names no class, so nothing tells {', '.join(known)} apart; state the "
            f"column with the class: {option}, one of {', '.join(columns) or '(none)'}"
        )
