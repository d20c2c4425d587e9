"""Where the corners of boxes lie in the coordinates of an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

from geo_retina.detection import antimeridian
from geo_retina.errors import GeoreferenceError
from geo_retina.space import boxes as box_arrays
from geo_retina.space.grid import WGS84, Grid, reproject

if TYPE_CHECKING:
    import pyproj
    from numpy.typing import NDArray

MOST_BENT = 0.1
"""Share of a box's diagonal by which its centre may lie off the mean of its corners, all placed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A raster's grid and the CRS that coordinates are written in."""

    grid: Grid
    """Maps pixels to the world."""
    crs: pyproj.CRS | None
    """CRS of the output; None only where `grid` has none."""
    closes_poles: bool = False
    """Whether outlines round a pole are closed over it later, as only GeoJSON is."""

    def __post_init__(self) -> None:
        if (self.crs is None) != (self.grid.crs is None):
            raise GeoreferenceError(
                f"cannot place a raster with CRS {_name(self.grid.crs)} in CRS {_name(self.crs)}; "
                "assign the raster its CRS, or ask for none"
            )
        if self.crs is not None and self.grid.crs is not None:  # that a way leads there, at once
            reproject(np.zeros((1, 2)), source=self.grid.crs, target=self.crs)

    @classmethod
    def in_pixels(cls, grid: Grid) -> Placement:
        """Coordinates are pixel edges of the raster: x to the right, y down, without a CRS."""
        return cls(Grid(grid.width, grid.height, Affine.identity(), None), None)

    def corners(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Corners of (N, 4) boxes, counter-clockwise in the output's x and y: (N, 4, 2).

        The first is always the box's upper left corner in the pixel frame. Each corner is mapped on
        its own. In longitude and latitude a box on the antimeridian runs past 180 degrees instead
        of jumping to the other side of the world, and so it does in Web Mercator and the like.

        Raises:
            GeoreferenceError: A box lies where the output's CRS is not defined, or is cut, or
                round a pole that it has no place for.
        """
        placed = self._place(self.grid.box_corners(boxes))
        turn = None if self.crs is None else antimeridian.turn_of(self.crs)
        if self.crs is not None and turn is None:
            self._refuse_torn(placed, self.centres(boxes))
        if turn is not None and self.grid.crs != self.crs and not self.closes_poles:
            self._refuse_open(placed, turn)
        return counter_clockwise(placed)

    def centres(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Centres of (N, 4) boxes in the output's x and y: (N, 2).

        Raises:
            GeoreferenceError: A centre lies where the output's CRS is not defined.
        """
        centres = np.asarray(box_arrays.centres(boxes), np.float64)
        placed: NDArray[np.float64] = self._place(self.grid.pixel_to_world(centres)[:, None])[:, 0]
        return placed

    def finest_step(self) -> float:
        """Smallest side of a pixel at the raster's centre, in units of the output's CRS."""
        x, y = self.grid.width / 2, self.grid.height / 2
        pixel = np.array([[x, y, x + 1, y + 1]])
        upper_left, upper_right, _, lower_left = self._place(self.grid.box_corners(pixel))[0]
        sides = np.array([upper_right - upper_left, lower_left - upper_left])
        return float(np.hypot(sides[:, 0], sides[:, 1]).min())

    def _place(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, M, 2) world points in the output's CRS."""
        if self.grid.crs is None or self.crs is None or self.grid.crs == self.crs:
            return world
        placed = reproject(world, source=self.grid.crs, target=self.crs)
        if not np.isfinite(placed).all():
            lost = world[~np.isfinite(placed).all(axis=-1)][0]
            raise GeoreferenceError(
                f"the point {tuple(lost.tolist())} of the raster ({self.grid.crs.name}) has no "
                f"place in {self.crs.name}; choose a CRS that covers the raster"
            )
        turn = antimeridian.turn_of(self.crs)
        return placed if turn is None else antimeridian.joined(placed, turn)

    def _refuse_open(self, corners: NDArray[np.float64], turn: float) -> None:
        """Raise for a box round a pole: its corners, (N, 4, 2), go round the world once."""
        round_pole = np.abs(corners[:, 3, 0] - corners[:, 0, 0]) > turn / 2
        if round_pole.any() and self.crs is not None:
            raise GeoreferenceError(
                f"{int(round_pole.sum())} of the boxes have a pole inside, which four corners in "
                f"{self.crs.name} cannot enclose; keep the raster's CRS, or write .geojson"
            )

    def _refuse_torn(self, corners: NDArray[np.float64], centres: NDArray[np.float64]) -> None:
        """Raise for a box whose corners the output's CRS puts on opposite sides of the world.

        Args:
            corners: (N, 4, 2) in the output's CRS.
            centres: (N, 2) true centres of the same boxes: far from the mean of torn corners.
        """
        diagonals = np.hypot(*(corners[:, 2] - corners[:, 0]).T)
        torn = np.hypot(*(corners.mean(axis=1) - centres).T) > MOST_BENT * diagonals
        if torn.any() and self.crs is not None and self.grid.crs is not None:
            x, y = reproject(centres[torn][0], source=self.crs, target=WGS84)
            raise GeoreferenceError(
                f"the box at longitude {x:.6f}, latitude {y:.6f} lies where {self.crs.name} cuts "
                "the world; choose a CRS made for this region, such as its UTM zone"
            )


def counter_clockwise(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (N, 4, 2) rings so that their signed area is positive, keeping the first corner first.

    Decided ring by ring: rows run down on most grids, up on a south-up one, and either way on a
    mirrored one.
    """
    first, second, third, fourth = np.moveaxis(rings, 1, 0)
    one, two = third - first, fourth - second  # diagonals: their cross product is twice the area
    clockwise = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0] < 0
    return np.where(clockwise[:, None, None], rings[:, [0, 3, 2, 1]], rings)


def _name(crs: pyproj.CRS | None) -> str:
    return "none" if crs is None else str(crs.name)
