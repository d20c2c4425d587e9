"""The rules of RFC 7946, section by section."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from geo_retina.detection.vector import PIXEL_NOTE, open_writer
from geo_retina.detection.writers.geojson import decimals_for
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject

UTM33 = pyproj.CRS.from_epsg(32633)
UNREFERENCED = Grid(1000, 800, Affine.identity(), None)


def utm(angle: float = 0, up: int = -1, gsd: float = 0.1) -> Grid:
    transform = (
        Affine.translation(500_000, 5_400_000)
        @ Affine.rotation(angle)
        @ Affine.scale(gsd, up * gsd)
    )
    return Grid(1000, 800, transform, UTM33)


def some(count: int) -> Detections:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 700, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])
    return Detections.of(boxes, rng.uniform(0, 1, count), np.zeros(count), 3)


def text_of(path: Path, found: Detections, grid: Grid, **options: object) -> str:
    with open_writer(path, grid=grid, class_names=["tree"], **options) as writer:
        writer.write(found)
    return path.read_text()


def collection(folder: Path, found: Detections, grid: Grid, **options: object) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text_of(folder / "a.geojson", found, grid, **options))
    return read


def signed_area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


GRIDS = [utm(), utm(33), utm(0, up=1), utm(123, up=1), utm(290)]


@pytest.mark.parametrize("grid", GRIDS)
def test_rings_are_closed_counter_clockwise_and_in_place(tmp_path: Path, grid: Grid) -> None:
    found = some(30)
    read = collection(tmp_path, found, grid)
    assert read["type"] == "FeatureCollection"
    world = reproject(grid.box_corners(found.boxes), source=UTM33, target=WGS84)
    for feature, corners in zip(read["features"], world, strict=True):
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5
        assert ring[0] == ring[-1]
        assert signed_area(np.array(ring)) > 0
        np.testing.assert_allclose(ring[0], corners[0], rtol=0, atol=0.51e-7)
        for corner in corners:
            assert np.abs(np.array(ring) - corner).max(axis=1).min() < 0.51e-7


def test_coordinates_have_seven_decimals_at_most(tmp_path: Path) -> None:
    text = text_of(tmp_path / "a.geojson", some(200), utm(20))
    pairs = re.findall(r"\[(-?\d+\.\d+),(-?\d+\.\d+)\]", text)
    lengths = {len(number.split(".")[1]) for pair in pairs for number in pair}
    assert len(pairs) == 1000
    assert max(lengths) == 7


@pytest.mark.parametrize(("gsd", "decimals"), [(10, 7), (0.1, 7), (0.06, 7), (0.02, 8), (0.001, 9)])
def test_fine_rasters_get_more_decimals(tmp_path: Path, gsd: float, decimals: int) -> None:
    assert decimals_for(gsd / 111_320) == decimals
    grid = utm(20, gsd=gsd)
    found = some(30)
    read = collection(tmp_path, found, grid)
    rings = np.array([feature["geometry"]["coordinates"][0][0] for feature in read["features"]])
    pixels = grid.world_to_pixel(reproject(rings, source=WGS84, target=UTM33))
    assert np.abs(pixels - found.boxes[:, :2]).max() < 0.12


def test_no_crs_member_and_metadata_in_one_foreign_member(tmp_path: Path) -> None:
    metadata = {"model": "trees", "options": {"score": 0.3}, "größe": [1, 2]}
    read = collection(tmp_path, some(2), utm(), metadata=metadata)
    assert set(read) == {"type", "geo_retina", "features"}
    assert read["geo_retina"] == metadata


def test_a_feature_has_an_id_and_all_properties(tmp_path: Path) -> None:
    feature = collection(tmp_path, some(1), utm())["features"][0]
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert feature["id"] == feature["properties"]["id"]
    names = ["id", "class", "score", "window", "area_m2", "width_m", "height_m"]
    assert list(feature["properties"]) == names


def test_awkward_class_names_survive(tmp_path: Path) -> None:
    name = 'Bär "100 %d" \\ \n'
    path = tmp_path / "a.geojson"
    with open_writer(path, grid=utm(), class_names=[name]) as writer:
        writer.write(some(1))
    assert json.loads(path.read_text())["features"][0]["properties"]["class"] == name


def test_unknown_values_are_null(tmp_path: Path) -> None:
    found = Detections.of(np.array([[1.0, 2, 3, 4]]), np.ones(1), np.zeros(1))
    read = collection(tmp_path, found, UNREFERENCED)
    properties = read["features"][0]["properties"]
    assert properties["window"] is None
    assert properties["area_m2"] is None


def test_empty_is_a_collection_without_features(tmp_path: Path) -> None:
    read = collection(tmp_path, Detections.empty(), utm(), metadata={"model": "trees"})
    assert read == {
        "type": "FeatureCollection",
        "geo_retina": {"model": "trees"},
        "features": [],
    }


def test_pixel_coordinates_say_what_they_are(tmp_path: Path) -> None:
    found = Detections.of(np.array([[1.25, 2, 3, 4]]), np.ones(1), np.zeros(1))
    read = collection(tmp_path, found, UNREFERENCED)
    assert read["geo_retina"]["coordinates"] == PIXEL_NOTE
    assert read["features"][0]["geometry"]["coordinates"] == [
        [[1.25, 2], [3, 2], [3, 4], [1.25, 4], [1.25, 2]]
    ]


@pytest.mark.parametrize(
    ("extension", "prefix"), [("geojsonl", ""), ("ndjson", ""), ("geojsonseq", "\x1e")]
)
def test_sequences_hold_one_feature_a_line(tmp_path: Path, extension: str, prefix: str) -> None:
    found = some(5)
    text = text_of(tmp_path / f"a.{extension}", found, utm())
    whole = collection(tmp_path, found, utm())
    lines = text.split("\n")
    assert lines.pop() == ""
    assert all(line.startswith(prefix + "{") for line in lines)
    assert [json.loads(line.removeprefix(prefix)) for line in lines] == whole["features"]
    assert text_of(tmp_path / f"b.{extension}", Detections.empty(), utm()) == ""


class TestAntimeridian:
    """Section 3.1.9: geometry that crosses the antimeridian is cut in two."""

    grid = Grid(2000, 2000, Affine(100, 0, 750_000, 0, -100, 100_000), pyproj.CRS.from_epsg(32660))

    def test_a_crossing_box_is_cut(self, tmp_path: Path) -> None:
        west, south = 179.9, 0.1
        corner = reproject(np.array([[west, south]]), source=WGS84, target=self.grid.crs)
        x, y = self.grid.world_to_pixel(corner)[0]
        boxes = np.array([[x, y, x + 400, y + 100], [x - 200, y, x - 150, y + 50]])
        found = Detections.of(boxes, np.ones(2), np.zeros(2), 1)
        crossing, west_of_it = collection(tmp_path, found, self.grid)["features"]
        assert west_of_it["geometry"]["type"] == "Polygon"
        assert crossing["geometry"]["type"] == "MultiPolygon"
        shape = shapely.geometry.shape(crossing["geometry"])
        assert shape.is_valid
        west_part, east_part = sorted(shape.geoms, key=lambda part: -part.bounds[0])
        assert west_part.bounds[2] == 180
        assert east_part.bounds[0] == -180
        for polygon in crossing["geometry"]["coordinates"]:
            assert polygon[0][0] == polygon[0][-1]
            assert signed_area(np.array(polygon[0])) > 0
        whole = west_part.union(shapely.affinity.translate(east_part, 360))
        corners = reproject(self.grid.box_corners(boxes[:1]), source=self.grid.crs, target=WGS84)[0]
        expected = shapely.Polygon(np.stack([corners[:, 0] % 360, corners[:, 1]], axis=-1))
        assert whole.symmetric_difference(expected).area < 1e-5 * expected.area

    def test_a_part_too_narrow_to_write_is_left_out(self, tmp_path: Path) -> None:
        grid = Grid(100, 100, Affine(1e-5, 0, 179.9995, 0, -1e-5, 0), WGS84)
        boxes = np.array([[20.0, 20, 50.002, 40], [49.998, 20, 60, 40], [20, 20, 51, 40]])
        found = Detections.of(boxes, np.ones(3), np.zeros(3), 1)
        shapes = [one["geometry"] for one in collection(tmp_path, found, grid)["features"]]
        assert [one["type"] for one in shapes] == ["Polygon", "Polygon", "MultiPolygon"]
        assert shapely.geometry.shape(shapes[0]).bounds == (179.9997, -0.0004, 180, -0.0002)
        assert shapely.geometry.shape(shapes[1]).bounds == (-180, -0.0004, -179.9999, -0.0002)

    def test_a_raster_in_longitudes_from_0_to_360(self, tmp_path: Path) -> None:
        grid = Grid(3600, 1800, Affine(0.1, 0, 0, 0, -0.1, 90), WGS84)
        boxes = np.array([[2000.0, 900, 2010, 910], [1795, 900, 1805, 910], [10, 900, 20, 910]])
        found = Detections.of(boxes, np.ones(3), np.zeros(3), 1)
        beyond, on_it, before = collection(tmp_path, found, grid)["features"]
        assert shapely.geometry.shape(beyond["geometry"]).bounds == (-160, -1, -159, 0)
        assert on_it["geometry"]["type"] == "MultiPolygon"
        assert shapely.geometry.shape(on_it["geometry"]).area == pytest.approx(1)
        assert shapely.geometry.shape(before["geometry"]).bounds == (1, -1, 2, 0)

    def test_points_stay_in_the_world(self, tmp_path: Path) -> None:
        grid = Grid(3600, 1800, Affine(0.1, 0, 0, 0, -0.1, 90), WGS84)
        found = Detections.of(np.array([[2000.0, 900, 2010, 910]]), np.ones(1), np.zeros(1), 1)
        read = collection(tmp_path, found, grid, geometry="point")
        assert read["features"][0]["geometry"] == {"type": "Point", "coordinates": [-159.5, -0.5]}

    def test_a_box_on_the_pole_covers_it(self, tmp_path: Path) -> None:
        grid = Grid(1000, 1000, Affine(10, 0, -5000, 0, -10, 5000), pyproj.CRS.from_epsg(3031))
        found = Detections.of(np.array([[490.0, 490, 520, 520]]), np.ones(1), np.zeros(1), 1)
        geometry = collection(tmp_path, found, grid)["features"][0]["geometry"]
        shape = shapely.geometry.shape(geometry)
        west, south, east, north = shape.bounds
        assert (west, south, east) == (-180, -90, 180)
        assert -90 < north < -89.9
        assert shape.is_valid
