"""Files that GDAL wrote, read again: it does not tell of what fails while it closes a file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pathlib import Path

ID = "id"
_ID_BYTES = 16


class Tally:
    """How many rows there are and which, in any order; of a size that does not grow."""

    def __init__(self) -> None:
        self.rows = 0
        self._sums = np.zeros(_ID_BYTES // 8, dtype=np.uint64)

    def add(self, ids: pa.Array) -> None:
        """Count rows by their ids: texts of 16 characters."""
        self.rows += len(ids)
        texts = np.array(ids.to_pylist(), dtype=f"S{_ID_BYTES}")
        self._sums += texts.view(np.uint64).reshape(-1, len(self._sums)).sum(axis=0)

    def __eq__(self, other: object) -> bool:
        """Whether both counted the same rows."""
        if not isinstance(other, Tally):
            return NotImplemented
        return self.rows == other.rows and bool((self._sums == other._sums).all())

    __hash__ = None  # type: ignore[assignment]


def fault_of(path: Path, written: Tally) -> str | None:
    """What a file lacks of what was written to it; None if nothing.

    Args:
        path: GeoPackage, FlatGeobuf or Shapefile.
        written: The rows that it must have.
    """
    import pyogrio

    found = Tally()
    try:
        with pyogrio.open_arrow(path) as (meta, stream):
            geometry = meta["geometry_name"] or "wkb_geometry"
            rows = pa.RecordBatchReader.from_stream(stream)
            if ID not in rows.schema.names:
                return "its columns are missing"
            for batch in rows:
                if batch.column(geometry).null_count:
                    return "an outline is missing"
                found.add(pc.fill_null(batch.column(ID), ""))
    except (pyogrio.errors.DataSourceError, pa.ArrowException, OSError, ValueError) as error:
        return f"it cannot be read again: {error}"
    if found != written:
        return f"{written.rows:,} rows were written, {found.rows:,} were read again, or others"
    if path.suffix.lower() == ".gpkg":
        return _index_fault(path, written.rows)
    return None


def _index_fault(path: Path, rows: int) -> str | None:
    """What the spatial index of a GeoPackage lacks."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            ((table, column),) = file.execute(
                "SELECT table_name, column_name FROM gpkg_geometry_columns"
            )
            name = f"rtree_{table}_{column}_rowid".replace('"', '""')
            ((indexed,),) = file.execute(f'SELECT count(*) FROM "{name}"')  # noqa: S608  quoted
    except (sqlite3.Error, ValueError) as error:
        return f"its spatial index cannot be read again: {error}"
    return None if indexed == rows else f"its spatial index holds {indexed:,} of {rows:,} rows"
