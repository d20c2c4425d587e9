import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.detection import antimeridian


def box_ring(west: float, south: float, east: float, north: float) -> np.ndarray:
    return np.array([[west, south], [east, south], [east, north], [west, north]])


def wrapped(ring: np.ndarray) -> np.ndarray:
    return np.stack([(ring[:, 0] + 180) % 360 - 180, ring[:, 1]], axis=-1)


@given(west=st.floats(-540, 540), width=st.floats(0.001, 100), south=st.floats(-80, 70))
def test_unwrapping_undoes_any_turns(west: float, width: float, south: float) -> None:
    ring = box_ring(west, south, west + width, south + 10)
    unwrapped = antimeridian.unwrap(wrapped(ring)[None])[0]
    assert np.ptp(unwrapped[:, 0]) == pytest.approx(width, abs=1e-9)
    assert -180 <= unwrapped[:, 0].min() < 180
    turns = (unwrapped[:, 0] - ring[:, 0]) / 360
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)


@pytest.mark.parametrize("west", [-180.0, -179.5, 179.0, 179.5])
def test_a_ring_that_begins_near_the_antimeridian_stays_there(west: float) -> None:
    ring = box_ring(west, 0, west + 0.25, 1)
    np.testing.assert_array_equal(antimeridian.unwrap(ring[None])[0], ring)


@pytest.mark.parametrize(
    ("code", "turn"),
    [
        ("EPSG:4326", 360),
        ("EPSG:4807", 400),  # grads
        ("+proj=longlat +ellps=bessel +towgs84=598,73,418", 360),
        ("EPSG:3857", 2 * np.pi * 6_378_137),
        ("EPSG:3832", 2 * np.pi * 6_378_137),  # cut in the Atlantic
        ("+proj=merc +datum=WGS84 +x_0=900000 +units=ft", 2 * np.pi * 6_378_137 / 0.3048),
        ("EPSG:32660", None),
        ("EPSG:3031", None),
        ("EPSG:8857", None),  # the width of the world depends on the latitude
        ('LOCAL_CS["mine",UNIT["metre",1]]', None),
    ],
)
def test_x_goes_round_the_world_in_degrees_and_on_cylinders(code: str, turn: float | None) -> None:
    assert antimeridian.turn_of(pyproj.CRS(code)) == (turn and pytest.approx(turn, rel=1e-9))


def test_ordinary_rings_keep_every_digit() -> None:
    rings = np.random.default_rng(0).uniform(-80, 80, (50, 4, 2))
    np.testing.assert_array_equal(antimeridian.unwrap(rings), rings)
    assert not antimeridian.crossing(rings).any()


@given(west=st.floats(170, 179.9), width=st.floats(0.2, 20), south=st.floats(-80, 70))
def test_cutting_keeps_the_area_and_stays_in_the_world(
    west: float, width: float, south: float
) -> None:
    ring = box_ring(west, south, west + width, south + 1)
    crosses = antimeridian.crossing(ring[None])[0]
    assert crosses == (west + width > 180)
    parts = antimeridian.cut(ring)
    assert len(parts) == 1 + crosses
    assert sum(shapely.Polygon(part).area for part in parts) == pytest.approx(width)
    for part in parts:
        assert np.abs(part[:, 0]).max() <= 180
        assert shapely.LinearRing(part).is_ccw


def test_a_ring_that_ends_on_the_antimeridian_is_whole() -> None:
    ring = antimeridian.unwrap(box_ring(179, 0, 180, 1)[None])
    assert not antimeridian.crossing(ring)[0]


@pytest.mark.parametrize("pole", [90, -90])
def test_a_ring_round_a_pole_is_closed_over_it(pole: int) -> None:
    ring = np.array([[-135.0, 0.9], [-45, 0.9], [45, 0.9], [135, 0.9]]) * [1, pole]
    unwrapped = antimeridian.unwrap(ring[None])
    assert antimeridian.crossing(unwrapped)[0]
    parts = antimeridian.cut(unwrapped[0])
    cap = shapely.union_all([shapely.Polygon(part) for part in parts])
    assert cap.area == pytest.approx(360 * 9)
    assert cap.contains(shapely.Point(10, 0.95 * pole))
    assert not cap.contains(shapely.Point(10, 0.8 * pole))


@pytest.mark.parametrize("pole", [90, -90])
@pytest.mark.parametrize("eastward", [True, False])
def test_a_cap_over_a_pole_ends_where_its_ring_does(pole: int, eastward: bool) -> None:
    corners = [(-135.0, 0.95), (-45, 0.85), (45, 0.95), (135, 0.85)]  # from the pole's latitude
    ring = np.array(corners if eastward else corners[::-1]) * [1, pole]
    parts = antimeridian.cut(antimeridian.unwrap(ring[None])[0])
    cap = shapely.union_all([shapely.Polygon(part) for part in parts])
    assert cap.area == pytest.approx(360 * 9)
    for lon, lat in corners:
        assert cap.contains(shapely.Point(lon, (lat + 0.01) * pole))
        assert not cap.contains(shapely.Point(lon, (lat - 0.01) * pole))
