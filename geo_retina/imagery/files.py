"""All files that a raster is made of."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from geo_retina.imagery.gdal import GDAL_ERRORS

_BESIDE = (".msk", ".ovr", ".msk.ovr")
"""What GDAL appends to a file's name for its mask and its overviews."""


def files_of(dataset: Any, open_dataset: Callable[[str], Any]) -> tuple[str, ...]:  # noqa: ANN401  rasterio has no types
    """Files of a dataset: itself, then its side files and, of a VRT, those of all its sources.

    GDAL names of a VRT's sources their main files alone: neither what is beside them nor, where
    one is a VRT itself, what that shows.

    Args:
        dataset: What is open.
        open_dataset: Opens a VRT among the sources.
    """
    own = [str(file) for file in dataset.files]
    if dataset.driver != "VRT":
        return tuple(own)
    found: dict[str, None] = {}
    waiting = deque(own)
    while waiting:
        file = waiting.popleft()
        if file not in found:
            found[file] = None
            waiting.extend(_parts(file, open_dataset) if file != dataset.name else ())
    return tuple(found)


def _parts(file: str, open_dataset: Callable[[str], Any]) -> Iterator[str]:
    yield from (side for side in (f"{file}{ending}" for ending in _BESIDE) if Path(side).is_file())
    if file.lower().endswith(".vrt"):
        try:
            with open_dataset(file) as nested:
                yield from map(str, nested.files)
        except GDAL_ERRORS:  # what cannot be opened is told of where it is read
            return
