"""Where a raster file says it lies: transform, ground control points, CRS, as one `Grid`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from geo_retina.errors import GeoreferenceError
from geo_retina.imagery.gdal import GDAL_ERRORS
from geo_retina.space.grid import Grid

MAX_GCP_RESIDUAL_PX = 3.0
"""Largest distance between a ground control point and the affine fit, in raster pixels."""

_log = logging.getLogger(__name__)
_IDENTITY = Affine.identity()


@dataclass(frozen=True, slots=True)
class Georeference:
    """A raster's grid and, where it has no place on the ground, why."""

    grid: Grid
    """Native grid; identity transform and no CRS where there is no georeference."""
    gap: str | None
    """What is missing and how to add it; None for a georeferenced raster."""


def read_georeference(
    dataset: Any,  # noqa: ANN401  a rasterio dataset: rasterio has no types
    *,
    crs: str | None = None,
    pixel_coordinates: bool = False,
) -> Georeference:
    """Grid of an open dataset from its transform or else from its ground control points.

    Args:
        dataset: An open rasterio dataset.
        crs: CRS to assign where the file has none, such as `EPSG:32633`.
        pixel_coordinates: Take a broken georeference for none, instead of raising.

    Raises:
        GeoreferenceError: The file has half a georeference (a CRS without transform, control points
            without CRS, RPCs only), its control points do not lie on an affine grid, its CRS cannot
            be understood, or `crs` contradicts the CRS in the file.
    """
    shape = dataset.width, dataset.height
    try:
        placed = _placed_grid(dataset, crs)
    except GeoreferenceError as error:
        if not pixel_coordinates:
            raise
        return Georeference(Grid(*shape, _IDENTITY, None), str(error))
    if placed is not None:
        return Georeference(placed, None)
    has_transform = dataset.transform != _IDENTITY
    gap = (
        f"{dataset.name} has a transform but no CRS; say which with --raster-crs, or write it into "
        "the file with `gdal_edit.py -a_srs EPSG:<code>`"
        if has_transform
        else f"{dataset.name} has no georeference: neither transform nor CRS"
    )
    return Georeference(Grid(*shape, _IDENTITY, None), gap)


def _placed_grid(dataset: Any, crs: str | None) -> Grid | None:  # noqa: ANN401  see above
    """Grid on the ground; None where the file claims no place at all."""
    size = dataset.width, dataset.height
    found = _horizontal_crs(dataset.crs, dataset.name)
    if dataset.transform != _IDENTITY:
        chosen = _assigned_crs(found, crs, dataset.name)
        return None if chosen is None else Grid(*size, dataset.transform, chosen)
    points, points_crs = dataset.gcps
    if points:
        chosen = _assigned_crs(_horizontal_crs(points_crs, dataset.name), crs, dataset.name)
        if chosen is None:
            raise GeoreferenceError(
                f"{dataset.name} has ground control points but no CRS for them; say which with "
                "--raster-crs, or write it with `gdal_edit.py -a_srs EPSG:<code>`"
            )
        return Grid(*size, fit_control_points(points, name=dataset.name), chosen)
    _refuse_unusable_models(dataset)
    if found is not None or crs is not None:
        raise GeoreferenceError(
            f"{dataset.name} has a CRS ({(found or pyproj.CRS(crs)).name}) but no transform, so "
            "its pixels have no place; write one with `gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM` "
            "or put a world file next to it"
        )
    return None


def _refuse_unusable_models(dataset: Any) -> None:  # noqa: ANN401  see above
    """Raise for sensor models that no affine transform can stand for."""
    if dataset.rpcs is not None:
        raise GeoreferenceError(
            f"{dataset.name} is located by RPCs only, which need the height of the ground; "
            "orthorectify it first: `gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:<code> "
            "in.tif out.tif`"
        )
    if dataset.tags(ns="GEOLOCATION"):
        raise GeoreferenceError(
            f"{dataset.name} is located by geolocation arrays only; warp it first: "
            "`gdalwarp -geoloc -t_srs EPSG:<code> in.tif out.tif`"
        )


def fit_control_points(points: Sequence[Any], *, name: str) -> Affine:
    """Affine transform from pixel edges to the world that fits ground control points best.

    Least squares over all points, in coordinates centred for numerical safety. The residuals are
    logged.

    Args:
        points: rasterio `GroundControlPoint`s: `col`, `row` in pixel edges, `x`, `y` in the CRS.
        name: The raster, for messages.

    Raises:
        GeoreferenceError: Fewer than three points, all on one line, or a residual over
            `MAX_GCP_RESIDUAL_PX`.
    """
    pixels = np.array([[point.col, point.row] for point in points], dtype=np.float64)
    world = np.array([[point.x, point.y] for point in points], dtype=np.float64)
    advice = "warp the raster first: `gdalwarp -tps -t_srs EPSG:<code> in.tif out.tif`"
    if len(points) < 3 or np.linalg.matrix_rank(pixels - pixels.mean(axis=0)) < 2:  # noqa: PLR2004
        raise GeoreferenceError(
            f"{name} has {len(points)} ground control points, which do not span a plane; three "
            f"that are not on one line are needed"
        )
    if not (np.isfinite(pixels).all() and np.isfinite(world).all()):
        raise GeoreferenceError(f"{name} has ground control points that are not finite; {advice}")
    transform = _least_squares(pixels, world)
    residuals_px = _residuals_px(transform, pixels, world, name)
    rms, largest = float(np.sqrt(np.mean(residuals_px**2))), float(residuals_px.max())
    if largest > MAX_GCP_RESIDUAL_PX:
        raise GeoreferenceError(
            f"the ground control points of {name} do not lie on a straight grid: they are up to "
            f"{largest:.1f} pixels off the best affine fit, at most {MAX_GCP_RESIDUAL_PX:.0f} are "
            f"allowed; {advice}"
        )
    _log.warning(
        "%s is located by %d ground control points; the affine fit is off by %.2f pixels (RMS), "
        "%.2f at most",
        name,
        len(points),
        rms,
        largest,
    )
    return transform


def _least_squares(pixels: NDArray[np.float64], world: NDArray[np.float64]) -> Affine:
    middle, origin = pixels.mean(axis=0), world.mean(axis=0)
    linear, *_ = np.linalg.lstsq(pixels - middle, world - origin, rcond=None)  # (2, 2)
    (a, d), (b, e) = linear
    c, f = origin - middle @ linear
    return Affine(*(float(value) for value in (a, b, c, d, e, f)))


def _residuals_px(
    transform: Affine, pixels: NDArray[np.float64], world: NDArray[np.float64], name: str
) -> NDArray[np.float64]:
    """Distance of each control point from the fit, in pixels."""
    if transform.is_degenerate:
        raise GeoreferenceError(f"the ground control points of {name} map it onto a line")
    back = Grid(1, 1, transform, None).world_to_pixel(world)
    distances: NDArray[np.float64] = np.hypot(*(back - pixels).T)
    return distances


def _assigned_crs(found: pyproj.CRS | None, crs: str | None, name: str) -> pyproj.CRS | None:
    if crs is None:
        return found
    try:
        stated = horizontal(pyproj.CRS.from_user_input(crs))
    except pyproj.exceptions.CRSError as error:
        raise GeoreferenceError(
            f"--raster-crs {crs} is not a CRS: {error}; try EPSG:<code>"
        ) from error
    if found is not None and found != stated:
        raise GeoreferenceError(
            f"{name} says its CRS is {found.name}, --raster-crs says {stated.name}; the option is "
            "for files without one: leave it out, or mend the file with `gdal_edit.py -a_srs`"
        )
    return stated


def _horizontal_crs(crs: Any, name: str) -> pyproj.CRS | None:  # noqa: ANN401  a rasterio CRS
    """The horizontal part of a rasterio CRS as a pyproj one; None for none."""
    if not crs:
        return None
    try:
        converted = pyproj.CRS.from_wkt(crs.to_wkt())
    except (pyproj.exceptions.CRSError, *GDAL_ERRORS) as error:
        raise GeoreferenceError(
            f"the CRS of {name} cannot be understood: {error}; assign one with "
            "`gdal_edit.py -a_srs EPSG:<code>`"
        ) from error
    return horizontal(converted)


def horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    """A CRS without its heights: the horizontal part of a compound CRS, the 2D form of a 3D one.

    Raises:
        GeoreferenceError: The CRS has no horizontal plane (heights only, geocentric).
    """
    if crs.is_compound:
        return horizontal(crs.sub_crs_list[0])
    if crs.is_vertical or crs.is_geocentric:
        raise GeoreferenceError(
            f"the CRS {crs.name} has no horizontal plane; assign a projected or geographic one "
            "with `gdal_edit.py -a_srs EPSG:<code>`"
        )
    return crs.to_2d() if len(crs.axis_info) > 2 else crs  # noqa: PLR2004
