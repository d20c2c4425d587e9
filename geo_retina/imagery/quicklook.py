"""A whole raster as one small colour picture: to be looked at, not to be measured."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from geo_retina.errors import RasterReadError
from geo_retina.imagery.gdal import GDAL_ERRORS, reason, session

_ROWS_AT_ONCE = 32  # of the picture of a damaged raster
_SHOWN_PERCENTILES = (2, 98)  # of values that are not 8 bit


def read_small(
    path: str,
    *,
    bands: Sequence[int] | None = None,
    most_px: int,
    least_px: int = 1,
    skip_errors: bool = False,
) -> tuple[NDArray[np.uint8], float]:
    """Read a raster as a picture; of a large one GDAL reads overviews where there are some.

    Args:
        path: What to read.
        bands: Three band numbers, from 1, or one; None = `shown_bands`.
        most_px: Longer side of the picture; a larger raster is shown smaller.
        least_px: A smaller raster is shown larger.
        skip_errors: Leave rows black that cannot be read.

    Returns:
        (height, width, 3) red, green, blue, black where nothing is valid; and its pixels per raster
        pixel. Data other than uint8 is stretched between its percentiles 2 and 98, of complex
        numbers their magnitude.

    Raises:
        RasterReadError: The raster cannot be read.
    """
    try:
        with session(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                longest = max(raster.width, raster.height)
                zoom = min(most_px / longest, max(1.0, least_px / longest))
                values = _values(raster, bands, zoom, skip_errors=skip_errors)
    except GDAL_ERRORS as error:
        raise RasterReadError(
            f"{path} cannot be read for a picture or a map: {reason(error)}; `detect "
            "--skip-errors` leaves black what cannot be read"
        ) from error
    return _to_eight_bits(values), zoom


def _values(
    raster: rasterio.DatasetReader, bands: Sequence[int] | None, zoom: float, *, skip_errors: bool
) -> "np.ma.MaskedArray[Any, Any]":
    """Three bands of a raster, `zoom` times as large: (3, height, width) of its data type."""
    shape = max(round(raster.height * zoom), 1), max(round(raster.width * zoom), 1)
    numbers = list(bands or shown_bands([colour.name for colour in raster.colorinterp]))[:3]
    numbers = numbers if len(numbers) == 3 else numbers[:1] * 3  # noqa: PLR2004
    how = Resampling.average if zoom < 1 else Resampling.cubic
    try:
        values: np.ma.MaskedArray[Any, Any] = raster.read(
            numbers, out_shape=(3, *shape), resampling=how, masked=True
        )
    except GDAL_ERRORS:
        if not skip_errors:
            raise
        values = _readable_rows(raster, numbers, shape, how)
    return values


def _readable_rows(
    raster: rasterio.DatasetReader, bands: list[int], shape: tuple[int, int], how: Resampling
) -> "np.ma.MaskedArray[Any, Any]":
    """The picture of a damaged raster, some rows at a time; masked where they cannot be read."""
    rows, columns = shape
    zoom = raster.height / rows
    parts = []
    for first in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - first)
        window = Window(0, first * zoom, raster.width, count * zoom)
        size = (3, count, columns)
        try:
            part = raster.read(bands, window=window, out_shape=size, resampling=how, masked=True)
        except GDAL_ERRORS:
            part = np.ma.masked_all(size, raster.dtypes[0])  # type: ignore[no-untyped-call]
        parts.append(part)
    joined: np.ma.MaskedArray[Any, Any] = np.ma.concatenate(parts, axis=1)  # type: ignore[no-untyped-call]
    return joined


def shown_bands(colours: Sequence[str]) -> list[int]:
    """Bands to show, from 1: red, green and blue if they are tagged so, else the first ones.

    Args:
        colours: GDAL's colour of each band, in lower case.
    """
    wanted = ("red", "green", "blue")
    if set(wanted) <= set(colours):
        return [list(colours).index(name) + 1 for name in wanted]
    return [1, 2, 3] if len(colours) >= len(wanted) else [1]


def _to_eight_bits(values: "np.ma.MaskedArray[Any, Any]") -> NDArray[np.uint8]:
    """(3, height, width) values of any type as (height, width, 3) of 8 bits; invalid is black.

    In 8 bits the nodata value is also a colour: a pixel that has it in some bands only is valid.
    """
    if values.dtype == np.uint8:
        invalid = np.ma.getmaskarray(values).all(axis=0)
        shown = np.where(invalid, 0, values.data)
        return np.ascontiguousarray(shown.transpose(1, 2, 0), dtype=np.uint8)
    values = np.ma.abs(values) if values.dtype.kind == "c" else values
    known = values.compressed()
    known = known[np.isfinite(known)]
    low, high = np.percentile(known, _SHOWN_PERCENTILES) if len(known) else (0.0, 1.0)
    shown = (values.filled(low).astype(np.float64) - low) / max(high - low, 1e-12)
    scaled = (np.nan_to_num(shown).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(1, 2, 0))
