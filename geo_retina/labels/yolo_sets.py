"""Which text file of a YOLO data set belongs to which image, and what its classes are called."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.data_yaml import DataYaml, find_data_yaml, is_data_yaml, read_data_yaml
from geo_retina.labels.files import (
    RASTER_SUFFIXES,
    files_ending,
    is_image,
    list_images,
    read_lines,
    refuse_strays,
    refuse_twins,
)
from geo_retina.wording import counted, listed

_log = logging.getLogger(__name__)

_LABELS, _IMAGES, _CLASSES, _TEXT = "labels", "images", "classes.txt", ".txt"
_LOOKED_AT = 5
"""Files, and lines of each, that tell whether a folder holds YOLO's."""
_BOX_NUMBERS, _BOX_AND_SCORE_NUMBERS, _LEAST_POLYGON = 4, 5, 6
_WITHIN = (-1.0, 2.0)
"""Shares of an image lie in 0..1, or little outside."""


@dataclass(frozen=True, slots=True)
class YoloImage:
    """An image of a data set, and its labels."""

    image: str
    labels: Path | None
    """Text file; None for an image without objects."""
    split: str = ""
    """As the YAML file or the folders say."""


@dataclass(frozen=True, slots=True)
class YoloSet:
    """The images of a data set and the names of its classes."""

    images: tuple[YoloImage, ...]
    class_names: tuple[str, ...] | None
    """Names of class ids 0..K-1; None where no file has them."""
    has_keypoints: bool = False
    """Whether lines are a box and keypoints behind it, and never polygons."""


def is_yolo(path: Path) -> bool:
    """Tell a YOLO data set by its YAML file, or by numbers in its text files."""
    if is_data_yaml(path) or find_data_yaml(path) is not None:
        return True
    if not path.is_dir():
        return False
    folders = [path, *(labels for _, labels, _ in _branches(path, path / _IMAGES))]
    return any(_holds_yolo(folder) for folder in folders)


def find_yolo(path: Path, images: str | None) -> YoloSet:
    """List the images of a data set with their text files.

    Args:
        path: YAML file; folder with `images` and `labels`, in it or in a folder for each split;
            such a folder `labels` alone, with folders below; or folder of text files.
        images: Of a YAML file, what its entries are relative to; else where the images lie. None =
            as the file says; `images` beside `labels`; beside the text files.

    Raises:
        LabelError: No image or no text file is found, or a text file has no image or several.
    """
    file = path if is_data_yaml(path) else find_data_yaml(path)
    described = None
    if file is not None:
        described = _described(file, images)
        if described.splits:
            own = described.names or _listed_names(path)
            return _checked(_of_yaml(described), path, own, has_keypoints=described.has_keypoints)
    branches = _branches(path, path / _IMAGES if images is None else Path(images))
    if branches and (_is_laid_out(path) or not _are_yolo(files_ending(path, _TEXT))):
        found = _of_branches(branches)
    elif not branches and _holds_nested(path):
        folder = _images_beside(path, "**/*") if images is None else images
        found = _of_branches([(Path(folder), path, "")])
    else:
        found = _of_folder(path, images)
    return _checked(
        found,
        images or path,
        _class_names(path, described),
        has_keypoints=_has_keypoints(path, described),
    )


def _checked(
    images: tuple[YoloImage, ...],
    folder: str | Path,
    class_names: tuple[str, ...] | None,
    *,
    has_keypoints: bool,
) -> YoloSet:
    """A data set in which no text file belongs to two images."""
    refuse_twins(((item.image, item.labels) for item in images), image_folder=folder)
    return YoloSet(images, class_names, has_keypoints=has_keypoints)


def _described(file: Path, images: str | None) -> DataYaml:
    """What the YAML file says, of paths relative to `images`, or to the folder of this `images`."""
    if images is None:
        return read_data_yaml(file)
    described = read_data_yaml(file, root=Path(images))
    if any(place.exists() for places in described.splits.values() for place in places):
        return described
    above = Path(images).absolute().parent
    return read_data_yaml(file, root=above) if Path(images).name == _IMAGES else described


def _branches(root: Path, images: Path) -> list[tuple[Path, Path, str]]:
    """Folders of images and of labels, and the split, in a data set's folder."""
    if (root / _LABELS).is_dir():
        return [(images, root / _LABELS, "")]
    splits = sorted(root.iterdir()) if root.is_dir() else []
    return [
        (split / _IMAGES, split / _LABELS, split.name)
        for split in splits
        if (split / _LABELS).is_dir() and (split / _IMAGES).is_dir()
    ]


def _is_laid_out(root: Path) -> bool:
    """Whether `images` and `labels` lie here: then text files beside them are no labels."""
    return (root / _IMAGES).is_dir() and bool(_text_files(root / _LABELS))


def _holds_nested(folder: Path) -> bool:
    """Whether this is a folder `labels` with text files in folders below, as for each split."""
    return folder.name == _LABELS and any(file.parent != folder for file in _text_files(folder))


def _of_branches(branches: Iterable[tuple[Path, Path, str]]) -> tuple[YoloImage, ...]:
    found = []
    for images, labels, split in branches:
        files = {file.with_suffix(""): file for file in _text_files(labels)}
        if not files:
            raise LabelError(f"{labels}: expected .txt files in the folder, found none")
        pictures = _images_below(images)
        if not pictures:
            raise LabelError(f"{images}: expected images ({' '.join(RASTER_SUFFIXES)}), found none")
        for image in pictures:
            place = Path(image).relative_to(images)
            own = split or (place.parts[0] if len(place.parts) > 1 else "")
            found.append(YoloImage(image, files.get(labels / place.with_suffix("")), own))
        lost = sorted(set(files.values()) - {item.labels for item in found})
        if lost:
            names = listed(file.relative_to(labels) for file in lost)
            raise LabelError(f"no image in {images} for {names} in {labels}")
    return tuple(found)


def _of_folder(folder: Path, images: str | None) -> tuple[YoloImage, ...]:
    """Text files of one folder, and the images that have their names."""
    if images is None:
        images = _images_beside(folder)
    files = {file.stem: file for file in files_ending(folder, _TEXT) if file.name != _CLASSES}
    if not files:
        raise LabelError(f"{folder}: expected .txt files in the folder, found none")
    found = list_images(images)
    refuse_strays(files.values(), found, images)
    return tuple(YoloImage(image, files.get(Path(image).stem)) for image in found)


def _of_yaml(described: DataYaml) -> tuple[YoloImage, ...]:
    """Images of the splits that are there."""
    found: list[YoloImage] = []
    missing: list[str] = []
    empty: list[str] = []
    for split, places in described.splits.items():
        for place in places:
            images = _listed_images(place, described) if place.is_file() else _images_below(place)
            if not images:
                (empty if place.exists() else missing).append(f"{place} ({split})")
            found += [YoloImage(image, _file_of(Path(image)), split) for image in images]
    lost = [f"no such file or folder: {listed(missing)}"] if missing else []
    lost += [f"no images in {listed(empty)}"] if empty else []
    remedy = "state what its paths are relative to with --images (images in a recipe)"
    if not found:
        raise LabelError(f"{described.file}: {'; '.join(lost)}; {remedy}")
    if lost:
        _log.warning(
            "%s: left out what is not there: %s; %s", described.file, "; ".join(lost), remedy
        )
    if not any(item.labels for item in found):
        raise LabelError(
            f"{described.file}: found {counted(len(found), 'image')} and no text file with labels, "
            f"such as {_text_path(Path(found[0].image))}"
        )
    _tell_of_strays(described, found)
    return tuple(found)


def _tell_of_strays(described: DataYaml, found: Iterable[YoloImage]) -> None:
    """Warn of text files that belong to no image of the folders that the YAML file names.

    Not an error: programs that train on such data sets look for the labels of images alone.
    """
    places = [place for entry in described.splits.values() for place in entry if place.is_dir()]
    folders = {_swapped(place, _IMAGES, _LABELS) for place in places}.difference(places)
    files = {file for folder in folders for file in _text_files(folder)}
    lost = sorted(files - {item.labels for item in found})
    if lost:
        _log.warning(
            "%s: left out %s with labels that belong to no image: %s",
            described.file, counted(len(lost), "text file"), listed(lost),
        )  # fmt: skip


def _listed_images(listing: Path, described: DataYaml) -> list[str]:
    """Images that a text file lists, relative to it or to the data set's folder."""
    images = []
    for line in filter(None, map(str.strip, read_lines(listing, of="image paths, one a line"))):
        beside, below = listing.parent / line, described.root / line
        images.append(below if below.exists() and not beside.exists() else beside)
    lost = [image for image in images if not image.exists()]
    if lost:
        raise LabelError(
            f"{listing}: {len(lost)} of {counted(len(images), 'listed image')} not there: "
            f"{listed(lost)}; state what the paths are relative to with --images (images in a "
            "recipe)"
        )
    return [str(image) for image in images]


def _file_of(image: Path) -> Path | None:
    file = _text_path(image)
    spellings = file, file.with_suffix(_TEXT.upper())
    return next((spelling for spelling in spellings if spelling.is_file()), None)


def _text_path(image: Path) -> Path:
    """Where the labels of an image belong: in `labels` in place of the last `images`, or beside."""
    return _swapped(image.parent, _IMAGES, _LABELS) / f"{image.stem}{_TEXT}"


def _images_beside(folder: Path, pattern: str = "*") -> str:
    """The folder of the images of a folder of labels: `images` in place of `labels`, or itself."""
    counterpart = _swapped(folder, _LABELS, _IMAGES)
    for place in (counterpart, folder):
        if place.is_dir() and any(map(is_image, place.glob(pattern))):
            return str(place)
    raise LabelError(
        f"{folder}: this format does not name its rasters, and none lies in {counterpart}: state "
        "where they are with --images (images in a recipe)"
    )


def _swapped(path: Path, one: str, other: str) -> Path:
    """The path with another name for the last folder called `one`."""
    parts = list(path.parts)
    if one not in parts:
        return path
    last = len(parts) - 1 - parts[::-1].index(one)
    return Path(*parts[:last], other, *parts[last + 1 :])


def _class_names(path: Path, described: DataYaml | None) -> tuple[str, ...] | None:
    """Names from `classes.txt` or the YAML file, of the folder or of its data set."""
    if described is not None and described.names is not None:
        return described.names
    own = _listed_names(path)
    if own is not None:
        return own
    for folder in _folders_of_set(path):
        file = find_data_yaml(folder)
        names = _listed_names(folder) or (None if file is None else read_data_yaml(file).names)
        if names is not None:
            return names
    return None


def _has_keypoints(path: Path, described: DataYaml | None) -> bool:
    """Whether the YAML file, of the folder or of its data set, says that lines hold keypoints."""
    if described is not None:
        return described.has_keypoints
    files = map(find_data_yaml, _folders_of_set(path))
    return any(read_data_yaml(file).has_keypoints for file in files if file is not None)


def _folders_of_set(path: Path) -> tuple[Path, ...]:
    """The folder `labels` that a path is or lies in, and the data set's; none of other paths."""
    if _LABELS not in path.parts:
        return ()
    labels = path
    while labels.name != _LABELS:
        labels = labels.parent
    return labels, labels.parent


def _listed_names(path: Path) -> tuple[str, ...] | None:
    """Names in `classes.txt`, of a folder or beside a file, or of its folder of labels."""
    folder = path if path.is_dir() else path.parent
    for file in (folder / _CLASSES, folder / _LABELS / _CLASSES):
        if file.is_file():
            lines = read_lines(file, of="class names, one a line")
            return tuple(line.strip() for line in lines if line.strip())
    return None


def _images_below(folder: Path) -> list[str]:
    return [str(file) for file in sorted(folder.rglob("*")) if is_image(file)]


def _text_files(folder: Path) -> list[Path]:
    return [file for file in files_ending(folder, _TEXT, below=True) if file.name != _CLASSES]


def _holds_yolo(folder: Path) -> bool:
    return _are_yolo(files_ending(folder, _TEXT, below=folder.name == _LABELS))


def _are_yolo(files: Iterable[Path]) -> bool:
    """Whether the first lines of the first text files are a class id and shares of the image."""
    texts = islice((file for file in files if file.name != _CLASSES), _LOOKED_AT)
    lines = [line for file in texts for line in _first_lines(file)]
    return bool(lines) and all(_is_yolo_line(line.split()) for line in lines)


def _first_lines(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return [line for line in islice(lines, _LOOKED_AT) if line.strip()]
    except (OSError, ValueError):
        return ["not a text file"]


def _is_yolo_line(fields: Sequence[str]) -> bool:
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError:
        return False
    count = len(values)
    polygon = count >= _LEAST_POLYGON and count % 2 == 0
    sized = count in (_BOX_NUMBERS, _BOX_AND_SCORE_NUMBERS) or polygon
    low, high = _WITHIN
    return sized and fields[0].isdecimal() and all(low <= value <= high for value in values)
