"""The YAML file that describes a YOLO data set: its class names, and the images of its splits."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_retina.errors import DependencyError, LabelError

SPLITS = ("train", "val", "test")
_SUFFIXES = (".yaml", ".yml")
_USUAL_NAME = "data.yaml"


@dataclass(frozen=True, slots=True)
class DataYaml:
    """What the file says, as Ultralytics reads it."""

    file: Path
    root: Path
    """Folder that the entries of the splits are relative to."""
    names: tuple[str, ...] | None
    """Names of class ids 0..K-1; None where the file has none."""
    splits: Mapping[str, tuple[Path, ...]]
    """Folders of images, and text files that list images, of each split; they may be missing,
    or empty."""
    has_keypoints: bool = False
    """Whether lines are a box and keypoints behind it (`kpt_shape`), and never polygons."""


def is_data_yaml(file: Path) -> bool:
    """Whether the ending is that of YAML."""
    return file.suffix.lower() in _SUFFIXES


def find_data_yaml(folder: Path) -> Path | None:
    """`data.yaml` in a folder, else the only YAML file there with names; None without either."""
    usual = folder / _USUAL_NAME
    if usual.is_file():
        return usual
    files = [file for file in folder.iterdir() if is_data_yaml(file)] if folder.is_dir() else []
    found = [file for file in files if "names:" in file.read_text("utf-8", errors="replace")]
    return found[0] if len(found) == 1 else None


def read_data_yaml(file: Path, *, root: Path | None = None) -> DataYaml:
    """Read a data set's YAML file.

    Args:
        file: With `names` (a list, or ids with names), `path`, and `train`, `val`, `test`: a
            folder, a text file that lists images, or several of them.
        root: Stands in for `path`; None = `path`, relative to the file, or where that leads
            nowhere, the file's folder.

    Raises:
        LabelError: The file cannot be read, or is none of a data set.
        DependencyError: PyYAML is not installed.
    """
    content = _read(file)
    folder = root or _root(content.get("path"), file)
    splits = {
        split: tuple(_place(folder, entry, file) for entry in _entries(content[split]))
        for split in SPLITS
        if content.get(split)
    }
    names = _names(content.get("names"), file)
    return DataYaml(file, folder, names, splits, has_keypoints="kpt_shape" in content)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise DependencyError(
            f"{file}: reading it needs PyYAML: pip install pyyaml, or state the folder with the "
            "labels, --images and --classes instead"
        ) from error
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise LabelError(f"{file}: expected a data set's YAML file: {error}") from error
    if not isinstance(content, dict):
        raise LabelError(f"{file}: expected a data set's YAML file with names, train and val")
    return content


def _root(path: object, file: Path) -> Path:
    stated = file.parent / str(path) if path else file.parent
    return stated if stated.is_dir() else file.parent


def _entries(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _place(root: Path, entry: object, file: Path) -> Path:
    """Where an entry of a split leads. Roboflow writes `../` for the file's own folder."""
    if not isinstance(entry, str):
        raise LabelError(
            f"{file}: expected for train, val and test a folder, a text file that lists images, or "
            f"several of them, got {reprlib.repr(entry)[:80]}"
        )
    place = root / entry
    own = root / entry.removeprefix("../")
    return own if own.exists() and not place.exists() else place


def _names(value: object, file: Path) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, dict):
        ids = {str(key): name for key, name in value.items()}
        value = [ids.get(str(number)) for number in range(len(ids))]
    if not isinstance(value, list) or not value or not all(map(_is_name, value)):
        raise LabelError(
            f"{file}: expected names as a list, or with the ids from 0 upwards, got "
            f"{reprlib.repr(value)[:80]}"
        )
    return tuple(str(name).strip() for name in value)


def _is_name(value: object) -> bool:
    """Whether it is text or a number; a list may stand for one that fills the memory as text."""
    return value is not None and not isinstance(value, list | dict)
