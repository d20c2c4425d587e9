"""A picture of a raster with the objects drawn in."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image, ImageColor, ImageDraw

from geo_retina.imagery.quicklook import read_small
from geo_retina.space.detections import Detections
from geo_retina.viewing.colours import colour_of
from geo_retina.whole_files import check_place, whole_file

LARGEST_SIDE_PX = 1600
"""A larger raster is shown smaller."""
SMALLEST_SIDE_PX = 800
"""A smaller raster is shown larger, so that thin outlines leave the objects visible."""


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
        skip_errors: bool = False,
    ) -> None:
        """Prepare a picture; the raster is read when the `with` statement is entered.

        Args:
            path: PNG to write.
            raster: What to show.
            bands: Three band numbers, from 1, or one; None = `shown_bands`.
            skip_errors: Leave parts of the raster black that cannot be read.

        Raises:
            OutputError: The file cannot be written.
        """
        self._path = Path(path)
        self._raster = os.fspath(raster)
        self._bands = bands
        self._skip_errors = skip_errors
        check_place(self._path, ending=".png")

    def __enter__(self) -> Self:
        pixels, self._zoom = read_small(
            self._raster,
            bands=self._bands,
            most_px=LARGEST_SIDE_PX,
            least_px=SMALLEST_SIDE_PX,
            skip_errors=self._skip_errors,
        )
        self._image = Image.fromarray(pixels)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        return self

    def write(self, detections: Detections) -> None:
        """Draw boxes (raster pixel frame)."""
        boxes = (detections.boxes * self._zoom).tolist()
        opacity = (110 + 145 * detections.scores).astype(int).tolist()
        width = 2 if self._zoom >= 1 else 1
        for box, alpha, class_id in zip(boxes, opacity, detections.class_ids.tolist(), strict=True):
            colour = (*ImageColor.getrgb(colour_of(class_id)), min(alpha, 255))
            self._draw.rectangle(box, outline=colour, width=width)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        with whole_file(self._path) as file:
            self._image.save(file, format="PNG", optimize=True)
