"""CSV with the geometry as well-known text, which GDAL and QGIS recognise by the column's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geo_retina.detection import features
from geo_retina.detection.writers.text_file import TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from geo_retina.detection.writers.layer import Layer
    from geo_retina.space.detections import Detections

LINEAR_DECIMALS = 9
"""Decimals of metres, feet or pixels: far under any pixel, short of the noise of float64."""
DEGREE_DECIMALS = 13
"""Decimals of degrees: about ten nanometres."""

_POINT = '"POINT (%r %r)"'
_POLYGON = '"POLYGON ((' + ", ".join(["%r %r"] * 5) + '))"'


class CsvSink(TextFile):
    """A header and one line a detection; null is an empty field.

    Points have their coordinates in two columns of their own too, for what reads no WKT.
    """

    def __init__(self, path: Path, layer: Layer) -> None:
        self._layer = layer
        crs = layer.placement.crs
        on_degrees = crs is not None and crs.is_geographic
        self._decimals = DEGREE_DECIMALS if on_degrees else LINEAR_DECIMALS
        self._names = [_quoted(name) for name in layer.class_names]
        self._places: list[str] = []
        if layer.geometry == "point":
            self._places = ["lon", "lat"] if on_degrees else ["x", "y"]
        columns = [*features.FIELDS.names, *self._places, "WKT"]
        super().__init__(path, head=",".join(columns) + "\n")

    def write(self, detections: Detections) -> None:
        """Append lines."""
        table = self._layer.attributes(detections)
        places = np.round(self._layer.coordinates(detections), self._decimals) + 0.0
        columns = [
            table["id"].to_pylist(),
            [self._names[number] for number in detections.class_ids.tolist()],
            *(map(_number, table[name].to_pylist()) for name in table.schema.names[2:]),
            *(map(repr, column) for column in (places.T.tolist() if self._places else [])),
            _shapes(places),
        ]
        self._file.writelines(f"{','.join(row)}\n" for row in zip(*columns, strict=True))


def _shapes(coordinates: NDArray[np.float64]) -> Iterator[str]:
    template = _POINT
    if coordinates.ndim == 3:  # noqa: PLR2004
        template = _POLYGON
        coordinates = coordinates[:, [0, 1, 2, 3, 0]].reshape(-1, 10)
    return (template % tuple(row) for row in coordinates.tolist())


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _quoted(text: str) -> str:
    """Text as one field (RFC 4180, section 2)."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text
