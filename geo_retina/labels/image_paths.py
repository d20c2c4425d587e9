"""Where the images lie that labels name by a path, maybe one of another computer."""

import logging
import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.labels.files import RASTER_SUFFIXES
from geo_retina.labels.labels import LabelledRaster
from geo_retina.wording import counted, listed

_log = logging.getLogger(__name__)

IMAGE = "image_path"
"""Column of a table of labels that names the raster of each object."""

_SEPARATORS = re.compile(r"[/\\]")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded image."""
_ELSEWHERE = re.compile(r".*://|/vsi|[A-Za-z0-9_]{2,}:")
"""How URLs, GDAL's virtual files and its datasets (`NETCDF:...`) begin."""


def locate_images(
    names: Iterable[str], folder: str | PathLike[str], *, source: str | PathLike[str]
) -> dict[str, str]:
    """Path of each image that labels name.

    An image is looked for at its path, relative to `folder`, and where there is none, by its name
    in `folder` itself, also without what Label Studio put before it: paths of another computer,
    also of Windows, lead nowhere here.

    Args:
        names: As the labels give them.
        folder: Of the images.
        source: The labels' file, for messages.

    Returns:
        The path of each name; of an image that is nowhere, where it was expected.

    Raises:
        LabelError: Two images have the same name in `folder`, or one that is taken by its name is
            named by its path too.
    """
    paths: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for name in dict.fromkeys(names):
        joined = str(Path(folder) / name)
        if "\\" in name and not Path(joined).exists():  # as Windows writes folders
            joined = str(Path(folder) / name.replace("\\", "/"))
        beside = _beside(folder, name)
        if is_elsewhere(name):
            paths[name] = name
        elif is_elsewhere(str(folder)):
            paths[name] = f"{str(folder).rstrip('/')}/{name}"
        elif Path(joined).exists() or not (beside.exists() or "\\" in name):
            paths[name] = joined
        else:
            other = by_name.setdefault(str(beside), name)
            if other != name:
                raise LabelError(
                    f"{source}: {other} and {name} are nowhere, and both would be {beside}; give "
                    "the images different names, or paths relative to their folder (--images)"
                )
            paths[name] = str(beside)
    _refuse_named_twice(paths, by_name, source=source)
    found = sum(Path(path).exists() for path in by_name)
    if found:
        _log.warning(
            "%s: %d of %d images are not where their paths lead; taken by name from %s",
            source, found, len(paths), folder,
        )  # fmt: skip
    return paths


def _beside(folder: str | PathLike[str], name: str) -> Path:
    """Where an image would lie in the folder itself."""
    beside = Path(folder) / base_name(name)
    original = beside.with_name(_UPLOADED.sub("", beside.name))
    return original if original.exists() and not beside.exists() else beside


def same_file_key(raster: str) -> str:
    """What two spellings of one raster have in common; URLs and GDAL's own paths stay."""
    return raster if is_elsewhere(raster) else str(Path(raster).resolve())


def refuse_same_image(
    rasters: Iterable[tuple[str, str]], *, source: str | PathLike[str], remedy: str
) -> None:
    """Complain about an image that is listed twice: each entry would miss the other's objects.

    Args:
        rasters: What lists an image, such as `image id 3`, and the image's path.
        source: The labels' file or folder, for the error's text.
        remedy: What to do, likewise.

    Raises:
        LabelError: Two paths lead to one file.
    """
    first: dict[str, str] = {}
    for what, raster in rasters:
        other = first.setdefault(same_file_key(raster), what)
        if other != what:
            raise LabelError(
                f"{source}: expected one entry an image, got two for {raster}: {other} and {what}; "
                f"{remedy}"
            )


def _refuse_named_twice(
    paths: dict[str, str], by_name: dict[str, str], *, source: str | PathLike[str]
) -> None:
    """Complain about an image that one name leads to and another one only resembles."""
    if not by_name:
        return
    guessed = set(by_name.values())
    stated = {same_file_key(path): name for name, path in paths.items() if name not in guessed}
    for path, name in by_name.items():
        other = stated.get(same_file_key(path))
        if other is not None:
            raise LabelError(
                f"{source}: {name} is nowhere, and by its name it would be {path}, which is "
                f"{other} already; correct the path in the labels, or state the folder that all "
                "paths are relative to (--images, images in a recipe)"
            )


def named_images(
    names: Iterable[object], images: Sequence[str | PathLike[str]], *, folder: str, source: str
) -> NDArray[np.object_] | None:
    """Which of the images of a folder each of N objects says that it lies on.

    Images are compared by name, and where none is called so, by name without ending.

    Args:
        names: Path of each object's image, of whatever folder.
        images: All images of the folder.
        folder: For messages.
        source: The labels' file, for messages.

    Returns:
        (N,) of `images` as texts, None for an object that names no image; None in place of all
        where no object names an image of the folder, so that only their ground can tell.

    Raises:
        LabelError: Some name images of the folder and others do not, or a name without ending is
            that of several.
    """
    by_name: dict[str, list[str]] = {}
    for path in map(str, images):
        by_name.setdefault(Path(path).stem, []).append(path)
    by_name |= {Path(path).name: [path] for path in map(str, images)}
    stated = [base_name(name) if isinstance(name, str) and name else None for name in names]
    found = []
    for name in stated:
        fitting = [] if name is None else by_name.get(name) or by_name.get(Path(name).stem, [])
        if len(fitting) > 1:
            raise LabelError(
                f"{source}: its column image_path names {name}, which may be any of "
                f"{listed(Path(path).name for path in fitting)} in {folder}; write the ending of "
                'one, or choose by a pattern: --images "images/*.tif" (images in a recipe)'
            )
        found.append(fitting[0] if fitting else None)
    pairs = list(zip(stated, found, strict=True))
    lost = sorted({name for name, image in pairs if name is not None and image is None})
    if not any(found):
        if lost:
            _log.warning(
                "%s: its column image_path names %s, and %s has no such image; the ground tells "
                "which raster an object lies on", source, lost[0], folder,
            )  # fmt: skip
        return None
    if lost:
        raise LabelError(
            f"{source}: its column image_path names {counted(len(lost), 'raster')} not in "
            f"{folder}: {listed(lost)}; state the folder of all with --images (images in a recipe)"
        )
    return np.array(found, dtype=object)


def base_name(name: str) -> str:
    """The last part of a path of any system."""
    return _SEPARATORS.split(name)[-1]


def is_elsewhere(raster: str) -> bool:
    """True for URLs and GDAL's own paths: whether they are there, only opening them tells."""
    return _ELSEWHERE.match(raster) is not None


def refuse_missing_images(
    labelled: Sequence[LabelledRaster], *, source: str | PathLike[str], some_may_lack: bool
) -> None:
    """Complain about labels whose rasters are not there.

    Args:
        labelled: What was read.
        source: The labels' file, for the error's text.
        some_may_lack: Complain only where all are missing.

    Raises:
        LabelError: Rasters are missing.
    """
    rasters = list(dict.fromkeys(item.raster for item in labelled))
    lost = [name for name in rasters if not is_elsewhere(name) and not Path(name).exists()]
    if lost and (len(lost) == len(rasters) or not some_may_lack):
        missing = (
            f"its raster {lost[0]} does not exist"
            if len(rasters) == 1
            else f"{len(lost)} of its {len(rasters)} rasters do not exist, such as {lost[0]}"
        )
        raise LabelError(
            f"{source}: {missing}; state the folder they lie in with --images (images in a recipe)"
            f"{_namesake(Path(lost[0]))}"
        )


def _namesake(lost: Path) -> str:
    """What to do about an image that has another ending here; empty where there is none."""
    found = [lost.with_suffix(suffix) for suffix in RASTER_SUFFIXES]
    found = [file for file in found if file.exists()]
    return f"; if {found[0]} has the same pixels, write its ending into the labels" if found else ""
