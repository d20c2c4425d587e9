"""Shape, affine transform and CRS of a raster as one value. All coordinate conversion lives here.

Pixel coordinates are pixel EDGES: (0, 0) is the upper-left corner of the upper-left pixel, x grows
to the right, y grows down; the centre of the first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from geo_retina.errors import GeoreferenceError
from geo_retina.space.windows import Window

WGS84 = pyproj.CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a raster lie; usable without opening a file."""

    width: int
    """Columns."""
    height: int
    """Rows."""
    transform: Affine
    """Pixel edges (x, y) to world coordinates in `crs`; may rotate, shear and flip."""
    crs: pyproj.CRS | None
    """None where the raster has no georeference: world coordinates are then pixel coordinates."""

    def __post_init__(self) -> None:
        if self.transform.is_degenerate:
            raise GeoreferenceError(
                f"the raster's transform maps pixels onto a line or a point: {self.transform!r}; "
                "write a valid transform with gdal_edit or rio edit-info"
            )

    def pixel_to_world(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (..., 2) pixel x, y to (..., 2) world x, y."""
        return _apply(self.transform, points)

    def world_to_pixel(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (..., 2) world x, y to (..., 2) pixel x, y."""
        return _apply(~self.transform, points)

    def box_corners(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """World coordinates of the corners of (N, 4) boxes: (N, 4, 2).

        Each corner is mapped on its own, so that a box on a rotated grid is a true parallelogram.
        Corners run upper left, upper right, lower right, lower left in the pixel frame.
        """
        return self.pixel_to_world(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))

    def crop(self, window: Window) -> "Grid":
        """Grid of the pixels inside `window`."""
        moved = self.transform @ Affine.translation(window.col_off, window.row_off)
        return Grid(window.width, window.height, moved, self.crs)

    def resample(self, *, width: int, height: int) -> "Grid":
        """Grid over the same ground with another number of pixels."""
        scaled = self.transform @ Affine.scale(self.width / width, self.height / height)
        return Grid(width, height, scaled, self.crs)

    def gsd_m(self) -> tuple[float, float]:
        """Metres on the ground per pixel along x and along y, at the raster's centre.

        Measured on the ellipsoid between neighbouring points of the grid, so that it holds for
        degrees, feet and projections that stretch (Web Mercator) alike.

        Raises:
            GeoreferenceError: The grid has no CRS, or the CRS is not tied to the Earth.
        """
        if self.crs is None:
            raise GeoreferenceError("a raster without CRS has no ground sampling distance")
        centre = np.array([self.width / 2, self.height / 2])
        points = self.pixel_to_world(centre + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        lon, lat = _to_lon_lat(self.crs, points).T
        geod = pyproj.Geod(ellps="WGS84")
        _, _, metres = geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
        if not np.all(np.isfinite(metres)) or np.any(np.asarray(metres) <= 0):
            raise GeoreferenceError(
                f"the raster's centre {tuple(points[0])} lies outside the area where its CRS "
                f"({self.crs.name}) is valid; check the CRS and the transform"
            )
        return float(metres[0]), float(metres[1])


def _apply(transform: Affine, points: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b, c, d, e, f = transform[:6]
    x, y = np.asarray(points[..., 0], np.float64), np.asarray(points[..., 1], np.float64)
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def _to_lon_lat(crs: pyproj.CRS, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """WGS 84 longitude, latitude of (N, 2) world points."""
    try:
        transformer = pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)
        lon, lat = transformer.transform(points[:, 0], points[:, 1])
    except pyproj.exceptions.ProjError as error:
        raise GeoreferenceError(
            f"the raster's CRS ({crs.name}) cannot be tied to WGS 84 ({error}); assign a CRS that "
            "says where on the Earth the raster lies"
        ) from error
    return np.stack([lon, lat], axis=-1)
