import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.detection import features
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject

UTM33 = pyproj.CRS.from_epsg(32633)
GEOD = pyproj.Geod(ellps="WGS84")
NAMES = ("tree", "car")


def utm_grid(gsd: float = 0.1, angle: float = 0.0) -> Grid:
    transform = (
        Affine.translation(500_000, 5_400_000) @ Affine.rotation(angle) @ Affine.scale(gsd, -gsd)
    )
    return Grid(1000, 800, transform, UTM33)


def detections_of(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections.of(np.array(boxes), np.linspace(0.9, 0.3, count), np.zeros(count), 5)


def true_area(grid: Grid, box: np.ndarray) -> float:
    """Geodesic area of a box with divided edges; PROJ gives it to 0.01 m2."""
    x_min, y_min, x_max, y_max = box
    t = np.linspace(0, 1, 20)[:-1]
    x = np.concatenate([x_min + (x_max - x_min) * t, x_max + 0 * t])
    x = np.concatenate([x, x_max - (x_max - x_min) * t, x_min + 0 * t])
    y = np.concatenate([y_min + 0 * t, y_min + (y_max - y_min) * t])
    y = np.concatenate([y, y_max + 0 * t, y_max - (y_max - y_min) * t])
    assert grid.crs is not None
    world = grid.pixel_to_world(np.stack([x, y], axis=-1))
    lon, lat = reproject(world, source=grid.crs, target=WGS84).T
    area, _ = GEOD.polygon_area_perimeter(lon, lat)
    return abs(area)


def test_a_row_says_class_score_window_and_size() -> None:
    found = Detections.of(
        np.array([[10.0, 20, 30, 60], [0, 0, 5, 5]]), np.array([0.25, 0.9]), np.array([1, 0]), 7
    )
    table = features.attributes(found, grid=utm_grid(), class_names=NAMES)
    assert table.schema == features.FIELDS
    row = table.to_pylist()[0]
    assert (row["class"], row["score"], row["window"]) == ("car", 0.25, 7)
    # the scale of UTM on its central meridian is 0.9996
    assert row["width_m"] == pytest.approx(2 / 0.9996, rel=1e-4)
    assert row["height_m"] == pytest.approx(4 / 0.9996, rel=1e-4)
    assert row["area_m2"] == pytest.approx(8 / 0.9996**2, rel=1e-4)


def test_a_float32_score_is_written_as_its_short_decimal() -> None:
    found = Detections.of(np.array([[0.0, 0, 1, 1]]), np.array([0.9], np.float32), np.zeros(1))
    table = features.attributes(found, grid=utm_grid(), class_names=NAMES)
    assert table["score"].to_pylist() == [0.9]


def test_no_window_is_null() -> None:
    found = Detections.of(np.array([[0.0, 0, 1, 1]]), np.ones(1), np.zeros(1))
    table = features.attributes(found, grid=utm_grid(), class_names=NAMES)
    assert table["window"].to_pylist() == [None]


@pytest.mark.parametrize("class_id", [-1, 2])
def test_a_class_id_without_name_is_refused(class_id: int) -> None:
    found = Detections.of(np.array([[0.0, 0, 1, 1]]), np.ones(1), np.array([class_id]))
    with pytest.raises(ValueError, match=r"expected class ids 0\.\.1"):
        features.attributes(found, grid=utm_grid(), class_names=NAMES)


def test_empty_keeps_the_schema() -> None:
    table = features.attributes(Detections.empty(), grid=utm_grid(), class_names=NAMES)
    assert table.num_rows == 0
    assert table.schema == features.FIELDS


class TestIds:
    def test_is_16_hexadecimal_digits_of_the_hash(self) -> None:
        found = detections_of((1, 2, 3, 4), (1, 2, 3, 5))
        table = features.attributes(found, grid=utm_grid(), class_names=NAMES)
        assert table["id"].to_pylist() == [f"{value:016x}" for value in features.ids(found)]

    def test_is_the_same_in_every_version(self) -> None:
        assert f"{features.ids(detections_of((1, 2, 3, 4)))[0]:016x}" == "1e6e143afb8b8668"

    def test_depends_on_class_and_place_only(self) -> None:
        boxes = np.array([[1.0, 2, 3, 4]])
        first = Detections.of(boxes, np.array([0.9]), np.array([1]), 3)
        again = Detections.of(boxes + 0.004, np.array([0.1]), np.array([1]), 8)
        other_class = Detections.of(boxes, np.array([0.9]), np.array([0]), 3)
        assert features.ids(first) == features.ids(again)
        assert features.ids(first) != features.ids(other_class)

    def test_does_not_depend_on_the_company(self) -> None:
        many = detections_of((5, 5, 9, 9), (1, 2, 3, 4), (0, 0, 2, 2))
        assert features.ids(many)[1] == features.ids(detections_of((1, 2, 3, 4)))[0]

    def test_neighbouring_and_swapped_coordinates_differ(self) -> None:
        steps = np.arange(100) / 100
        grid = np.stack(np.meshgrid(steps, steps, steps[:5], steps[:5]), axis=-1).reshape(-1, 4)
        found = Detections.of(grid, np.ones(len(grid)), np.zeros(len(grid)))
        assert len(np.unique(features.ids(found))) == len(grid)


class TestGroundSize:
    @pytest.mark.parametrize(
        ("crs", "origin", "step"),
        [
            ("EPSG:32633", (300_000, 5_400_000), 1.0),
            ("EPSG:4326", (13.0, 60.0), 1e-5),
            ("EPSG:3857", (1_500_000, 8_400_000), 1.0),
            ("EPSG:2263", (980_000, 200_000), 3.0),  # US survey feet
            ("EPSG:3413", (-500_000, -500_000), 1.0),
        ],
    )
    @given(
        corner=st.tuples(st.floats(0, 900), st.floats(0, 700)),
        sides=st.tuples(st.floats(1, 100), st.floats(1, 100)),
        angle=st.sampled_from([0.0, 30.0, 200.0]),
    )
    def test_is_the_geodesic_one(
        self,
        crs: str,
        origin: tuple[float, float],
        step: float,
        corner: tuple[float, float],
        sides: tuple[float, float],
        angle: float,
    ) -> None:
        (x, y), (width, height) = corner, sides
        transform = (
            Affine.translation(*origin)
            @ Affine.rotation(angle)
            @ Affine.shear(10)
            @ Affine.scale(step, -step)
        )
        grid = Grid(1000, 800, transform, pyproj.CRS(crs))
        box = np.array([x, y, x + width, y + height])
        size = features.ground_size(box[None], grid)
        assert size.area_m2[0] == pytest.approx(true_area(grid, box), rel=1e-6, abs=1e-2)
        assert grid.crs is not None
        ends = np.array([[x, y + height / 2], [x + width, y + height / 2]])
        lon, lat = reproject(grid.pixel_to_world(ends), source=grid.crs, target=WGS84).T
        assert size.width_m[0] == pytest.approx(GEOD.line_length(lon, lat), rel=1e-9)

    def test_undoes_the_stretch_of_web_mercator(self) -> None:
        crs = pyproj.CRS.from_epsg(3857)
        grid = Grid(1000, 1000, Affine(1, 0, 0, 0, -1, 8_399_737.89), crs)  # 60 degrees north
        size = features.ground_size(np.array([[0.0, 0, 10, 10]]), grid)
        assert size.width_m[0] == pytest.approx(5.0, rel=0.01)

    def test_is_unknown_without_a_place_on_the_earth(self) -> None:
        boxes = np.array([[0.0, 0, 10, 10]])
        local = pyproj.CRS.from_wkt(
            'LOCAL_CS["pit",LOCAL_DATUM["pit",0],UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
        )
        for crs in (None, local):
            size = features.ground_size(boxes, Grid(100, 100, Affine.identity(), crs))
            assert np.isnan(np.stack(size)).all()
        table = features.attributes(
            detections_of((0, 0, 10, 10)),
            grid=Grid(100, 100, Affine.identity(), None),
            class_names=NAMES,
        )
        assert table["area_m2"].to_pylist() == [None]

    def test_is_unknown_outside_the_area_of_the_crs(self) -> None:
        geostationary = pyproj.CRS("+proj=geos +h=35785831 +lon_0=0 +sweep=y")
        grid = Grid(
            100, 100, Affine.scale(120_000, -120_000) @ Affine.translation(-50, -50), geostationary
        )
        size = features.ground_size(np.array([[0.0, 0, 1, 1], [50, 50, 51, 51]]), grid)
        assert np.isnan(size.area_m2).tolist() == [True, False]

    def test_empty(self) -> None:
        assert features.ground_size(np.zeros((0, 4)), utm_grid()).area_m2.shape == (0,)


class TestGeoDataFrame:
    def test_boxes_become_parallelograms_in_the_rasters_crs(self) -> None:
        grid = utm_grid(angle=30)
        frame = features.to_geodataframe(
            detections_of((10, 20, 30, 60)), grid=grid, class_names=NAMES
        )
        assert frame.crs == UTM33
        corners = np.asarray(frame.geometry[0].exterior.coords)[:4]
        expected = grid.box_corners(np.array([[10.0, 20, 30, 60]]))[0]
        np.testing.assert_allclose(corners, expected[[0, 3, 2, 1]], atol=1e-9)
        assert frame.geometry[0].exterior.is_ccw

    def test_empty_has_every_column_and_the_crs(self) -> None:
        full = features.to_geodataframe(
            detections_of((10, 20, 30, 60)), grid=utm_grid(), class_names=NAMES
        )
        empty = features.to_geodataframe(Detections.empty(), grid=utm_grid(), class_names=NAMES)
        assert len(empty) == 0
        assert empty.crs == full.crs
        assert (empty.dtypes == full.dtypes).all()
