"""The vector formats that can be written, by file extension: one table, no registry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from geo_retina.detection.writers import ogr
from geo_retina.detection.writers.coco import CocoSink
from geo_retina.detection.writers.csv_text import CsvSink
from geo_retina.detection.writers.geojson import CollectionSink, SequenceSink
from geo_retina.detection.writers.geoparquet import GeoParquetSink
from geo_retina.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geo_retina.detection.writers.layer import Layer, Sink

RECORD_SEPARATOR = "\x1e"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write features."""

    name: str
    """Name for messages."""
    open_sink: Callable[[Path, Layer], Sink]
    """Begin a file."""
    fixed_frame: str = ""
    """Why coordinates of this format cannot be asked for in another CRS; empty where they can."""
    sidecars: tuple[str, ...] = ()
    """Endings, after the stem, of files that may lie beside the main one."""

    def files(self, path: Path) -> list[Path]:
        """The main file of an output and all that may lie beside it."""
        return [path, *(path.with_name(path.stem + ending) for ending in self.sidecars)]


_LON_LAT = "RFC 7946 section 4 fixes the coordinates of GeoJSON to WGS 84 longitude and latitude"
_PIXELS = "COCO holds boxes in raster pixels"

GEOJSON = Format("GeoJSON", CollectionSink, fixed_frame=_LON_LAT)
GEOJSON_LINES = Format("newline-delimited GeoJSON", SequenceSink, fixed_frame=_LON_LAT)
GEOJSON_SEQUENCE = Format(
    "GeoJSON text sequence",
    partial(SequenceSink, prefix=RECORD_SEPARATOR),
    fixed_frame=_LON_LAT,
)
GEOPACKAGE = Format(
    "GeoPackage",
    partial(ogr.OgrSink, driver=ogr.GEOPACKAGE),
    # a write-ahead log of an older file would be replayed into the new one
    sidecars=(".gpkg-wal", ".gpkg-shm", ".gpkg-journal", ".gpkg.aux.xml"),
)
FLATGEOBUF = Format("FlatGeobuf", partial(ogr.OgrSink, driver=ogr.FLATGEOBUF))
GEOPARQUET = Format("GeoParquet", GeoParquetSink)
SHAPEFILE = Format(
    "Shapefile",
    partial(ogr.OgrSink, driver=ogr.SHAPEFILE),
    sidecars=(".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".shp.xml"),
)
CSV = Format("CSV", CsvSink)
COCO = Format("COCO", CocoSink, fixed_frame=_PIXELS)

FORMATS: dict[str, Format] = {
    ".coco.json": COCO,  # before .json, which it ends with
    ".geojson": GEOJSON,
    ".json": GEOJSON,
    ".geojsonl": GEOJSON_LINES,
    ".ndjson": GEOJSON_LINES,
    ".geojsonseq": GEOJSON_SEQUENCE,
    ".geojsons": GEOJSON_SEQUENCE,
    ".gpkg": GEOPACKAGE,
    ".fgb": FLATGEOBUF,
    ".parquet": GEOPARQUET,
    ".geoparquet": GEOPARQUET,
    ".shp": SHAPEFILE,
    ".csv": CSV,
}


def split_extension(path: Path) -> tuple[str, Format]:
    """The name of an output without its extension, and the format that the extension stands for.

    Raises:
        OutputError: No format has this extension.
    """
    for extension, kind in FORMATS.items():
        stem = path.name[: -len(extension)]
        if path.name.lower().endswith(extension) and stem:
            return stem, kind
    raise OutputError(
        f"expected an output ending in {', '.join(FORMATS)}, got {path.name!r}; "
        "change the file's extension"
    )


def output_files(path: Path) -> list[Path]:
    """All files that an output may consist of.

    Raises:
        OutputError: See `split_extension`.
    """
    return split_extension(path)[1].files(path)
