"""What every format needs to know of one output, and what it must be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa

from geo_retina.detection import features, wkb

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from geo_retina.detection.placement import Placement
    from geo_retina.space.detections import Detections
    from geo_retina.space.grid import Grid

Geometry = Literal["polygon", "point"]
"""A box as its outline, or as its centre."""

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

GEOMETRY_COLUMN = "geometry"


@dataclass(frozen=True, slots=True)
class Layer:
    """One output: what is known before the first detection comes."""

    name: str
    """Name of the layer inside formats that have one: the file's name without its extension."""
    grid: Grid
    """Grid of the raster; sizes on the ground are measured on it."""
    class_names: tuple[str, ...]
    """Names of class ids 0..K-1."""
    metadata: Mapping[str, JsonValue]
    """What made the file: model, options, version. Plain JSON values."""
    placement: Placement
    """Where coordinates are written."""
    geometry: Geometry

    def attributes(self, detections: Detections) -> pa.RecordBatch:
        """Attributes of detections, rows of `features.FIELDS`."""
        return features.attributes(detections, grid=self.grid, class_names=self.class_names)

    def coordinates(self, detections: Detections) -> NDArray[np.float64]:
        """Output coordinates: (N, 4, 2) rings, not closed, or (N, 2) points."""
        if self.geometry == "point":
            return self.placement.centres(detections.boxes)
        return self.placement.corners(detections.boxes)

    def table(self, detections: Detections) -> pa.RecordBatch:
        """Attributes and a last column of well-known binary geometries, rows of `table_schema`."""
        shapes = wkb.encode(self.coordinates(detections))
        columns = [*self.attributes(detections).columns, shapes]
        return pa.RecordBatch.from_arrays(columns, schema=table_schema())


class Sink(Protocol):
    """A file of one format that is being written."""

    def write(self, detections: Detections) -> None:
        """Append detections (raster pixel frame)."""

    def close(self) -> None:
        """Write what is still held back; the file is whole afterwards."""

    def abandon(self) -> None:
        """Let go of open files after a failure; what was written is worthless."""


def table_schema() -> pa.Schema:
    """Schema of `Layer.table`."""
    return features.FIELDS.append(pa.field(GEOMETRY_COLUMN, pa.binary()))
