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

    GDAL names of a VRT's sources what the VRT names: neither what is beside a file, nor the files
    of a VRT among them, nor the one that holds a subdataset (`GPKG:tiles.gpkg:north`).

    Args:
        dataset: What is open.
        open_dataset: Opens a source that tells its files itself.
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
    if file.lower().endswith(".vrt") or _is_subdataset(file):
        try:
            with open_dataset(file) as source:
                yield from map(str, source.files)
        except GDAL_ERRORS:  # what cannot be opened is told of where it is read
            return


def _is_subdataset(file: str) -> bool:
    is_elsewhere = "://" in file or file.startswith("/vsi")
    return ":" in file and not is_elsewhere and not Path(file).exists()
