import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from geo_retina.labels.ground import footprint
from geo_retina.space.grid import Grid


@pytest.mark.parametrize(
    ("west", "width", "expected"),
    [(-180, 3600, (-180, 180)), (-100, 2000, (-100, 100)), (170, 200, (170, 190))],
)
def test_a_footprint_is_as_wide_as_the_raster(
    west: float, width: int, expected: tuple[float, float]
) -> None:
    grid = Grid(width, 200, Affine(0.1, 0, west, 0, -0.1, 10), CRS.from_epsg(4326))
    bounds = footprint(grid, None).bounds
    np.testing.assert_allclose(bounds, (expected[0], -10, expected[1], 10))


def test_a_footprint_across_the_antimeridian_goes_on_beyond_180() -> None:
    grid = Grid(2000, 1000, Affine(100, 0, 600_000, 0, -100, 7_000_000), CRS.from_epsg(32660))
    west, _, east, _ = footprint(grid, None).bounds
    assert 178 < west < 180 < east < 184
