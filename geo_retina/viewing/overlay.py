"""A picture of a raster with the objects drawn in."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from geo_retina.errors import OutputError, RasterReadError, WriteError
from geo_retina.imagery.gdal import reason, session
from geo_retina.space.detections import Detections

LARGEST_SIDE_PX = 1600
"""A larger raster is shown smaller."""
SMALLEST_SIDE_PX = 800
"""A smaller raster is shown larger, so that thin outlines leave the objects visible."""

_SHOWN_PERCENTILES = (2, 98)  # of values that are not 8 bit
_COLOURS = ((255, 214, 10), (0, 200, 255), (255, 90, 160), (150, 255, 80), (255, 140, 0))


class PictureWriter:
    """A PNG that gets detections as any other output does, for `detect_to_files`.

    Outlines are drawn in one colour a class, the brighter the surer. The file appears under its
    name when it is whole.
    """

    def __init__(
        self,
        path: str | Path,
        raster: str | os.PathLike[str],
        *,
        bands: Sequence[int] | None = None,
    ) -> None:
        """Prepare a picture; the raster is read when the `with` statement is entered.

        Args:
            path: PNG to write.
            raster: What to show.
            bands: Three band numbers, from 1, or one; None = the first three, or the only one.

        Raises:
            OutputError: The file cannot be written.
        """
        self._path = Path(path)
        self._raster = os.fspath(raster)
        self._bands = bands
        if self._path.suffix.lower() != ".png":
            raise OutputError(f"expected a picture that ends in .png, got {path}")
        if not self._path.absolute().parent.is_dir():
            raise OutputError(f"the folder of {path} does not exist; make it first")

    def __enter__(self) -> Self:
        pixels, self._zoom = _read_small(self._raster, self._bands)
        self._image = Image.fromarray(pixels)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        return self

    def write(self, detections: Detections) -> None:
        """Draw boxes (raster pixel frame)."""
        boxes = (detections.boxes * self._zoom).tolist()
        opacity = (110 + 145 * detections.scores).astype(int).tolist()
        width = 2 if self._zoom >= 1 else 1
        for box, alpha, class_id in zip(boxes, opacity, detections.class_ids.tolist(), strict=True):
            colour = (*_COLOURS[class_id % len(_COLOURS)], min(alpha, 255))
            self._draw.rectangle(box, outline=colour, width=width)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        partial = self._path.with_name(f".{self._path.name}.part")
        try:
            self._image.save(partial, format="PNG", optimize=True)
            partial.replace(self._path)
        except OSError as problem:
            partial.unlink(missing_ok=True)
            raise WriteError(f"cannot write the picture {self._path}: {problem}") from problem


def _read_small(path: str, bands: Sequence[int] | None) -> tuple[NDArray[np.uint8], float]:
    """An RGB picture (height, width, 3) of a raster, and its pixels per raster pixel."""
    try:
        with session(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                longest = max(raster.width, raster.height)
                zoom = min(LARGEST_SIDE_PX / longest, max(1.0, SMALLEST_SIDE_PX / longest))
                shape = (
                    max(round(raster.height * zoom), 1),
                    max(round(raster.width * zoom), 1),
                )
                numbers = list(bands or range(1, raster.count + 1))[:3]
                numbers = numbers if len(numbers) == 3 else numbers[:1] * 3  # noqa: PLR2004
                how = Resampling.average if zoom < 1 else Resampling.cubic
                values = raster.read(numbers, out_shape=(3, *shape), resampling=how, masked=True)
    except RasterioIOError as error:
        raise RasterReadError(f"{path} cannot be read for the picture: {reason(error)}") from error
    return _to_eight_bits(values), zoom


def _to_eight_bits(values: "np.ma.MaskedArray[Any, Any]") -> NDArray[np.uint8]:
    """(3, height, width) values of any type as (height, width, 3) of 8 bits; invalid is black."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values.filled(0).transpose(1, 2, 0), dtype=np.uint8)
    known = values.compressed()
    known = known[np.isfinite(known)]
    low, high = np.percentile(known, _SHOWN_PERCENTILES) if len(known) else (0.0, 1.0)
    shown = (values.filled(low).astype(np.float64) - low) / max(high - low, 1e-12)
    scaled = (np.nan_to_num(shown).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(1, 2, 0))
