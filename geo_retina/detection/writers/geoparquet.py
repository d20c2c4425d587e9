"""GeoParquet 1.1: columns, compressed, with a bounding box per row so that readers can skip."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geo_retina.detection.columns import as_column
from geo_retina.detection.writers.layer import GEOMETRY_COLUMN, table_schema

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geo_retina.detection.writers.layer import JsonValue, Layer
    from geo_retina.space.detections import Detections

ROWS_PER_GROUP = 65_536
"""Rows that are compressed together, and held in memory until then."""

_COVERING = "bbox"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class GeoParquetSink:
    """Row groups of `ROWS_PER_GROUP` whatever the sizes of the batches that come in."""

    def __init__(self, path: Path, layer: Layer) -> None:
        self._layer = layer
        covering = pa.struct([(edge, pa.float64()) for edge in _EDGES])
        self._schema = table_schema().append(pa.field(_COVERING, covering))
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def write(self, detections: Detections) -> None:
        """Append rows; whole row groups go to disk."""
        if not len(detections):
            return
        bounds = _bounds(self._layer.coordinates(detections))
        self._bounds[:2] = np.minimum(self._bounds[:2], bounds[:, :2].min(axis=0))
        self._bounds[2:] = np.maximum(self._bounds[2:], bounds[:, 2:].max(axis=0))
        edges = [as_column(edge, pa.float64()) for edge in bounds.T]
        covering = pa.StructArray.from_arrays(edges, names=list(_EDGES))
        columns = [*self._layer.table(detections).columns, covering]
        self._pending.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._pending_rows += len(detections)
        while self._pending_rows >= ROWS_PER_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last row group and the `geo` metadata."""
        if self._pending_rows:
            self._write_group()
        described = json.dumps(self._geo(), allow_nan=False)
        made_by = json.dumps(dict(self._layer.metadata), ensure_ascii=False, allow_nan=False)
        self._file.add_key_value_metadata({"geo": described, "geo_retina": made_by})
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._pending, self._schema)
        self._file.write_table(table.slice(0, ROWS_PER_GROUP).combine_chunks())
        rest = table.slice(ROWS_PER_GROUP)
        self._pending, self._pending_rows = rest.to_batches(), rest.num_rows

    def _geo(self) -> dict[str, JsonValue]:
        """File metadata of the GeoParquet 1.1.0 specification."""
        crs = self._layer.placement.crs
        column: dict[str, JsonValue] = {
            "encoding": "WKB",
            "geometry_types": [self._layer.geometry.capitalize()],
            # null says unknown; leaving it out would say longitude and latitude
            "crs": None if crs is None else crs.to_json_dict(),
            "edges": "planar",
            "covering": {_COVERING: {edge: [_COVERING, edge] for edge in _EDGES}},
        }
        if self._layer.geometry == "polygon":
            column["orientation"] = "counterclockwise"
        if np.isfinite(self._bounds).all():
            column["bbox"] = self._bounds.tolist()
        return {
            "version": "1.1.0",
            "primary_column": GEOMETRY_COLUMN,
            "columns": {GEOMETRY_COLUMN: column},
        }


def _bounds(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least and greatest x and y of (N, 4, 2) rings or (N, 2) points: (N, 4)."""
    corners = coordinates.reshape(len(coordinates), -1, 2)
    return np.hstack([corners.min(axis=1), corners.max(axis=1)])
