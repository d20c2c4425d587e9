"""Labels in Pascal VOC form: one XML file an image."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of


def read_voc(
    xml: str | PathLike[str],
    image_folder: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    first_pixel: int = 0,
) -> list[LabelledRaster]:
    """Read one VOC XML file, or all of a folder.

    Args:
        xml: A file, or a folder with `.xml` files.
        image_folder: Where the images lie; None = beside the XML file.
        class_names: Names of class ids 0..K-1; None takes the names that occur, in alphabetical
            order.
        first_pixel: 0 where `xmin..xmax` are pixel edges from 0, as LabelImg, CVAT and DeepForest
            write them; 1 where they number pixels from 1 and include the last, as in the VOC
            devkit.

    Returns:
        One entry a file, in alphabetical order; `difficult` objects are marked as ignored.

    Raises:
        LabelError: A file cannot be read, or holds an unknown class or an object without box.
    """
    path = Path(xml)
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise LabelError(f"{path}: expected .xml files in the folder, found none")
    parsed = [(file, _parse(file)) for file in files]
    if class_names is None:
        class_names = sorted({name for _, root in parsed for name in _names(root)})
    return [
        _labelled(file, root, image_folder, class_names=class_names, first_pixel=first_pixel)
        for file, root in parsed
    ]


def _parse(file: Path) -> ET.Element:
    try:
        # The standard parser expands no external entities, and expat (>= 2.4.1) stops entity bombs.
        return ET.parse(file).getroot()  # noqa: S314
    except (OSError, ET.ParseError) as error:
        raise LabelError(f"{file}: expected a VOC annotation in XML: {error}") from error


def _names(root: ET.Element) -> list[str]:
    return [(node.findtext("name") or "").strip() for node in root.iter("object")]


def _labelled(
    file: Path,
    root: ET.Element,
    image_folder: str | PathLike[str] | None,
    *,
    class_names: Sequence[str],
    first_pixel: int,
) -> LabelledRaster:
    image = root.findtext("filename")
    if not image:
        raise LabelError(f"{file}: expected a <filename> element that names the image")
    folder = file.parent if image_folder is None else Path(image_folder)
    nodes = list(root.iter("object"))
    boxes = np.array([_box(node, file) for node in nodes], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= first_pixel
    ids, known = class_ids_of(_names(root), class_names, source=str(file))
    difficult = np.array([node.findtext("difficult", "0").strip() == "1" for node in nodes])
    labels = Labels.of(boxes, ids, known, ignored=difficult if difficult.any() else None)
    return LabelledRaster(str(folder / image), labels)


def _box(node: ET.Element, file: Path) -> list[float]:
    try:
        return [float(node.findtext(f"bndbox/{key}", "")) for key in _BOX]
    except ValueError as error:
        name = node.findtext("name")
        raise LabelError(
            f"{file}: expected <bndbox> with {', '.join(_BOX)} as numbers in the object {name!r}"
        ) from error


_BOX = ("xmin", "ymin", "xmax", "ymax")
