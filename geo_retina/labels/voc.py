"""Labels in Pascal VOC form: one XML file an image, also in folders as the devkit's."""

import contextlib
import logging
from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from geo_retina.errors import LabelError
from geo_retina.labels.files import RASTER_SUFFIXES, files_ending, read_lines, refuse_other_size
from geo_retina.labels.image_paths import locate_images, refuse_same_image
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of
from geo_retina.space import boxes as box_arrays
from geo_retina.wording import listed

_log = logging.getLogger(__name__)

ANNOTATIONS, ARCGIS_LABELS = "Annotations", "labels"
"""Folders of XML files in a data set: the VOC devkit's, and that of ArcGIS's training data."""
_IMAGES = {ANNOTATIONS: "JPEGImages", ARCGIS_LABELS: "images"}
"""The folder of the images beside each."""
_LISTS = Path("ImageSets", "Main")
_SPLITS = ("train", "val", "test")
_BESIDE = ".aux.xml"
"""What GDAL adds to a raster's name for what it knows of it."""


def read_voc(
    xml: str | PathLike[str],
    image_folder: str | PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    first_pixel: int = 0,
) -> list[LabelledRaster]:
    """Read one VOC XML file, all of a folder, or a data set laid out as the VOC devkit's.

    In a data set the XML files lie in `Annotations`, the images in `JPEGImages`, and
    `ImageSets/Main/train.txt`, `val.txt` and `test.txt` name the images of the splits, with their
    endings or without; a list of which no image has an XML file is warned of. ArcGIS exports
    training data in the folders `labels` and `images`.

    Args:
        xml: A file, a folder with `.xml` files, or a folder with the folder `Annotations` or
            `labels`.
        image_folder: Where the images lie; None = `JPEGImages` or `images` of a data set, else
            beside the XML file. An image whose path leads nowhere is taken from this folder by its
            name.
        class_names: Names of class ids 0..K-1; None takes the names that occur, in alphabetical
            order.
        first_pixel: 0 where `xmin..xmax` are pixel edges from 0, as LabelImg, CVAT and DeepForest
            write them; 1 where they number pixels from 1 and include the last, as in the VOC
            devkit.

    Returns:
        One entry a file, in alphabetical order; `difficult` objects are marked as ignored. Boxes
        are put around what CVAT says is turned (the attribute `rotation`, degrees).

    Raises:
        LabelError: A file cannot be read, or holds an unknown class or an object without box or
            class; two files name one image, or one whose size is not what they state; an image is
            in the lists of two splits.
    """
    path = Path(xml)
    annotations = _annotations(path)
    folder = annotations or path
    files = xml_files(folder) if path.is_dir() else [path]
    if not files:
        raise LabelError(f"{folder}: expected .xml files in the folder, found none")
    parsed = {file: _parse(file) for file in files}
    if class_names is None:
        class_names = sorted({name for found in parsed.values() for name in _names(found)})
    images = {file: _image(file, found) for file, found in parsed.items()}
    if image_folder is None and annotations is not None:
        beside = annotations.parent / _IMAGES[annotations.name]
        image_folder = beside if beside.is_dir() else None
    paths = locate_images(images.values(), image_folder or files[0].parent, source=path)
    refuse_same_image(
        ((file.name, paths[images[file]]) for file in files),
        source=path,
        remedy="correct <filename> in one of them, or merge them",
    )
    refuse_other_size(
        {paths[images[file]]: _size(found) for file, found in parsed.items()}, source=path
    )
    splits = {} if annotations is None else _splits(annotations)
    return [
        LabelledRaster(
            paths[images[file]],
            _labels(file, found, class_names=class_names, first_pixel=first_pixel),
            split=splits.get(file.stem, ""),
        )
        for file, found in parsed.items()
    ]


def xml_files(folder: Path) -> list[Path]:
    """XML files of a folder in alphabetical order, without those that GDAL writes beside rasters.

    Returns:
        An empty list also where there is no such folder.
    """
    files = files_ending(folder, ".xml")
    return [file for file in files if not file.name.lower().endswith(_BESIDE)]


def _annotations(path: Path) -> Path | None:
    """The folder of a data set's XML files, that `path` has, is or lies in; None without one."""
    inner = [path / name for name in _IMAGES if xml_files(path / name)]
    if inner:
        return inner[0]
    folder = path if path.is_dir() else path.parent
    return folder if folder.name in _IMAGES else None


def _splits(annotations: Path) -> dict[str, str]:
    """Split of each image that the lists of a data set name, by its name without ending."""
    stems = {file.stem for file in xml_files(annotations)}
    splits: dict[str, str] = {}
    for split in _SPLITS:
        file = annotations.parent / _LISTS / f"{split}.txt"
        names = _listed_names(file, stems) if file.is_file() else []
        for name in names:
            if splits.setdefault(name, split) != split:
                raise LabelError(
                    f"{file}: names {name}, which {splits[name]}.txt names too; leave it in one"
                )
        if names and stems.isdisjoint(names):
            _log.warning(
                "%s: none of the images it names (%s) has an XML file in %s; the split is empty",
                file, listed(names), annotations,
            )  # fmt: skip
    return splits


def _listed_names(file: Path, stems: Collection[str]) -> list[str]:
    """Names in a list, without the ending of an image unless an XML file is called so."""
    lines = read_lines(file, of="image names, one a line")
    names = [name for line in lines for name in line.split()[:1]]
    return [
        name
        if name in stems or Path(name).suffix.lower() not in RASTER_SUFFIXES
        else Path(name).stem
        for name in names
    ]


def _parse(file: Path) -> ET.Element:
    try:
        # The standard parser expands no external entities, and expat (>= 2.4.1) stops entity bombs.
        return ET.parse(file).getroot()  # noqa: S314
    except (OSError, ET.ParseError) as error:
        raise LabelError(f"{file}: expected a VOC annotation in XML: {error}") from error


def _names(root: ET.Element) -> list[str]:
    return [(node.findtext("name") or "").strip() for node in root.iter("object")]


def _image(file: Path, root: ET.Element) -> str:
    image = (root.findtext("filename") or "").strip()
    if not image:
        raise LabelError(f"{file}: expected a <filename> element that names the image")
    return image


def _size(root: ET.Element) -> tuple[int, int]:
    """Width and height of the image; 0 where none is stated."""
    width, height = (root.findtext(f"size/{key}", "").strip() for key in ("width", "height"))
    return int(width) if width.isdecimal() else 0, int(height) if height.isdecimal() else 0


def _labels(
    file: Path, root: ET.Element, *, class_names: Sequence[str], first_pixel: int
) -> Labels:
    nodes = list(root.iter("object"))
    boxes = np.array([_box(node, file) for node in nodes], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= first_pixel
    boxes = box_arrays.around_turned(boxes, np.array([_degrees(node) for node in nodes]))
    ids, known = class_ids_of(_names(root), class_names, source=str(file))
    difficult = np.array([node.findtext("difficult", "0").strip() == "1" for node in nodes])
    return Labels.of(boxes, ids, known, ignored=difficult if difficult.any() else None)


def _box(node: ET.Element, file: Path) -> list[float]:
    try:
        return [float(node.findtext(f"bndbox/{key}", "")) for key in _BOX]
    except ValueError as error:
        name = node.findtext("name")
        raise LabelError(
            f"{file}: expected <bndbox> with {', '.join(_BOX)} as numbers in the object {name!r}"
        ) from error


def _degrees(node: ET.Element) -> float:
    """By how much CVAT's box is turned about its centre: `bndbox` is that of before."""
    for attribute in node.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            with contextlib.suppress(ValueError):  # an attribute of the user's own
                return float(attribute.findtext("value", ""))
    return 0.0


_BOX = ("xmin", "ymin", "xmax", "ymax")
