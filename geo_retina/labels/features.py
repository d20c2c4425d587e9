"""Features of a vector file, as they stand in it."""

import logging
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import pyproj
from shapely.errors import ShapelyError

from geo_retina.errors import LabelError
from geo_retina.labels.image_paths import is_elsewhere
from geo_retina.wording import counted, fid_list

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

_log = logging.getLogger(__name__)

CLASS_OPTION = "--class-column (class_column in a recipe)"
"""What states the column with the class, for the text of errors."""
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, ImportError, ShapelyError)
"""What reading a file with damaged metadata, CRS (a `RuntimeError` of pyproj) or shapes raises, or
a URL that needs a library which is not installed."""
PARQUET_SUFFIXES = (".parquet", ".geoparquet")
"""Of GeoParquet, which GDAL in wheels cannot read."""
VECTOR_SUFFIXES = (
    ".geojson", ".json", ".geojsonl", ".geojsonseq", ".ndjson", ".gpkg", ".shp", ".fgb",
    ".geojsons", *PARQUET_SUFFIXES,
)  # fmt: skip


def read_features(
    path: str | PathLike[str],
    *,
    layer: str | None,
    crs: str | None,
    choose: str = "state which with --layer (layer in a recipe)",
) -> "gpd.GeoDataFrame":
    """Read features with their columns; null and empty geometries are left out with a warning.

    Args:
        path: The file.
        layer: Layer to read; None = the only one with geometries.
        crs: CRS to assign; None = the file's own.
        choose: What to do about a file with several layers, for the error's text.

    Returns:
        The features; their index is the number that each has in the file (fid), in a Parquet file
        its row from 0.

    Raises:
        LabelError: The file cannot be read, has several layers and none was named, or `crs` is
            not a CRS.
    """
    import geopandas as gpd
    import pyogrio

    file = str(path)
    if not Path(file).exists() and not is_elsewhere(file):
        raise LabelError(f"{file}: no such file")
    suffix = Path(file).suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            frame = gpd.read_parquet(file).reset_index(drop=True)
        else:
            frame = gpd.read_file(
                file,
                layer=layer or _only_layer(file, choose),
                engine="pyogrio",
                fid_as_index=True,
                encoding="UTF-8" if suffix == ".csv" else None,  # or the system's: cp1252...
            )
    except (*UNREADABLE, pyogrio.errors.DataSourceError) as error:
        if isinstance(error, LabelError):
            raise
        if layer is not None and isinstance(error, pyogrio.errors.DataLayerError):
            known = ", ".join(map(repr, layers_with_geometries(file))) or "none"
            raise LabelError(
                f"{file}: no layer {layer!r} that can be read; with geometries: {known}; {choose}"
            ) from error
        raise LabelError(f"{file}: expected a vector file that OGR can read: {error}") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelError(f"{file}: expected features with geometries, found a plain table")
    if crs is not None:
        frame = frame.set_crs(_parse_crs(crs), allow_override=True)
    usable = ~(frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
    if not usable.all():
        lost = frame.index[~usable]
        _log.warning(
            "%s: left out %s without geometry (%s)",
            file, counted(len(lost), "feature"), fid_list(lost),
        )  # fmt: skip
    return frame[usable]


def column_of(
    frame: "gpd.GeoDataFrame", name: str | None, *defaults: str, source: str, option: str
) -> "pd.Series[str] | None":
    """Column `name`, or, where none is named, the first of the columns `defaults` that is there.

    Args:
        frame: Features.
        name: As stated; None = not.
        defaults: Columns to look for.
        source: The file, for the error's text.
        option: What states `name`, likewise.

    Raises:
        LabelError: There is no column `name`.
    """
    if name is None:
        name = next((default for default in defaults if default in frame), None)
        if name is None:
            return None
    if name not in frame:
        columns = ", ".join(frame.columns.drop(frame.geometry.name)) or "none"
        raise LabelError(
            f"{source}: expected a column {name!r}, found {columns}; state one of them with "
            f"{option}"
        )
    column: pd.Series[str] = frame[name]
    return column


def text_columns(frame: "pd.DataFrame") -> list[str]:
    """Names of the columns that hold text: what could be a class."""
    from pandas.api.types import is_object_dtype, is_string_dtype

    return [
        str(name)
        for name, column in frame.items()
        if (is_object_dtype(column) or is_string_dtype(column))
        and isinstance(next(iter(column.dropna()), None), str)  # neither dates nor lists
    ]


def layers_with_geometries(path: str) -> list[str]:
    """Names of the layers of a vector file that hold shapes, not plain tables."""
    import pyogrio

    return [str(name) for name, geometry in pyogrio.list_layers(path) if geometry is not None]


def _only_layer(file: str, choose: str) -> str:
    layers = layers_with_geometries(file)
    if len(layers) != 1:
        raise LabelError(
            f"{file}: expected one layer with geometries, found {len(layers)}"
            f"{': ' if layers else ''}{', '.join(layers)}; {choose}"
        )
    return layers[0]


def _parse_crs(text: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise LabelError(f"expected a CRS such as EPSG:32613, got {text!r}: {error}") from error
