"""Labels and detections as DeepForest writes them: a CSV with one row an object."""

import csv as csv_format
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError, OutputError
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of

if TYPE_CHECKING:
    import pandas as pd

_BOX = ("xmin", "ymin", "xmax", "ymax")
_DESCRIPTIONS = ("site", "split")
_TEXTS = ("image_path", "label", *_DESCRIPTIONS)
"""Columns that are read as they stand, also where they hold numbers."""


def read_deepforest_csv(
    csv: str | PathLike[str],
    image_folder: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> list[LabelledRaster]:
    """Read a CSV with the columns `image_path, xmin, ymin, xmax, ymax, label`.

    Boxes are pixel edges in the image's frame. A row with empty coordinates lists an image without
    objects; so does a row of four zeros, which DeepForest itself writes for it. The columns
    `score`, `site` and `split` are kept where present; others are passed over.

    Args:
        csv: The file.
        image_folder: Where the images lie; None = beside the CSV.
        class_names: Names of class ids 0..K-1; None takes the names that occur, in alphabetical
            order.

    Returns:
        One entry an image, in the order of first mention.

    Raises:
        LabelError: The file cannot be read, lacks a column, holds a half-empty or non-numeric box
            or a class that is not among `class_names`.
    """
    table = _read_table(Path(csv))
    folder = Path(csv).parent if image_folder is None else Path(image_folder)
    boxes = table[list(_BOX)].to_numpy(dtype=np.float64)
    has_object = np.isfinite(boxes).all(axis=1) & (boxes != 0).any(axis=1)
    names = table["label"].astype(str).to_numpy() if "label" in table else np.array(["object"])
    names = np.broadcast_to(names, len(table))
    class_ids = np.full(len(table), -1, dtype=np.int64)
    class_ids[has_object], known = class_ids_of(
        names[has_object].tolist(), class_names, source=str(csv)
    )
    scores = table["score"].to_numpy(dtype=np.float32) if "score" in table else None
    found = []
    for image, group in table.groupby("image_path", sort=False).indices.items():
        rows = np.asarray(group, dtype=np.int64)
        kept = rows[has_object[rows]]
        labels = Labels.of(
            boxes[kept], class_ids[kept], known, scores=None if scores is None else scores[kept]
        )
        raster = str(folder / str(image))
        site, split = (_single(table, column, rows, image=str(image)) for column in _DESCRIPTIONS)
        found.append(LabelledRaster(raster, labels, site=site, split=split))
    return found


def write_deepforest_csv(labelled: Sequence[LabelledRaster], csv: str | PathLike[str]) -> Path:
    """Write a CSV that `read_deepforest_csv` reads back, with `site` and `split` columns.

    Images below the CSV's folder are named relative to it, others by their whole path, but for
    names without a folder, which stay as they are. An image without objects gets a row with empty
    coordinates. Scores are written where all labels have them.

    Args:
        labelled: Rasters and labels.
        csv: File to write; replaced if it is there.

    Returns:
        `csv`.

    Raises:
        LabelError: An entry has an `area` or ignored labels, which a CSV cannot hold.
        OutputError: The file cannot be written.
    """
    path = Path(csv)
    with_scores = all(item.labels.scores is not None for item in labelled if len(item.labels))
    columns = ["image_path", *_BOX, "label", *_DESCRIPTIONS, *(["score"] if with_scores else [])]
    rows = [row for item in labelled for row in _rows(item, path.parent, with_scores=with_scores)]
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv_format.writer(file)
            writer.writerows([columns, *rows])
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error
    return path


def _rows(item: LabelledRaster, folder: Path, *, with_scores: bool) -> list[list[object]]:
    """Rows of one image."""
    labels = item.labels
    if item.area is not None or not labels.counted.all():
        what = "an annotated area" if item.area is not None else "ignored labels"
        raise LabelError(f"{item.raster}: a CSV cannot hold {what}; cut chips and use their COCO")
    name = _image_name(item.raster, folder)
    if not len(labels):
        return [[name, *[""] * (len(_BOX) + 1), item.site, item.split]]
    scores = labels.scores if with_scores else None
    return [
        [
            name,
            *(f"{edge:.12g}" for edge in box),
            labels.class_names[class_id],
            item.site,
            item.split,
            *([] if scores is None else [f"{scores[index]:.9g}"]),
        ]
        for index, (box, class_id) in enumerate(
            zip(labels.boxes.tolist(), labels.class_ids.tolist(), strict=True)
        )
    ]


def _image_name(raster: str, folder: Path) -> str:
    """How a CSV in `folder` names an image."""
    if Path(raster).name == raster or "://" in raster:
        return raster
    image, beside = Path(raster).absolute(), folder.absolute()
    return str(image.relative_to(beside) if image.is_relative_to(beside) else image)


def _read_table(csv: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        table = pd.read_csv(csv, skipinitialspace=True, dtype=dict.fromkeys(_TEXTS, "str"))
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise LabelError(f"{csv}: expected a CSV file with a header row: {error}") from error
    missing = [name for name in ("image_path", *_BOX) if name not in table]
    if missing:
        raise LabelError(
            f"{csv}: expected the columns image_path, {', '.join(_BOX)}, label; "
            f"{', '.join(missing)} missing among {', '.join(map(str, table.columns))}"
        )
    for column in (*_BOX, "score"):
        if column in table:
            table[column] = _numbers(table[column], csv=csv)
    empty = table[list(_BOX)].isna()
    _refuse_row(csv, empty.any(axis=1) & ~empty.all(axis=1), "a box with empty coordinates")
    _refuse_row(csv, table["image_path"].isna(), "no image_path")
    if "label" in table:
        _refuse_row(csv, table["label"].isna() & ~empty.any(axis=1), "a box without label")
    return table


def _numbers(column: "pd.Series[str]", *, csv: Path) -> "pd.Series[float]":
    import pandas as pd

    numbers: pd.Series[float] = pd.to_numeric(column, errors="coerce")
    _refuse_row(csv, numbers.isna() & column.notna(), f"no number in the column {column.name}")
    return numbers


def _refuse_row(csv: Path, bad: "pd.Series[bool]", what: str) -> None:
    if bad.any():
        line = int(np.flatnonzero(bad.to_numpy())[0]) + 2
        raise LabelError(f"{csv}, line {line}: {what}; complete or remove the row")


def _single(table: "pd.DataFrame", column: str, rows: NDArray[np.int64], *, image: str) -> str:
    """The one value that a column has for an image; empty where there is no such column."""
    if column not in table:
        return ""
    values = table[column].iloc[rows].dropna().astype(str).unique().tolist()
    if len(values) > 1:
        raise LabelError(
            f"the image {image} has several values of {column}: {', '.join(values)}; an image "
            f"belongs to one {column}"
        )
    return values[0] if values else ""
