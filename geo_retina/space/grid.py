"""Shape, affine transform and CRS of a raster as one value. All coordinate conversion lives here.

Pixel coordinates are pixel EDGES: (0, 0) is the upper-left corner of the upper-left pixel, x grows
to the right, y grows down; the centre of the first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass
from functools import lru_cache

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
        if self.transform.is_degenerate or not np.isfinite(self.transform[:6]).all():
            raise GeoreferenceError(
                "the raster's transform maps pixels onto a line, a point or infinity: "
                f"{self.transform!r}; write a valid transform with gdal_edit or rio edit-info"
            )

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.width * self.height / 1e6

    @property
    def corners(self) -> NDArray[np.float64]:
        """World coordinates of the raster's own corners, (4, 2), in the order of `box_corners`."""
        corners: NDArray[np.float64] = self.box_corners(
            np.array([[0, 0, self.width, self.height]])
        )[0]
        return corners

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
        lon, lat = reproject(points, source=self.crs, target=WGS84).T
        geod = pyproj.Geod(ellps="WGS84")
        _, _, metres = geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
        if not np.all(np.isfinite(metres)) or np.any(np.asarray(metres) <= 0):
            raise GeoreferenceError(
                f"the raster's centre ({points[0, 0]:.10g}, {points[0, 1]:.10g}) lies outside the "
                f"area where its CRS ({self.crs.name}) is valid; check the CRS and the transform"
            )
        return float(metres[0]), float(metres[1])

    def known_gsd_m(self) -> tuple[float, float] | None:
        """`gsd_m`, or None where nothing tells: no CRS, a local one, or one not valid there."""
        try:
            return self.gsd_m()
        except GeoreferenceError:
            return None


def _apply(transform: Affine, points: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b, c, d, e, f = transform[:6]
    x, y = np.asarray(points[..., 0], np.float64), np.asarray(points[..., 1], np.float64)
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def reproject(
    points: NDArray[np.floating], *, source: pyproj.CRS, target: pyproj.CRS
) -> NDArray[np.float64]:
    """Map points of one CRS to another.

    Args:
        points: (..., 2) x, y in `source`; x is always the easting or the longitude.
        source: CRS the points are in.
        target: CRS to express them in.

    Returns:
        (..., 2) x, y in `target`; not finite where a point lies outside the area of either CRS.

    Raises:
        GeoreferenceError: No operation leads from one CRS to the other.
    """
    if source == target:
        return np.array(points, dtype=np.float64)
    try:
        x, y = _transformer(source, target).transform(points[..., 0], points[..., 1])
    except pyproj.exceptions.ProjError as error:
        raise GeoreferenceError(
            f"no operation leads from the CRS {source.name} to {target.name} ({error}); assign a "
            "CRS that says where on the Earth the coordinates lie"
        ) from error
    return np.stack([x, y], axis=-1)


@lru_cache(maxsize=32)
def _transformer(source: pyproj.CRS, target: pyproj.CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)
