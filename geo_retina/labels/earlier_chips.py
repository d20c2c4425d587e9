"""Chips that an earlier call left in a folder: refused, or removed."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from geo_retina.errors import OutputError
from geo_retina.labels.labels import LabelledRaster
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

CHIPS = "chips"
"""Folder of the chips, beside the COCO files."""
CUT_HERE = "chips cut by geo_retina"
"""Description in the COCO files: nothing else tells whose a file without images is."""


def beside(chip: Path) -> Path:
    """What GDAL may write beside a chip."""
    return chip.with_name(f"{chip.name}.aux.xml")


def coco_file(folder: Path, item: LabelledRaster) -> Path:
    """The COCO file that describes the chips of a raster, with those of its split."""
    return folder / f"{item.split or 'all'}.json"


def clear_chips(folder: Path, labelled: Sequence[LabelledRaster], *, overwrite: bool) -> None:
    """Make sure that a folder holds no chips of an earlier call.

    Args:
        folder: Of the COCO files; may not be there.
        labelled: What is about to be cut.
        overwrite: Remove the COCO files that an earlier call wrote, and the chips that they name.

    Raises:
        OutputError: There are chips and `overwrite` is False, they are what is about to be cut,
            they cannot be removed, or a file of another origin would be overwritten.
    """
    earlier = [file for book in folder.glob("*.json") for file in _written(book)]
    present = list((folder / CHIPS).iterdir()) if (folder / CHIPS).is_dir() else []
    if not overwrite and (earlier or present):
        raise OutputError(
            f"{folder}: holds chips of an earlier cut, {counted(len(present), 'file')} in {CHIPS}; "
            "name another folder, or pass --overwrite (overwrite=True) to remove them first"
        )
    cut = {Path(item.raster).resolve() for item in labelled}
    own = next((file for file in {*earlier, *present} if file.resolve() in cut), None)
    if own is not None:
        raise OutputError(f"{own}: is to be cut, and might be overwritten; name another folder")
    books = {coco_file(folder, item) for item in labelled}
    foreign = next((book for book in sorted(books) if book.exists() and book not in earlier), None)
    if foreign is not None:
        raise OutputError(
            f"{foreign}: is not of an earlier cut, and would be overwritten; name another folder"
        )
    _remove(earlier)
    others = set(present) - set(earlier)
    if others:
        _log.warning(
            "%s: left %s that no COCO file of an earlier cut names",
            folder / CHIPS, counted(len(others), "file"),
        )  # fmt: skip


def _written(book: Path) -> list[Path]:
    """A COCO file of chips, and the files of its chips; nothing where it is another JSON file."""
    try:
        content = json.loads(book.read_text(encoding="utf-8"))
        images = content["images"]
        names = [Path(image["file_name"]).name for image in images]
        ours = all(
            {"raster", "window"} <= set(image) and image["file_name"] == f"{CHIPS}/{name}"
            for image, name in zip(images, names, strict=True)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not names:
        ours = content.get("info") == {"description": CUT_HERE} and not content.get("annotations")
    if not ours:
        return []
    chips = [book.parent / CHIPS / name for name in names]
    return [*(file for file in (*chips, *map(beside, chips)) if file.is_file()), book]


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        try:
            file.unlink()
        except OSError as error:
            raise OutputError(f"{file}: cannot be removed: {error}") from error
