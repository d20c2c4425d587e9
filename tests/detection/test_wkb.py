import numpy as np
import shapely

from geo_retina.detection import wkb


def test_rings_are_closed_polygons() -> None:
    rings = np.random.default_rng(0).uniform(-1e6, 1e6, (7, 4, 2))
    read = shapely.from_wkb(wkb.encode(rings).to_pylist())
    np.testing.assert_array_equal(
        shapely.get_coordinates(read).reshape(-1, 5, 2), rings[:, [0, 1, 2, 3, 0]]
    )
    assert set(shapely.get_type_id(read)) == {shapely.GeometryType.POLYGON}


def test_points() -> None:
    points = np.random.default_rng(0).uniform(-1e6, 1e6, (7, 2))
    read = shapely.from_wkb(wkb.encode(points).to_pylist())
    np.testing.assert_array_equal(shapely.get_coordinates(read), points)
    assert set(shapely.get_type_id(read)) == {shapely.GeometryType.POINT}


def test_empty() -> None:
    assert len(wkb.encode(np.zeros((0, 4, 2)))) == 0
    assert len(wkb.encode(np.zeros((0, 2)))) == 0
