"""Labels with one text file an image: YOLO and DOTA."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from geo_retina.errors import LabelError
from geo_retina.labels.files import files_ending, find_images, read_grid, read_lines
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of
from geo_retina.labels.yolo_sets import YoloImage, find_yolo
from geo_retina.wording import listed

_YOLO_BOX, _YOLO_BOX_AND_SCORE, _YOLO_POLYGON = 5, 6, 7
_DOTA_CORNERS = 8


def read_yolo(
    path: str | PathLike[str],
    images: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    numbered_names: Sequence[str] | None = None,
) -> list[LabelledRaster]:
    """Read YOLO text files: `class x_centre y_centre width height [score]`, shares of the image.

    A line `class x1 y1 x2 y2 x3 y3 ...` (YOLO-seg, YOLO-OBB) becomes the box around the polygon.
    Where the YAML file says that lines hold keypoints behind a box (`kpt_shape`), the box is taken.

    Args:
        path: Folder of `.txt` files named like the images; a data set's YAML file (`names`,
            `path`, `train`, `val`, `test`); a folder with such a file, or with `images` and
            `labels`, in it or in a folder for each split; or `labels` alone, with folders below.
        images: Where the images lie, see `find_yolo`; an image without text file has no objects.
        class_names: Names of class ids 0..K-1; None takes those of the data set, from its YAML
            file or `classes.txt`. Where the data set has names too, classes go by their names.
        numbered_names: Names of the numbers 0... in files of a data set without names, all of them
            among `class_names`; None = `class_names`.

    Returns:
        One entry an image, in alphabetical order within a split; `split` is the YAML file's or the
        folder's.

    Raises:
        LabelError: There is no text file, a line cannot be read, a class is unknown, or a text file
            has no image.
    """
    found = find_yolo(Path(path), None if images is None else str(images))
    if class_names is None and found.class_names is None:
        raise LabelError(
            f"{path}: YOLO numbers its classes: state their names, --classes (card.class_names in "
            "a recipe), or list them in classes.txt, one a line"
        )
    own = tuple(found.class_names or numbered_names or class_names or ())
    wanted = own if class_names is None else tuple(class_names)
    return [
        LabelledRaster(
            item.image,
            _yolo_labels(item, own, wanted, has_keypoints=found.has_keypoints),
            split=item.split,
        )
        for item in found.images
    ]


def read_dota(
    folder: str | PathLike[str],
    image_folder: str | PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
) -> list[LabelledRaster]:
    """Read DOTA text files: `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, as enclosing boxes.

    Args:
        folder: Holds `.txt` files named like the images (`labelTxt`).
        image_folder: Holds the images.
        class_names: Names of class ids 0..K-1; None takes the names that occur, in alphabetical
            order.

    Returns:
        One entry a text file, in alphabetical order; `difficult` objects are marked as ignored.

    Raises:
        LabelError: A line cannot be read, a class is unknown, or an image is missing.
    """
    rows = {file: _dota_rows(file) for file in files_ending(Path(folder), ".txt")}
    if not rows:
        raise LabelError(f"{folder}: expected .txt files in the folder, found none")
    if class_names is None:
        class_names = sorted({row[1] for found in rows.values() for row in found})
    labelled = []
    images = find_images(image_folder, (file.stem for file in rows))
    for image, (file, found) in zip(images, rows.items(), strict=True):
        ids, known = class_ids_of([row[1] for row in found], class_names, source=str(file))
        boxes = np.array([row[0] for row in found]).reshape(-1, 4)
        difficult = np.array([row[2] for row in found], dtype=np.bool_)
        labels = Labels.of(boxes, ids, known, ignored=difficult if difficult.any() else None)
        labelled.append(LabelledRaster(image, labels))
    return labelled


def _yolo_labels(
    item: YoloImage, own: tuple[str, ...], wanted: tuple[str, ...], *, has_keypoints: bool
) -> Labels:
    """Labels of one image, with the classes `wanted`; the file's ids number `own`."""
    file = item.labels
    lines = [] if file is None else _lines(file)
    if has_keypoints:
        lines = [(number, fields[:_YOLO_BOX]) for number, fields in lines]
    rows = [_yolo_row(file, *line) for line in lines]
    if not rows:
        return Labels.empty(wanted)
    grid = read_grid(item.image)
    boxes = np.array([row[1] for row in rows]) * [grid.width, grid.height, grid.width, grid.height]
    scores = [row[2] for row in rows]
    has_scores = all(score is not None for score in scores)
    strange = sorted({row[0] for row in rows if not 0 <= row[0] < len(own)})
    if strange:
        raise LabelError(
            f"{file}: class ids must be in 0..{len(own) - 1} ({', '.join(own)}), got "
            f"{listed(strange)}; name all classes: --classes (in a recipe card.class_names, or "
            "classes of the source), or in the data set's own file"
        )
    ids, known = class_ids_of([own[row[0]] for row in rows], wanted, source=str(file))
    return Labels.of(boxes, ids, known, scores=np.array(scores) if has_scores else None)


def _yolo_row(
    file: Path | None, number: int, fields: list[str]
) -> tuple[int, tuple[float, float, float, float], float | None]:
    """Class id, box in shares of the image, and score of one line."""
    try:
        class_id, values = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError as error:
        raise LabelError(f"{file}, line {number}: expected numbers: {error}") from error
    if len(fields) in (_YOLO_BOX, _YOLO_BOX_AND_SCORE):
        x, y, width, height = values[:4]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return class_id, box, values[4] if len(fields) == _YOLO_BOX_AND_SCORE else None
    if len(fields) >= _YOLO_POLYGON and len(fields) % 2 == 1:
        return class_id, _enclosing(values), None
    raise LabelError(
        f"{file}, line {number}: expected class and 4 numbers (box), 5 (box and score) or pairs of "
        f"x, y (polygon), got {len(values)} numbers"
    )


def _dota_rows(file: Path) -> list[tuple[tuple[float, float, float, float], str, bool]]:
    rows = []
    for number, fields in _lines(file):
        if ":" in fields[0]:  # header lines `imagesource:...` and `gsd:...`
            continue
        try:
            corners = [float(field) for field in fields[:_DOTA_CORNERS]]
            name = fields[_DOTA_CORNERS]
            difficult = len(fields) > _DOTA_CORNERS + 1 and int(fields[_DOTA_CORNERS + 1]) > 0
        except (ValueError, IndexError) as error:
            raise LabelError(
                f"{file}, line {number}: expected 8 numbers, class and difficult, got "
                f"{' '.join(fields)!r}"
            ) from error
        rows.append((_enclosing(corners), name, difficult))
    return rows


def _enclosing(values: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Numbered lines of a text file, split at white space; empty ones left out."""
    lines = enumerate(read_lines(file, of="labels"), 1)
    return [(number, line.split()) for number, line in lines if line.strip()]
