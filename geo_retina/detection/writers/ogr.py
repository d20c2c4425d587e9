"""GeoPackage, FlatGeobuf and Shapefile, through GDAL.

GDAL pulls its rows from one Arrow stream, and neither FlatGeobuf nor a transaction around all rows
of a GeoPackage allows coming back later. Batches are therefore spooled to an Arrow file beside the
output and handed over in one stream at the end: memory stays that of one batch, and the spatial
index is built once over all rows.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyproj

from geo_retina.detection.writers.layer import GEOMETRY_COLUMN, table_schema
from geo_retina.detection.writers.read_back import ID, Tally, fault_of
from geo_retina.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geo_retina.detection.writers.layer import Layer
    from geo_retina.space.detections import Detections


_PLAIN_NAME = "output"
_NO_CODE = {"authority": "NONE", "code": 100_000}
_OWN_SHIFT = " with its own datum shift"


@dataclass(frozen=True, slots=True)
class Driver:
    """How GDAL writes one format."""

    name: str
    """Name of the driver."""
    layer_options: Mapping[str, str] = field(default_factory=dict)
    """Layer creation options."""
    most_rows_indexed: int | None = None
    """Above this many rows the layer is written without a spatial index; None = no such limit."""
    holds_shifts: bool = True
    """Whether the format has words for the datum shift that a CRS brings along (`TOWGS84`)."""

    def wkt(self, crs: pyproj.CRS) -> str:
        """Text of a CRS that GDAL keeps as it is.

        A projected one without a code it would take for the UTM zone of the same numbers, whatever
        the unit (feet) and the axes. Any code keeps it from that: this is the one that GDAL itself
        writes into a GeoPackage for a CRS that has none. Of one that brings its own datum shift it
        would keep the code alone or, where it knows the datum by name, leave the shift out.
        """
        described = crs.to_json_dict()
        if crs.is_bound and self.holds_shifts:
            _make_unknown(described["source_crs"])
        elif crs.is_projected and not crs.is_bound and "id" not in described and not _has_code(crs):
            described["id"] = _NO_CODE
        return str(pyproj.CRS.from_json_dict(described).to_wkt())


GEOPACKAGE = Driver("GPKG")
# GDAL sorts the packed R-tree in memory, 250 bytes a row: it must not follow the number of rows
FLATGEOBUF = Driver("FlatGeobuf", most_rows_indexed=1_000_000)
SHAPEFILE = Driver("ESRI Shapefile", layer_options={"ENCODING": "UTF-8"}, holds_shifts=False)


class OgrSink:
    """Rows spooled to disk, then written by GDAL in one go."""

    def __init__(self, path: Path, layer: Layer, *, driver: Driver) -> None:
        self._path = path
        self._layer = layer
        self._driver = driver
        self._tally = Tally()
        self._spool_path = path.with_name("rows.arrow")
        self._spool_file = pa.OSFile(str(self._spool_path), "wb")
        self._spool = pa.ipc.new_stream(self._spool_file, table_schema())
        # it brings pandas along, which takes a third of a second: time that the model's loading
        # has. Daemon, because Ctrl-C while two threads import may leave Python's import lock taken,
        # and the end of the program would wait for this thread for ever
        Thread(target=import_module, args=("pyogrio",), name="import pyogrio", daemon=True).start()

    def write(self, detections: Detections) -> None:
        """Append rows to the spool."""
        table = self._layer.table(detections)
        self._spool.write_batch(table)
        self._tally.add(table.column(ID))

    def close(self) -> None:
        """Hand all rows to GDAL."""
        self._spool.close()
        self._spool_file.close()
        with pa.OSFile(str(self._spool_path)) as spool, pa.ipc.open_stream(spool) as rows:
            # GDAL may take more than a name from the user's, and makes .shp of .SHP
            written = self._path.with_name(f"{_PLAIN_NAME}{self._path.suffix.lower()}")
            self._write_with_gdal(rows, written)
        fault = fault_of(written, self._tally)
        if fault is not None:
            raise WriteError(f"GDAL could not finish {self._path.name}: {fault}; is the disk full?")
        self._spool_path.unlink()
        written.replace(self._path)
        for part in list(self._path.parent.glob(f"{_PLAIN_NAME}.*")):
            part.replace(self._path.with_name(self._path.stem + part.name[len(_PLAIN_NAME) :]))

    def abandon(self) -> None:
        """Let go of the spool."""
        self._spool_file.close()

    def _write_with_gdal(self, rows: pa.RecordBatchReader, path: Path) -> None:
        import pyogrio

        crs = self._layer.placement.crs
        with warnings.catch_warnings():
            # a raster without CRS was accepted knowingly before the work began
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            try:
                pyogrio.write_arrow(
                    rows,
                    path,
                    layer=self._layer.name,
                    driver=self._driver.name,
                    geometry_name=GEOMETRY_COLUMN,
                    geometry_type=self._layer.geometry.capitalize(),
                    crs=None if crs is None else self._driver.wkt(crs),
                    layer_metadata=_as_text(self._layer.metadata),
                    layer_options=self._layer_options(),
                )
            except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
                raise WriteError(f"GDAL could not write {self._path.name}: {error}") from error

    def _layer_options(self) -> dict[str, str]:
        limit = self._driver.most_rows_indexed
        if limit is not None and self._tally.rows > limit:
            return {**self._driver.layer_options, "SPATIAL_INDEX": "NO"}
        return dict(self._driver.layer_options)


def _has_code(crs: pyproj.CRS) -> bool:
    """Whether EPSG knows a CRS: PROJ finds codes for some that do not count from Greenwich."""
    meridian = crs.prime_meridian
    return crs.to_epsg() is not None and (meridian is None or meridian.longitude == 0)


def _make_unknown(crs: dict[str, Any]) -> None:
    """Take from a CRS, as PROJJSON, what its datum could be recognised by."""
    base = crs.get("base_crs", crs)
    crs.pop("id", None)
    for part in (base, base.get("datum", {})):
        part.pop("id", None)
        part["name"] = f"{part.get('name', 'unknown')}{_OWN_SHIFT}"


def _as_text(metadata: Mapping[str, object]) -> dict[str, str]:
    """Metadata whose values are text: strings as they are, others as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
