"""Files that a command reads and files that it writes are different ones."""

from collections.abc import Iterable
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from geo_retina.errors import OutputError


def raster_name(raster: str) -> str:
    """File name of a raster: of a URL without what follows `?`, which may be secret.

    Args:
        raster: File, URL or GDAL path.
    """
    if "://" in raster:
        raster = urlsplit(raster).path or raster
    elif raster.startswith("/vsi"):
        raster = raster.partition("?")[0]
    return PurePath(raster.rstrip("/")).name


def refuse_overwriting(
    read: Iterable[str | Path | None], written: Iterable[str | Path | None]
) -> None:
    """Check, before any work, that no output would take the place of an input or of another one.

    Args:
        read: Files, URLs, names of bundled models; None where there is none.
        written: Files; None where there is none.

    Raises:
        OutputError: Two of them are one file.
    """
    inputs = {_place(path) for path in read if path is not None}
    seen: set[Path | tuple[int, int]] = set()
    for path in (path for path in written if path is not None):
        place = _place(path)
        if place in inputs:
            raise OutputError(f"{path} would be overwritten, and it is read; choose another output")
        if place in seen:
            raise OutputError(f"expected different outputs, got {path} more than once")
        seen.add(place)


def _place(path: str | Path) -> Path | tuple[int, int]:
    """What a file is known by: on some disks, names in capitals and in small letters are one."""
    place = Path(str(path).removeprefix("file://")).resolve()
    try:
        found = place.stat()
    except (OSError, ValueError):  # not there yet, or no path of this system
        return place
    return (found.st_dev, found.st_ino) if found.st_ino else place
