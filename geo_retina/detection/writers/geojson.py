"""GeoJSON (RFC 7946) as a collection, and as a sequence of features, one a line.

Both are WGS 84 longitude and latitude (section 4), rings counter-clockwise and closed (3.1.6),
without a `crs` member (the 2008 one was withdrawn, appendix B.1), and cut at the antimeridian
(3.1.9). Text depends on the sequence of detections alone: no times, no machine names.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geo_retina.detection import antimeridian
from geo_retina.detection.writers.text_file import TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from geo_retina.detection.writers.layer import Layer
    from geo_retina.space.detections import Detections

LEAST_DECIMALS = 7
"""Decimals of a degree: 11 mm, as GDAL writes RFC 7946."""
MOST_PIXEL_ERROR = 0.1
"""Rasters so fine that `LEAST_DECIMALS` would move a corner further than this get more decimals."""

_PAIR = "[%r,%r]"
_POINT = '{"type":"Point","coordinates":' + _PAIR + "}"
_POLYGON = '{"type":"Polygon","coordinates":[[' + ",".join([_PAIR] * 5) + "]]}"
_FEATURE = (
    '{"type":"Feature","id":"%s","geometry":%s,"properties":{"id":"%s","class":%s,"score":%r,'
    '"window":%s,"area_m2":%s,"width_m":%s,"height_m":%s}}'
)


class CollectionSink(TextFile):
    """A FeatureCollection; metadata stand in a foreign member `geo_retina` (section 6.1)."""

    def __init__(self, path: Path, layer: Layer) -> None:
        self._lines = _Lines(layer)
        self._separator = "\n"
        metadata = json.dumps(layer.metadata, ensure_ascii=False, allow_nan=False)
        head = '{"type":"FeatureCollection","geo_retina":' + metadata + ',"features":['
        super().__init__(path, head=head, tail="\n]}\n")

    def write(self, detections: Detections) -> None:
        """Append features."""
        for line in self._lines.of(detections):
            self._file.write(self._separator + line)
            self._separator = ",\n"


class SequenceSink(TextFile):
    """One feature a line, optionally after the record separator of RFC 8142."""

    def __init__(self, path: Path, layer: Layer, *, prefix: str = "") -> None:
        self._lines = _Lines(layer)
        self._prefix = prefix
        super().__init__(path)

    def write(self, detections: Detections) -> None:
        """Append features."""
        self._file.writelines(f"{self._prefix}{line}\n" for line in self._lines.of(detections))


def decimals_for(step: float) -> int:
    """Decimals of coordinates of a raster whose pixels measure `step` degrees (or pixels)."""
    needed = math.ceil(-math.log10(2 * MOST_PIXEL_ERROR * step))
    return max(LEAST_DECIMALS, needed)


class _Lines:
    """Text of features, one line each."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._names = [json.dumps(name, ensure_ascii=False) for name in layer.class_names]
        self._decimals = decimals_for(layer.placement.finest_step())
        self._on_earth = layer.placement.crs is not None

    def of(self, detections: Detections) -> Iterator[str]:
        """Text of each detection, in their order."""
        table = self._layer.attributes(detections)
        keys = table["id"].to_pylist()
        rows = zip(
            keys,
            self._shapes(self._layer.coordinates(detections)),
            keys,
            [self._names[number] for number in detections.class_ids.tolist()],
            table["score"].to_pylist(),
            *(map(_number, table[name].to_pylist()) for name in table.schema.names[3:]),
            strict=True,
        )
        return (_FEATURE % row for row in rows)

    def _shapes(self, coordinates: NDArray[np.float64]) -> Iterator[str]:
        if coordinates.ndim == 2:  # noqa: PLR2004
            points = coordinates[:, None, :]
            points = antimeridian.unwrap(points) if self._on_earth else points
            return (_POINT % tuple(pair) for pair in self._rounded(points[:, 0]))
        rings = antimeridian.unwrap(coordinates) if self._on_earth else coordinates
        cut = antimeridian.crossing(rings) if self._on_earth else np.zeros(len(rings), np.bool_)
        flat = self._rounded(rings[:, [0, 1, 2, 3, 0]].reshape(-1, 10))
        return (
            self._cut_shape(rings[index]) if crosses else _POLYGON % tuple(numbers)
            for index, (numbers, crosses) in enumerate(zip(flat, cut.tolist(), strict=True))
        )

    def _cut_shape(self, ring: NDArray[np.float64]) -> str:
        parts = [np.vstack([part, part[:1]]) for part in antimeridian.cut(ring)]
        rounded = [self._rounded(part) for part in parts]
        polygons = [[part] for part in rounded if shapely.Polygon(part).area > 0]  # no slivers
        shape = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        return json.dumps(shape, separators=(",", ":"))

    def _rounded(self, coordinates: NDArray[np.float64]) -> list[list[float]]:
        rounded: list[list[float]] = (np.round(coordinates, self._decimals) + 0.0).tolist()
        return rounded


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)
