"""Detections as features: what a row of every output file says about an object.

The arrays made here are the same for all formats, so that a GeoPackage and a GeoJSON of one run
agree to the last digit. Coordinates are the business of `placement.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyproj

from geo_retina.detection.columns import as_column, hex_text, names_of
from geo_retina.detection.placement import Placement
from geo_retina.errors import GeoreferenceError
from geo_retina.space.grid import WGS84, Grid, reproject

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas as gpd
    from numpy.typing import NDArray

    from geo_retina.space.detections import Detections

FIELDS = pa.schema(
    [
        ("id", pa.string()),
        ("class", pa.string()),
        ("score", pa.float64()),
        ("window", pa.int64()),
        ("area_m2", pa.float64()),
        ("width_m", pa.float64()),
        ("height_m", pa.float64()),
    ]
)
"""Attributes of a feature, in the order of every file. All names fit a Shapefile (10 letters)."""

ID_STEP_PX = 0.01
"""Boxes that agree after rounding to this many raster pixels have the same id."""

SCORE_DECIMALS = 6
"""A float32 score has about seven significant digits; more would be noise in a text file."""
SIZE_DECIMALS = 4
"""Sizes to a tenth of a millimetre."""
AREA_DECIMALS = 6
"""Areas to a square millimetre."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GEOD = pyproj.Geod(ellps="WGS84")


class GroundSize(NamedTuple):
    """Size of boxes on the ground; NaN where the grid is not tied to the Earth."""

    area_m2: NDArray[np.float64]
    """(N,) square metres on the WGS 84 ellipsoid."""
    width_m: NDArray[np.float64]
    """(N,) metres along the raster's rows."""
    height_m: NDArray[np.float64]
    """(N,) metres along the raster's columns."""


def attributes(detections: Detections, *, grid: Grid, class_names: Sequence[str]) -> pa.RecordBatch:
    """Attributes of detections, one row each, in their order.

    Args:
        detections: Boxes in the raster's pixel frame.
        grid: Grid of the raster.
        class_names: Names of class ids 0..K-1.

    Returns:
        N rows of `FIELDS`. `window` is null where no window is involved; the sizes are null where
        the grid has no CRS or one that is not tied to the Earth.

    Raises:
        ValueError: A class id has no name.
    """
    _check_class_ids(detections.class_ids, len(class_names))
    size = ground_size(detections.boxes, grid)
    windows = detections.window_ids
    columns = [
        hex_text(ids(detections)),
        names_of(detections.class_ids, class_names),
        as_column(np.round(detections.scores.astype(np.float64), SCORE_DECIMALS), pa.float64()),
        as_column(windows, pa.int64(), known=windows >= 0),
        *(
            as_column(rounded, pa.float64(), known=~np.isnan(rounded))
            for rounded in (
                np.round(size.area_m2, AREA_DECIMALS),
                np.round(size.width_m, SIZE_DECIMALS),
                np.round(size.height_m, SIZE_DECIMALS),
            )
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FIELDS)


def ids(detections: Detections) -> NDArray[np.uint64]:
    """Number each detection by its class and place alone: (N,) 64-bit hashes.

    Two boxes of one class that round to the same steps of `ID_STEP_PX` have the same id, whatever
    their score, their window, or what else was found. Another model, backend or division into
    windows finds the same object with slightly other edges, and so with another id. The mixing
    function is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators"): among ten million objects the chance that any two share an id is about 3 in a
    million.
    """
    steps = np.rint(detections.boxes / ID_STEP_PX).astype(np.int64).view(np.uint64)
    mixed = _mix(detections.class_ids.view(np.uint64) + _GOLDEN)
    for column in steps.T:
        mixed = _mix((mixed ^ column) + _GOLDEN)
    return mixed


def ground_size(boxes: NDArray[np.floating], grid: Grid) -> GroundSize:
    """True size of (N, 4) boxes on the ground, whatever the units and the stretch of the CRS.

    Width and height are geodesics between the middles of opposite edges, each box at its own place
    (Web Mercator stretches twofold at 60 degrees north); the area is that of the parallelogram they
    span. For a box of 1 km the error is under a millionth.
    """
    lon_lat = _lon_lat_or_nan(_middles(boxes), grid)  # left, right, upper, lower
    across, width = _heading_and_length(lon_lat[:, 0], lon_lat[:, 1])
    down, height = _heading_and_length(lon_lat[:, 2], lon_lat[:, 3])
    area = width * height * np.abs(np.sin(np.radians(across - down)))
    return GroundSize(area, width, height)


def to_geodataframe(
    detections: Detections, grid: Grid, class_names: Sequence[str]
) -> gpd.GeoDataFrame:
    """Detections as a GeoDataFrame in the raster's CRS; empty detections keep every column."""
    import geopandas as gpd
    import shapely

    rings = Placement(grid, grid.crs).corners(detections.boxes)
    table = attributes(detections, grid=grid, class_names=class_names)
    frame = table.to_pandas()
    frame["window"] = frame["window"].astype("Int64")
    return gpd.GeoDataFrame(frame, geometry=shapely.polygons(rings), crs=grid.crs)


def _lon_lat_or_nan(points: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """WGS 84 longitude, latitude of pixels; NaN for those without a place on the Earth."""
    unknown = np.full(points.shape, np.nan)
    if grid.crs is None:
        return unknown
    try:
        lon_lat = reproject(grid.pixel_to_world(points), source=grid.crs, target=WGS84)
    except GeoreferenceError:
        return unknown
    return np.where(np.isfinite(lon_lat).all(axis=-1, keepdims=True), lon_lat, np.nan)


def _check_class_ids(class_ids: NDArray[np.int64], num_classes: int) -> None:
    if len(class_ids) and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < num_classes:
        raise ValueError(
            f"expected class ids 0..{num_classes - 1} ({num_classes} class names), got "
            f"{int(class_ids.min())}..{int(class_ids.max())}; pass the class names of the model"
        )


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64; arithmetic wraps at 64 bits by design."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _middles(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Middles of the left, right, upper and lower edge of (N, 4) boxes: (N, 4, 2) pixels."""
    x_min, y_min, x_max, y_max = np.asarray(boxes, np.float64).T
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    points = [x_min, y, x_max, y, x, y_min, x, y_max]
    return np.stack(points, axis=-1).reshape(-1, 4, 2)


def _heading_and_length(
    start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Azimuth half-way, in degrees, and length in metres of geodesics between (N, 2) points."""
    forward, back, metres = _GEOD.inv(start[:, 0], start[:, 1], end[:, 0], end[:, 1])
    turn = (np.asarray(back) - forward) % 360 - 180  # forward azimuth at the end less at the start
    return np.asarray(forward) + turn / 2, np.asarray(metres)
