import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.errors import GeoreferenceError
from geo_retina.space.grid import Grid, reproject
from geo_retina.space.windows import Window

UTM = pyproj.CRS.from_epsg(32633)
WGS84 = pyproj.CRS.from_epsg(4326)
LOCAL = 'LOCAL_CS["a building site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'


@st.composite
def transforms(draw: st.DrawFn) -> Affine:
    """Rotated, sheared, north-up and south-up transforms of metres or degrees."""
    pixel = draw(st.sampled_from([0.05, 0.1, 0.3, 10.0, 1e-6]))
    stretch = draw(st.floats(0.2, 5))
    flip = draw(st.sampled_from([1, -1]))
    origin = draw(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e7, 1e7)))
    if pixel == 1e-6:
        origin = origin[0] / 1e4, origin[1] / 1e6
    return (
        Affine.translation(*origin)
        @ Affine.rotation(draw(st.floats(-180, 180)))
        @ Affine.shear(draw(st.floats(-40, 40)), 0)
        @ Affine.scale(pixel, -pixel * stretch * flip)
    )


pixels = st.lists(
    st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1, max_size=5
).map(np.array)


@given(transforms(), pixels)
def test_pixel_to_world_to_pixel_is_the_identity(
    transform: Affine, points: NDArray[np.float64]
) -> None:
    grid = Grid(1000, 1000, transform, UTM)
    back = grid.world_to_pixel(grid.pixel_to_world(points))
    # float64 resolves a world coordinate to 2e-16 of its size: for 5 cm pixels 1e7 m from the
    # origin that is 4e-8 px, an error that rotation and shear can carry into both axes.
    assert np.abs(back - points).max() < 1e-6


@given(transforms(), st.integers(0, 900), st.integers(0, 900))
def test_a_crop_places_its_pixels_where_the_whole_does(
    transform: Affine, col: int, row: int
) -> None:
    grid = Grid(1000, 1000, transform, UTM)
    crop = grid.crop(Window(col, row, 100, 50))
    assert (crop.width, crop.height, crop.crs) == (100, 50, UTM)
    points = np.array([[0.0, 0.0], [3.25, 7.5], [100.0, 50.0]])
    back = grid.world_to_pixel(crop.pixel_to_world(points))
    assert np.abs(back - (points + np.array([col, row]))).max() < 1e-6


@given(transforms(), st.integers(1, 3000), st.integers(1, 3000))
def test_a_resampled_grid_covers_the_same_ground(
    transform: Affine, width: int, height: int
) -> None:
    grid = Grid(1000, 700, transform, UTM)
    other = grid.resample(width=width, height=height)
    ends = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    back = grid.world_to_pixel(other.pixel_to_world(ends))
    assert np.abs(back - ends / (width, height) * (1000, 700)).max() < 1e-5


@given(transforms())
def test_a_box_becomes_a_parallelogram_of_the_right_area(transform: Affine) -> None:
    grid = Grid(1000, 1000, transform, UTM)
    (corners,) = grid.box_corners(np.array([[10.0, 20.0, 40.0, 30.0]]))
    first, second, third, fourth = corners
    pixel = np.sqrt(abs(transform.determinant))
    assert np.abs((second - first) - (third - fourth)).max() < 1e-5 * pixel
    edges = np.stack([second - first, fourth - first])
    assert abs(np.linalg.det(edges)) == pytest.approx(300 * abs(transform.determinant), rel=1e-4)


def test_corners_run_around_the_box() -> None:
    grid = Grid(10, 10, Affine(2, 0, 100, 0, -2, 200), UTM)
    (corners,) = grid.box_corners(np.array([[0.0, 0.0, 3.0, 4.0]]))
    assert corners.tolist() == [[100, 200], [106, 200], [106, 192], [100, 192]]
    assert grid.box_corners(np.zeros((0, 4))).shape == (0, 4, 2)


def test_megapixels_are_millions_of_pixels() -> None:
    assert Grid(4000, 500, Affine.identity(), None).megapixels == 2


def test_a_transform_onto_a_line_or_to_infinity_is_refused() -> None:
    for transform in (Affine(1, 1, 0, 1, 1, 0), Affine(np.nan, 0, 0, 0, 1, 0)):
        with pytest.raises(GeoreferenceError, match="transform"):
            Grid(10, 10, transform, UTM)


@pytest.mark.parametrize("angle", [0, 33, 90, 200])
@pytest.mark.parametrize("flip", [1, -1])
def test_gsd_of_a_metric_grid_is_its_pixel_size_however_it_lies(angle: float, flip: int) -> None:
    # 500 km east is the central meridian of UTM: the scale there is 0.9996
    transform = (
        Affine.translation(500_000, 5_000_000)
        @ Affine.rotation(angle)
        @ Affine.scale(0.3, -0.6 * flip)
    )
    x, y = Grid(100, 100, transform, UTM).gsd_m()
    assert x == pytest.approx(0.3 / 0.9996, rel=1e-4)
    assert y == pytest.approx(0.6 / 0.9996, rel=1e-4)


def test_gsd_of_degrees_shrinks_with_the_cosine_of_latitude() -> None:
    grid = Grid(100, 100, Affine(1e-5, 0, 13.0, 0, -1e-5, 60.0), WGS84)
    x, y = grid.gsd_m()
    assert y == pytest.approx(1.114, abs=0.002)
    assert x == pytest.approx(0.558, abs=0.002)


@pytest.mark.parametrize("turned", [False, True])
def test_gsd_is_that_at_the_centre_of_the_raster(turned: bool) -> None:
    north_up = Affine(0.1, 0, 13.0, 0, -0.1, 80.0)  # down to the equator
    if turned:
        grid = Grid(800, 300, north_up @ Affine(0, 1, 0, 1, 0, 0), WGS84)
    else:
        grid = Grid(300, 800, north_up, WGS84)
    east, north = grid.gsd_m()[::-1] if turned else grid.gsd_m()
    assert east / north == pytest.approx(np.cos(np.radians(40)), rel=0.01)


def test_gsd_of_web_mercator_is_that_of_the_ground() -> None:
    mercator = pyproj.CRS.from_epsg(3857)
    x, _ = Grid(10, 10, Affine(1, 0, 0, 0, -1, 8_399_737.89), mercator).gsd_m()  # 60 degrees north
    assert x == pytest.approx(0.5, abs=0.005)


def test_gsd_needs_a_crs_that_is_tied_to_the_earth() -> None:
    with pytest.raises(GeoreferenceError, match="without CRS"):
        Grid(10, 10, Affine.identity(), None).gsd_m()
    with pytest.raises(GeoreferenceError, match="valid"):
        Grid(10, 10, Affine(1, 0, 1e12, 0, -1, 0), UTM).gsd_m()
    local = Grid(10, 10, Affine.identity(), pyproj.CRS.from_wkt(LOCAL))
    with pytest.raises(GeoreferenceError, match="no operation leads from the CRS a building site"):
        local.gsd_m()
    assert local.known_gsd_m() is None


def test_reproject_maps_there_and_back() -> None:
    points = np.array([[[13.4, 52.5], [15.0, 0.0]]])
    there = reproject(points, source=WGS84, target=UTM)
    assert there.shape == points.shape
    assert there[0, 1] == pytest.approx([500_000, 0], abs=1e-3)
    assert reproject(there, source=UTM, target=WGS84) == pytest.approx(points, abs=1e-9)
