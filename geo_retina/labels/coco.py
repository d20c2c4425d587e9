"""Labels in COCO form: one JSON file for many images."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from geo_retina.errors import LabelError
from geo_retina.labels.files import refuse_other_size
from geo_retina.labels.image_paths import locate_images, refuse_same_image
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of
from geo_retina.space import boxes as box_arrays
from geo_retina.wording import listed

_ANNOTATIONS, _IMAGES = "annotations", "images"
_BOX_NUMBERS = 4
_INSTANCES = "instances_"
"""How the files in `annotations` are called, before the name of the split."""


def read_coco(
    path: str | PathLike[str],
    image_folder: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> list[LabelledRaster]:
    """Read a COCO instance file.

    Args:
        path: JSON file with `images`, `annotations` and `categories`.
        image_folder: Where the images lie; None = beside the JSON file, or in the folders of COCO's
            layout, see `_folder_of_images`. An image whose `file_name` leads nowhere is taken from
            this folder by its name.
        class_names: Names of class ids 0..K-1; None takes the file's categories in the order of
            their ids.

    Returns:
        One entry an image in the file's order, also for images without objects. `iscrowd` marks
        ignored objects. A `score` in annotations is kept. Boxes are put around what CVAT says is
        turned (`attributes.rotation`, degrees).

    Raises:
        LabelError: The file cannot be read, or contradicts itself: two images or two categories
            have one id, or two images are one file. Or its images lie in several folders, or have
            another width and height than it states.
    """
    source = Path(path)
    content = read_json(source)
    if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
        raise LabelError(f"{path}: expected a COCO file with images, annotations and categories")
    try:
        categories = {
            key: name.strip() for key, name in _by_id(content, "categories", "name", path).items()
        }
        if class_names is None:
            names = (categories[key] for key in sorted(categories))
            class_names = list(dict.fromkeys(names))  # two categories of one name are one class
        images = _by_id(content, "images", "file_name", path)
        of_image = _by_image(content.get("annotations", []), images, categories, source)
        folder = image_folder or _folder_of_images(source, images.values())
        paths = locate_images(images.values(), folder, source=path)
        refuse_same_image(
            ((f"image id {key}", paths[name]) for key, name in images.items()),
            source=path,
            remedy="merge the two images and the image_id of their annotations",
        )
        sizes = {paths[images[row["id"]]]: _size(row) for row in content["images"]}
        refuse_other_size(sizes, source=path)
        return [
            LabelledRaster(paths[name], _labels(of_image[key], categories, class_names, source))
            for key, name in images.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(
            f"{source}: not in COCO form: {type(error).__name__} {error}; each image needs id and "
            "file_name, each annotation image_id, category_id and bbox"
        ) from error


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Content of a JSON file.

    Raises:
        LabelError: It cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(f"{path}: expected a JSON file: {error}") from error


def _folder_of_images(path: Path, names: Collection[str]) -> Path:
    """Where the images of a file lie, as COCO and annotation programs lay them out.

    Beside the file; otherwise in `images/SPLIT`, `images` or `SPLIT` beside it or beside its folder
    `annotations`, where the file is called `SPLIT.json` or `instances_SPLIT.json`.

    Raises:
        LabelError: They lie in several of the latter.
    """
    beside = path.parent
    root = beside.parent if beside.name == _ANNOTATIONS else beside
    split = path.stem.removeprefix(_INSTANCES)
    folders = (root / _IMAGES / split, root / _IMAGES, root / split)
    found = [folder for folder in folders if _holds(folder, names)]
    if not found or _holds(beside, names):
        return beside
    if len(found) > 1:
        raise LabelError(
            f"{path}: expected its images in one folder, found them in "
            f"{' and in '.join(map(str, found))}; state which with --images (images in a recipe)"
        )
    return found[0]


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in names)


def _by_id(
    content: Mapping[str, Any], table: str, column: str, path: str | PathLike[str]
) -> dict[Any, str]:
    """A column of `images` or `categories` by the rows' ids.

    Raises:
        LabelError: Two rows have one id.
    """
    found: dict[Any, str] = {}
    for row in content[table]:
        key, value = row["id"], str(row[column])
        if key in found:
            raise LabelError(
                f"{path}: expected {table} with ids of their own, got the id {key} for "
                f"{found[key]} and for {value}; give one of them another id, and what refers to it"
            )
        found[key] = value
    return found


def _size(row: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of an image; 0 where none is stated."""
    return int(row.get("width") or 0), int(row.get("height") or 0)


def _by_image(
    rows: Iterable[Mapping[str, Any]],
    images: Mapping[Any, str],
    categories: Mapping[Any, str],
    source: Path,
) -> defaultdict[Any, list[Mapping[str, Any]]]:
    of_image: defaultdict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        _refuse_unknown(row, "image_id", images, "images", source=source)
        _refuse_unknown(row, "category_id", categories, "categories", source=source)
        of_image[row["image_id"]].append(row)
    return of_image


def _labels(
    rows: Sequence[Mapping[str, Any]],
    categories: Mapping[Any, str],
    class_names: Sequence[str],
    source: Path,
) -> Labels:
    boxes = np.array([_xywh(row, source) for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = box_arrays.around_turned(boxes, np.array([_degrees(row) for row in rows]))
    names = [categories[row["category_id"]] for row in rows]
    ids, known = class_ids_of(names, class_names, source=str(source))
    crowd = np.array([float(row.get("iscrowd") or 0) != 0 for row in rows], dtype=np.bool_)
    has_scores = bool(rows) and all("score" in row for row in rows)
    return Labels.of(
        boxes,
        ids,
        known,
        scores=np.array([row["score"] for row in rows]) if has_scores else None,
        ignored=crowd if crowd.any() else None,
    )


def _refuse_unknown(
    row: Mapping[str, Any], key: str, known: Mapping[Any, str], table: str, *, source: Path
) -> None:
    """Complain about an object of an image or a category that is not in the file."""
    if row[key] not in known:
        raise LabelError(
            f"{source}: expected for the {key} of an object one of the ids of {table} "
            f"({listed(map(repr, known)) or 'none'}), got {row[key]!r}; correct one of them (a "
            "number is not the same as its text)"
        )


def _xywh(row: Mapping[str, Any], source: Path) -> list[float]:
    """Box of an annotation as x, y, width, height; enclosing its polygons where it has no box."""
    box, outline = row.get("bbox"), row.get("segmentation")
    if box:
        values = [float(value) for value in box]
        if len(values) != _BOX_NUMBERS:
            raise ValueError(f"bbox {box}, which must be x, y, width, height")
        return values
    if not isinstance(outline, list) or not outline:
        raise LabelError(
            f"{source}: expected a bbox or polygons of each object, got neither of that with id "
            f"{row.get('id')}{' (but a mask in RLE)' if outline else ''}; add its bbox, or remove "
            "it"
        )
    points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in outline])
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _degrees(row: Mapping[str, Any]) -> float:
    """By how much CVAT's `bbox` is turned about its centre: the box is that of before."""
    attributes = row.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    return float(turned) if isinstance(turned, int | float) else 0.0
