"""The rows of a CSV with one object each, as DeepForest writes them: checked, with boxes."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.labels.features import text_columns
from geo_retina.labels.image_paths import IMAGE

if TYPE_CHECKING:
    import pandas as pd

LABEL, SCORE, GEOMETRY = "label", "score", "geometry"
BOX = ("xmin", "ymin", "xmax", "ymax")
DESCRIPTIONS = ("site", "split")
_TEXTS = (IMAGE, LABEL, *DESCRIPTIONS)
"""Columns that are read as they stand, also where they hold numbers."""
_KNOWN = {*_TEXTS, *BOX, SCORE, GEOMETRY}
_SEPARATORS = ",;\t"


def read_table(csv: Path, *, class_column: str | None = None) -> "pd.DataFrame":
    """Read and check a table; columns are separated by commas, semicolons or tabs.

    Boxes are the columns `xmin, ymin, xmax, ymax`, or the bounds of `geometry`, polygons in pixels
    as WKT, as DeepForest 2 writes them.

    Args:
        csv: The file.
        class_column: Column with the class; None = `label`; empty = none.

    Raises:
        LabelError: The file cannot be read, lacks a column, holds a half-empty, infinite or
            non-numeric box, a geometry without area, or an object without image or class.
    """
    import pandas as pd

    texts = (*_TEXTS, class_column or LABEL)
    try:
        separator = _separator(csv)
        table = pd.read_csv(
            csv,
            sep=separator,
            decimal="," if separator == ";" else ".",
            skipinitialspace=True,
            dtype=dict.fromkeys(texts, "str"),
        )
    except UnicodeDecodeError as error:
        raise LabelError(f"{csv}: expected a CSV file in UTF-8: {error}; save it so") from error
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise LabelError(f"{csv}: expected a CSV file with a header row: {error}") from error
    if GEOMETRY in table and not set(BOX) & set(table.columns):
        table[list(BOX)] = _bounds(table[GEOMETRY], csv=csv)
    missing = [name for name in (IMAGE, *BOX) if name not in table]
    if missing:
        raise LabelError(
            f"{csv}: expected the columns image_path, {', '.join(BOX)}, label, separated by "
            f"commas, semicolons or tabs, or {GEOMETRY} (WKT in pixels) for the box; "
            f"{', '.join(missing)} missing among {', '.join(map(str, table.columns))}"
        )
    for column in (*BOX, SCORE):
        if column in table:
            table[column] = _numbers(table[column], csv=csv)
    endless = np.isinf(table[list(BOX)].to_numpy(dtype=np.float64)).any(axis=1)
    refuse_row(csv, endless, "a box with infinite coordinates")
    empty = table[list(BOX)].isna()
    refuse_row(csv, empty.any(axis=1) & ~empty.all(axis=1), "a box with empty coordinates")
    refuse_row(csv, table[IMAGE].isna(), "no image_path")
    classes = LABEL if class_column is None else class_column
    if classes in table:
        refuse_row(
            csv,
            table[classes].isna() & ~empty.any(axis=1),
            f"a box without {classes} (words such as NA, None, null and nan stand for none)",
        )
    return table


def further_text_columns(table: "pd.DataFrame") -> list[str]:
    """Names of the columns that hold text and are none of DeepForest's."""
    return [name for name in text_columns(table) if name not in _KNOWN]


def single_value(table: "pd.DataFrame", column: str, rows: NDArray[np.int64], *, image: str) -> str:
    """The one value that a column has for an image; empty where there is no such column.

    Raises:
        LabelError: There are several.
    """
    if column not in table:
        return ""
    values = table[column].iloc[rows].dropna().astype(str).unique().tolist()
    if len(values) > 1:
        raise LabelError(
            f"the image {image} has several values of {column}: {', '.join(values)}; an image "
            f"belongs to one {column}"
        )
    return values[0] if values else ""


def header_of(csv: Path) -> list[str]:
    """Names of the columns; empty where the file cannot be read."""
    try:
        return [name.strip(' "') for name in _first_line(csv).split(_separator(csv))]
    except (OSError, UnicodeDecodeError):
        return []


def _separator(csv: Path) -> str:
    """What the header is separated by most often."""
    header = _first_line(csv)
    return max(_SEPARATORS, key=header.count)


def _first_line(csv: Path) -> str:
    with csv.open(encoding="utf-8-sig") as lines:
        return lines.readline().strip("\r\n")


def _bounds(column: "pd.Series[str]", *, csv: Path) -> NDArray[np.float64]:
    """Boxes around geometries; NaN where there is none."""
    texts = column.astype(object).where(column.notna(), None).to_numpy()
    shapes = shapely.from_wkt(texts, on_invalid="ignore")
    none = shapely.is_missing(shapes)
    refuse_row(csv, column.notna() & none, f"no WKT in the column {GEOMETRY}")
    boxes: NDArray[np.float64] = shapely.bounds(shapes)
    flat = ~none & (boxes != 0).any(axis=1) & (boxes[:, :2] == boxes[:, 2:]).any(axis=1)
    refuse_row(
        csv, flat, f"expected a polygon in the column {GEOMETRY}, got a point or a line, which has "
        "no box"
    )  # fmt: skip
    return boxes


def _numbers(column: "pd.Series[str]", *, csv: Path) -> "pd.Series[float]":
    import pandas as pd

    numbers: pd.Series[float] = pd.to_numeric(column, errors="coerce")
    refuse_row(csv, numbers.isna() & column.notna(), f"no number in the column {column.name}")
    return numbers


def refuse_row(csv: Path, bad: "pd.Series[bool] | NDArray[np.bool_]", what: str) -> None:
    """Complain about the first bad row of a table.

    Args:
        csv: The file.
        bad: (N,) of its rows.
        what: Is wrong with it, for the error's text.

    Raises:
        LabelError: There is one.
    """
    wrong = np.flatnonzero(np.asarray(bad))
    if len(wrong):
        line = _line_of(csv, int(wrong[0]))
        raise LabelError(f"{csv}, line {line}: {what}; complete or remove the row")


def _line_of(csv: Path, row: int) -> int:
    """Number in the file, from 1, of a row of the table, which knows no blank lines."""
    with csv.open(encoding="utf-8-sig") as file:
        filled = (number for number, line in enumerate(file, 1) if line.strip())
        return next(islice(filled, row + 1, None), row + 2)  # behind the header
