"""What is particular to GeoPackage, FlatGeobuf, GeoParquet, Shapefile, CSV and COCO."""

import csv
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
from affine import Affine
from pyproj.crs import BoundCRS
from pyproj.crs.coordinate_operation import ToWGS84Transformation

from geo_retina.detection.formats import FLATGEOBUF
from geo_retina.detection.placement import Placement
from geo_retina.detection.vector import open_writer
from geo_retina.detection.writers import geoparquet, ogr
from geo_retina.detection.writers.layer import Layer
from geo_retina.errors import OutputError
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject

UTM33 = pyproj.CRS.from_epsg(32633)
GRID = Grid(1000, 800, Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000), UTM33)
METADATA = {"model": "trees", "score": 0.3, "raster": "a.tif"}


def some(count: int) -> Detections:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 700, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])
    return Detections.of(boxes, rng.uniform(0, 1, count), np.arange(count) % 2, 3)


def write(path: Path, found: Detections, **options: object) -> Path:
    arguments: dict[str, Any] = {"grid": GRID, "class_names": ["tree", "car"], "metadata": METADATA}
    with open_writer(path, **(arguments | options)) as writer:
        writer.write(found)
    return path


class TestGeoPackage:
    def test_has_a_spatial_index_and_the_metadata(self, tmp_path: Path) -> None:
        path = write(tmp_path / "trees.gpkg", some(9))
        info = pyogrio.read_info(path)
        assert info["layer_name"] == "trees"
        assert info["geometry_type"] == "Polygon"
        assert info["capabilities"]["fast_spatial_filter"]
        assert info["layer_metadata"] == {"model": "trees", "score": "0.3", "raster": "a.tif"}

    def test_is_a_sound_database(self, tmp_path: Path) -> None:
        with sqlite3.connect(write(tmp_path / "a.gpkg", some(9))) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
            assert database.execute("select count(*) from a").fetchone() == (9,)


class TestFlatGeobuf:
    def test_has_a_spatial_index_and_the_metadata(self, tmp_path: Path) -> None:
        info = pyogrio.read_info(write(tmp_path / "a.fgb", some(9)))
        assert info["capabilities"]["fast_spatial_filter"]
        assert info["layer_metadata"]["model"] == "trees"

    def test_leaves_the_index_out_where_it_would_not_fit_in_memory(self, tmp_path: Path) -> None:
        assert FLATGEOBUF.open_sink.keywords["driver"].most_rows_indexed == 1_000_000
        layer = Layer("a", GRID, ("tree", "car"), {}, Placement(GRID, UTM33), "polygon")
        driver = ogr.Driver("FlatGeobuf", most_rows_indexed=8)
        for count, indexed in ((8, True), (9, False)):
            path = tmp_path / f"{count}.fgb"
            sink = ogr.OgrSink(path, layer, driver=driver)
            sink.write(some(count))
            sink.close()
            info = pyogrio.read_info(path)
            assert info["features"] == count
            assert info["capabilities"]["fast_spatial_filter"] == indexed


@pytest.mark.parametrize("extension", ["gpkg", "fgb", "shp"])
@pytest.mark.parametrize(
    "crs",
    [
        "+proj=utm +zone=15 +datum=NAD83 +units=us-ft",
        "+proj=utm +zone=33 +datum=WGS84 +units=km",
        "+proj=tmerc +lon_0=15 +k=0.9996 +x_0=500000 +datum=WGS84 +units=ft",
    ],
)
def test_a_crs_in_feet_is_not_taken_for_the_utm_zone_in_metres(
    tmp_path: Path, crs: str, extension: str
) -> None:
    stated = pyproj.CRS(crs)
    path = write(tmp_path / f"a.{extension}", some(2), grid=replace(GRID, crs=stated))
    read = pyproj.CRS(pyogrio.read_info(path)["crs"])
    point = np.array([[500.0, 5400]])
    places = [reproject(point, source=one, target=WGS84) for one in (read, stated)]
    np.testing.assert_allclose(*places, atol=1e-9)


def test_longitudes_from_paris_are_not_taken_for_those_from_greenwich(tmp_path: Path) -> None:
    stated = pyproj.CRS("+proj=utm +zone=31 +datum=WGS84 +pm=paris")
    grid = replace(GRID, crs=stated)
    for extension in ("gpkg", "fgb"):
        path = write(tmp_path / f"a.{extension}", some(2), grid=grid)
        read = pyproj.CRS(pyogrio.read_info(path)["crs"])
        point = np.array([[500_000.0, 5_400_000]])
        places = [reproject(point, source=one, target=WGS84) for one in (read, stated)]
        np.testing.assert_allclose(*places, atol=1e-7)


@pytest.mark.parametrize("extension", ["gpkg", "fgb"])
@pytest.mark.parametrize("code", ["EPSG:31467", "EPSG:4314", "EPSG:32633"])
def test_the_datum_shift_of_a_crs_is_kept(tmp_path: Path, extension: str, code: str) -> None:
    base, shift = pyproj.CRS(code), [500, 74, 418, 0.2, 0.05, -2.5, 6.7]
    stated = BoundCRS(base, "EPSG:4326", ToWGS84Transformation(base.geodetic_crs, *shift))
    place = Affine(1e-5, 0, 9, 0, -1e-5, 50) if base.is_geographic else GRID.transform
    grid = Grid(1000, 800, place, stated)
    path = write(tmp_path / f"a.{extension}", some(2), grid=grid)
    read = pyproj.CRS(pyogrio.read_info(path)["crs"])
    point = grid.pixel_to_world(np.array([[500.0, 400]]))
    places = [reproject(point, source=one, target=WGS84) for one in (read, stated)]
    np.testing.assert_allclose(*places, atol=1e-7)


class TestGeoParquet:
    def geo(self, path: Path) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[b"geo"])
        return read

    def test_metadata_follow_version_1_1(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet", some(9))
        geo = self.geo(path)
        assert geo["version"] == "1.1.0"
        column = geo["columns"][geo["primary_column"]]
        assert column["encoding"] == "WKB"
        assert column["geometry_types"] == ["Polygon"]
        assert column["orientation"] == "counterclockwise"
        assert pyproj.CRS.from_json_dict(column["crs"]) == UTM33
        corners = GRID.box_corners(some(9).boxes).reshape(-1, 2)
        assert column["bbox"] == [*corners.min(axis=0), *corners.max(axis=0)]
        assert json.loads(pq.read_metadata(path).metadata[b"geo_retina"]) == METADATA

    def test_rows_carry_their_bounds(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet", some(9))
        bounds = pq.read_table(path)["bbox"].to_pylist()
        corners = GRID.box_corners(some(9).boxes)
        assert [row["xmin"] for row in bounds] == corners[..., 0].min(axis=1).tolist()
        assert [row["ymax"] for row in bounds] == corners[..., 1].max(axis=1).tolist()

    def test_no_crs_is_null_not_left_out(self, tmp_path: Path) -> None:
        grid = Grid(1000, 800, Affine.identity(), None)
        geo = self.geo(write(tmp_path / "a.parquet", some(2), grid=grid))
        assert geo["columns"]["geometry"]["crs"] is None
        empty = self.geo(write(tmp_path / "b.parquet", some(0)))
        assert "bbox" not in empty["columns"]["geometry"]

    def test_row_groups_do_not_follow_the_calls(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(geoparquet, "ROWS_PER_GROUP", 10)
        path = tmp_path / "a.parquet"
        with open_writer(path, grid=GRID, class_names=["tree", "car"]) as writer:
            for count in (3, 0, 25, 4):
                writer.write(some(count))
        read = pq.read_metadata(path)
        groups = [read.row_group(index).num_rows for index in range(read.num_row_groups)]
        assert groups == [10, 10, 10, 2]
        windows = pq.read_table(path)["score"].to_numpy()
        scores = np.concatenate([some(count).scores for count in (3, 25, 4)])
        np.testing.assert_allclose(windows, scores, atol=1e-6)


class TestShapefile:
    def test_field_names_are_whole(self, tmp_path: Path) -> None:
        info = pyogrio.read_info(write(tmp_path / "a.shp", some(2)))
        names = ["id", "class", "score", "window", "area_m2", "width_m", "height_m"]
        assert info["fields"].tolist() == names
        assert info["encoding"] == "UTF-8"

    @pytest.mark.parametrize(
        ("crs", "said"),
        [
            ("+proj=tmerc +lon_0=15 +x_0=500000 +ellps=bessel +towgs84=565,50,465", "m off its"),
            (
                "EPSG:9311",
                "m off its place.* the projection of",
            ),  # on a sphere
            ("EPSG:8044", "m off its place.* the projection of"),  # its x counts to the south
            ("+proj=ob_tran +o_proj=longlat +o_lat_p=30 +o_lon_p=0 +lon_0=10", "no words"),
            ("EPSG:5225", "no words"),
            ("+proj=isea", "no words"),
        ],
    )
    def test_a_crs_that_a_prj_cannot_hold_is_refused(
        self, tmp_path: Path, crs: str, said: str
    ) -> None:
        with pytest.raises(OutputError, match=rf"a\.shp .*{said}.*write \.gpkg"):
            open_writer(tmp_path / "a.shp", grid=GRID, class_names=["tree"], crs=crs)
        open_writer(tmp_path / "a.gpkg", grid=GRID, class_names=["tree"], crs=crs)

    @pytest.mark.parametrize(
        "crs",
        [
            "+proj=utm +zone=33 +ellps=WGS84 +towgs84=0,0,0",
            'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]',
        ],
    )
    def test_other_crs_without_a_code_are_written(self, tmp_path: Path, crs: str) -> None:
        grid = replace(GRID, crs=pyproj.CRS(crs))
        path = write(tmp_path / "a.shp", some(2), grid=grid)
        assert path.with_suffix(".prj").exists()


class TestCsv:
    def test_is_plain(self, tmp_path: Path) -> None:
        found = Detections.of(np.array([[0.0, 0, 10, 20]]), np.array([0.5]), np.zeros(1))
        path = write(tmp_path / "a.csv", found, class_names=['a "b", c', "d"])
        header, row = csv.reader(path.read_text().splitlines())
        assert header == ["id", "class", "score", "window", "area_m2", "width_m", "height_m", "WKT"]
        assert row[1:4] == ['a "b", c', "0.5", ""]
        assert row[-1] == (
            "POLYGON ((500000.0 5400000.0, 500000.0 5399998.0, 500001.0 5399998.0, "
            "500001.0 5400000.0, 500000.0 5400000.0))"
        )
        assert b"\r" not in path.read_bytes()

    @pytest.mark.parametrize(("crs", "names"), [(None, ["x", "y"]), ("EPSG:4326", ["lon", "lat"])])
    def test_points_have_columns_of_coordinates(
        self, tmp_path: Path, crs: str | None, names: list[str]
    ) -> None:
        path = write(tmp_path / "a.csv", some(3), geometry="point", crs=crs)
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert list(rows[0])[-3:] == [*names, "WKT"]
        for row in rows:
            assert row["WKT"] == f"POINT ({row[names[0]]} {row[names[1]]})"


class TestCoco:
    def test_boxes_are_pixels(self, tmp_path: Path) -> None:
        found = Detections.of(
            np.array([[1.5, 2, 11.5, 22], [0, 0, 5, 5]]), np.array([0.5, 0.25]), np.array([1, 0])
        )
        read = json.loads(write(tmp_path / "a.coco.json", found).read_text())
        assert read["info"] == METADATA
        assert read["images"] == [{"id": 1, "file_name": "a.tif", "width": 1000, "height": 800}]
        assert read["categories"] == [{"id": 1, "name": "tree"}, {"id": 2, "name": "car"}]
        first, second = read["annotations"]
        assert first["bbox"] == [1.5, 2, 10, 20]
        assert (first["id"], first["image_id"], first["category_id"]) == (1, 1, 2)
        assert (first["area"], first["score"], first["iscrowd"]) == (200, 0.5, 0)
        assert (second["id"], second["category_id"]) == (2, 1)

    def test_empty(self, tmp_path: Path) -> None:
        read = json.loads(write(tmp_path / "a.coco.json", some(0)).read_text())
        assert read["annotations"] == []
        assert len(read["categories"]) == 2
