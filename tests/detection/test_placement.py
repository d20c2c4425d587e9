import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.detection.placement import Placement, counter_clockwise
from geo_retina.errors import GeoreferenceError
from geo_retina.space.grid import Grid, reproject

UTM33 = pyproj.CRS.from_epsg(32633)
WEB = pyproj.CRS.from_epsg(3857)


def signed_area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


transforms = st.builds(
    lambda angle, shear, x, y, up: (
        Affine.translation(400_000, 5_400_000)
        @ Affine.rotation(angle)
        @ Affine.shear(shear)
        @ Affine.scale(x, y if up else -y)
    ),
    st.floats(0, 360),
    st.floats(-40, 40),
    st.floats(0.05, 2),
    st.floats(0.05, 2),
    st.booleans(),
)


@given(transform=transforms, crs=st.sampled_from([UTM33, WEB, pyproj.CRS.from_epsg(4326)]))
def test_rings_are_counter_clockwise_and_in_place_on_any_grid(
    transform: Affine, crs: pyproj.CRS
) -> None:
    grid = Grid(1000, 800, transform, UTM33)
    boxes = np.array([[3.25, 4.5, 30, 21], [900, 700, 1000, 800]])
    rings = Placement(grid, crs).corners(boxes)
    expected = reproject(grid.box_corners(boxes), source=UTM33, target=crs)
    for ring, corners in zip(rings, expected, strict=True):
        assert signed_area(ring) > 0
        np.testing.assert_array_equal(ring[0], corners[0])
        assert {tuple(corner) for corner in ring} == {tuple(corner) for corner in corners}


@pytest.mark.parametrize("angle", [0, 33, 90])
@pytest.mark.parametrize("sides", [(0.5, -0.25), (0.25, 0.5)])
def test_the_finest_step_is_the_shorter_side_of_a_pixel(
    angle: float, sides: tuple[float, float]
) -> None:
    place = Affine.translation(500_000, 5_400_000) @ Affine.rotation(angle) @ Affine.scale(*sides)
    grid = Grid(100, 100, place, UTM33)
    assert Placement(grid, UTM33).finest_step() == pytest.approx(0.25)
    assert Placement.in_pixels(grid).finest_step() == 1


def test_centres_are_those_of_the_boxes() -> None:
    grid = Grid(100, 100, Affine(2, 0, 1000, 0, -2, 2000), UTM33)
    centres = Placement(grid, UTM33).centres(np.array([[0.0, 0, 10, 20]]))
    np.testing.assert_array_equal(centres, [[1010, 1980]])


def test_pixels_are_left_alone() -> None:
    grid = Grid(100, 100, Affine(2, 0, 1000, 0, -2, 2000), UTM33)
    placement = Placement.in_pixels(grid)
    assert placement.crs is None
    np.testing.assert_array_equal(
        placement.corners(np.array([[1.0, 2, 3, 5]])), [[[1, 2], [3, 2], [3, 5], [1, 5]]]
    )


def test_a_box_on_the_antimeridian_stays_in_one_piece() -> None:
    grid = Grid(100, 100, Affine(1000, 0, 800_000, 0, -1000, 0), pyproj.CRS.from_epsg(32660))
    rings = Placement(grid, pyproj.CRS.from_epsg(4326)).corners(np.array([[0.0, 0, 100, 100]]))
    assert np.ptp(rings[0, :, 0]) < 2
    assert rings[0, :, 0].max() > 180


@pytest.mark.parametrize("code", ["EPSG:3857", "EPSG:6933", "EPSG:4087", "+proj=merc +x_0=9e5"])
def test_a_box_on_the_antimeridian_stays_in_one_piece_where_x_goes_round(code: str) -> None:
    utm60, target = pyproj.CRS.from_epsg(32660), pyproj.CRS(code)
    grid = Grid(300, 200, Affine(0.1, 0, 833_965, 0, -0.1, 1000), utm60)
    boxes = np.array([[120.0, 100, 150, 120], [20, 20, 40, 40], [260, 20, 280, 40]])
    rings = Placement(grid, target).corners(boxes)
    assert np.ptp(rings[..., 0], axis=1) == pytest.approx([3, 2, 2], rel=0.2)
    assert all(signed_area(ring) > 0 for ring in rings)
    back = reproject(rings[0], source=target, target=utm60)
    np.testing.assert_allclose(sorted(back[:, 0]), [833_977, 833_977, 833_980, 833_980], atol=1e-3)


@pytest.mark.parametrize("code", ["EPSG:8857", "ESRI:54009", "ESRI:54030"])
def test_a_box_that_the_crs_tears_apart_is_refused(code: str) -> None:
    grid = Grid(300, 200, Affine(0.1, 0, 833_965, 0, -0.1, 1000), pyproj.CRS.from_epsg(32660))
    placement = Placement(grid, pyproj.CRS(code))
    assert placement.corners(np.array([[20.0, 20, 40, 40], [260, 20, 280, 40]])).shape == (2, 4, 2)
    with pytest.raises(GeoreferenceError, match=r"longitude -?180\.0000.* cuts the world"):
        placement.corners(np.array([[20.0, 20, 40, 40], [120, 100, 150, 120]]))


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:3857", "EPSG:4087"])
def test_a_box_round_a_pole_that_four_corners_cannot_enclose_is_refused(code: str) -> None:
    polar = Grid(100, 100, Affine(10, 0, -500, 0, -10, 500), pyproj.CRS.from_epsg(3413))
    target = pyproj.CRS(code)
    beside, around = np.array([[10.0, 10, 20, 20]]), np.array([[40.0, 40, 61, 62]])
    assert Placement(polar, target).corners(beside).shape == (1, 4, 2)
    assert Placement(polar, target).centres(around).shape == (1, 2)
    assert Placement(polar, polar.crs).corners(around).shape == (1, 4, 2)
    assert Placement(polar, target, closes_poles=True).corners(around).shape == (1, 4, 2)
    with pytest.raises(GeoreferenceError, match=r"1 of the boxes have a pole inside.*\.geojson"):
        Placement(polar, target).corners(np.vstack([beside, around]))


def test_a_missing_crs_on_one_side_is_refused() -> None:
    grid = Grid(10, 10, Affine.identity(), None)
    with pytest.raises(GeoreferenceError, match="cannot place a raster with CRS none"):
        Placement(grid, UTM33)


def test_a_box_without_a_place_in_the_crs_is_refused() -> None:
    lon_lat = pyproj.CRS.from_epsg(4326)
    grid = Grid(10, 10, Affine(1, 0, 0, 0, -1, 95), lon_lat)
    with pytest.raises(GeoreferenceError, match="has no place in"):
        Placement(grid, WEB).corners(np.array([[0.0, 0, 1, 1]]))


def test_turning_keeps_the_first_corner() -> None:
    clockwise = np.array([[[0.0, 1], [1, 1], [1, 0], [0, 0]]])
    np.testing.assert_array_equal(
        counter_clockwise(clockwise), [[[0.0, 1], [0, 0], [1, 0], [1, 1]]]
    )


def test_empty() -> None:
    grid = Grid(10, 10, Affine(1, 0, 0, 0, -1, 0), UTM33)
    for placement in (Placement(grid, WEB), Placement(grid, UTM33), Placement.in_pixels(grid)):
        assert placement.corners(np.zeros((0, 4))).shape == (0, 4, 2)
        assert placement.centres(np.zeros((0, 4))).shape == (0, 2)


def test_a_crs_that_no_operation_leads_to_is_refused_at_once() -> None:
    local = pyproj.CRS.from_wkt('LOCAL_CS["mine",UNIT["metre",1]]')
    grid = Grid(10, 10, Affine(0.1, 0, 5, 0, -0.1, 5), local)
    Placement(grid, local)
    with pytest.raises(GeoreferenceError, match="no operation leads from the CRS mine"):
        Placement(grid, pyproj.CRS.from_epsg(3857))
