"""How GDAL is run: its options, its error types, its block cache.

Every call into GDAL happens inside `session()`. GDAL's own messages then go to the loggers of
rasterio instead of stderr, and remote files time out instead of hanging.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import RasterioError

LARGEST_BLOCK_CACHE_BYTES = 512 * 2**20
"""Most memory that decoded blocks may take, whatever the raster's width."""
SMALLEST_BLOCK_CACHE_BYTES = 16 * 2**20
"""Least memory given to decoded blocks: GDAL slows down badly with less."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError, MemoryError, OverflowError)
"""All that rasterio raises for a damaged, missing or unsupported file."""

_OPTIONS = {
    # A truncated JPEG is an error, not a half grey picture.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # Look for side files (.ovr, .msk, .aux.xml) by name: listing a bucket may take minutes.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "15",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
}


def session() -> rasterio.Env:
    """Context in which GDAL is called; an option set in the process environment wins."""
    return rasterio.Env(**{key: val for key, val in _OPTIONS.items() if key not in os.environ})


def block_cache_bound(size_bytes: int) -> int:
    """The wanted size, or the nearest that is allowed."""
    return min(max(size_bytes, SMALLEST_BLOCK_CACHE_BYTES), LARGEST_BLOCK_CACHE_BYTES)


@contextmanager
def block_cache(size_bytes: int) -> Iterator[None]:
    """Bound the memory of GDAL's decoded blocks, in the whole process, while the context lasts.

    Args:
        size_bytes: What is wanted, see `ChipSource.block_cache_bytes`; `block_cache_bound` of it
            holds.
    """
    bound = block_cache_bound(size_bytes)
    _cache_bounds.enter(bound)
    try:
        yield
    finally:
        _cache_bounds.leave(bound)


class _CacheBounds:
    """Bounds that are asked for at the same time: the largest one holds, and none outlasts them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[int] = []
        self._before = 0

    def enter(self, bound: int) -> None:
        with self._lock:
            if not self._asked:
                self._before = int(get_gdal_config("GDAL_CACHEMAX"))
            self._asked.append(bound)
            set_gdal_config("GDAL_CACHEMAX", max(self._asked))

    def leave(self, bound: int) -> None:
        with self._lock:
            self._asked.remove(bound)
            set_gdal_config("GDAL_CACHEMAX", max(self._asked, default=self._before))


_cache_bounds = _CacheBounds()


def reason(error: BaseException) -> str:
    """What GDAL said first: the innermost cause of an error, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(getattr(error, "errmsg", "") or error) or type(error).__name__
    return " ".join(text.split())
