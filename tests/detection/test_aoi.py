import json
import os
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import translate
from windows_paths import WindowsPath

from geo_retina.detection import aoi_file
from geo_retina.detection.aoi import Aoi, read_aoi
from geo_retina.errors import AoiError, LabelError
from geo_retina.labels.features import read_features
from geo_retina.space.grid import Grid, reproject
from geo_retina.space.windows import Window

UTM33 = pyproj.CRS.from_epsg(32633)
LON_LAT = pyproj.CRS.from_epsg(4326)
GRID = Grid(1000, 800, Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000), UTM33)
ROTATED = Grid(
    1000,
    800,
    Affine.translation(500_000, 5_400_000) @ Affine.rotation(33) @ Affine.scale(0.5, -0.5),
    UTM33,
)


def write(path: Path, shapes: list[shapely.Geometry], crs: pyproj.CRS | None) -> Path:
    gpd.GeoDataFrame(geometry=shapes, crs=crs).to_file(path)
    return path


def world(grid: Grid, pixels: shapely.Geometry, crs: pyproj.CRS) -> shapely.Geometry:
    """A pixel geometry as polygons of a CRS, edges divided."""
    fine = shapely.segmentize(pixels, 1)
    assert grid.crs is not None
    source = grid.crs
    return shapely.transform(
        fine, lambda xy: reproject(grid.pixel_to_world(xy), source=source, target=crs)
    )


@pytest.mark.parametrize("grid", [GRID, ROTATED])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857", "EPSG:3035"])
@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb"])
def test_polygons_come_into_the_pixel_frame(
    tmp_path: Path, grid: Grid, crs: str, name: str
) -> None:
    shape = shapely.Polygon(
        [(100, 100), (900, 150), (500, 700)], [[(450, 250), (550, 250), (500, 350)]]
    )
    path = write(tmp_path / name, [world(grid, shape, pyproj.CRS(crs))], pyproj.CRS(crs))
    aoi = read_aoi(path, grid)
    assert aoi.geometry.hausdorff_distance(shape) < 0.01
    assert aoi.geometry.area == pytest.approx(shape.area, rel=1e-4)


def test_geojson_is_longitude_and_latitude(tmp_path: Path) -> None:
    shape = shapely.box(10, 20, 300, 400)
    ring = shapely.get_coordinates(world(GRID, shape, LON_LAT)).tolist()
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    assert read_aoi(path, GRID).geometry.hausdorff_distance(shape) < 0.01


def test_several_polygons_are_one_aoi(tmp_path: Path) -> None:
    shapes = [
        shapely.box(0, 0, 100, 100),
        shapely.box(50, 0, 200, 100),
        shapely.box(500, 500, 600, 600),
    ]
    path = write(tmp_path / "a.gpkg", [world(GRID, shape, UTM33) for shape in shapes], UTM33)
    assert read_aoi(path, GRID).geometry.area == pytest.approx(200 * 100 + 100 * 100)


def test_lines_and_points_are_passed_over(tmp_path: Path) -> None:
    shapes = [shapely.Point(0, 0), shapely.LineString([(0, 0), (9, 9)]), shapely.box(5, 5, 25, 25)]
    path = write(tmp_path / "a.geojson", [world(GRID, shape, LON_LAT) for shape in shapes], LON_LAT)
    assert read_aoi(path, GRID).geometry.area == pytest.approx(400, rel=1e-4)


def test_a_bow_tie_is_repaired_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bow_tie = shapely.Polygon([(100, 100), (200, 200), (200, 100), (100, 200)])
    path = write(tmp_path / "a.gpkg", [shapely.transform(bow_tie, GRID.pixel_to_world)], UTM33)
    aoi = read_aoi(path, GRID)
    assert aoi.geometry.is_valid
    assert aoi.geometry.area == pytest.approx(5000)
    assert "a.gpkg: 1 of 1 shapes cross or touch themselves (Self-intersection" in caplog.text
    assert "were repaired" in caplog.text


def test_sound_polygons_give_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shape = world(GRID, shapely.box(5, 5, 25, 25), UTM33)
    read_aoi(write(tmp_path / "a.gpkg", [shape], UTM33), GRID)
    assert not caplog.records


def test_a_centre_on_the_edge_is_inside() -> None:
    aoi = Aoi(shapely.box(0, 0, 100, 100))
    boxes = np.array([[90.0, 0, 109, 10], [90, 0, 110, 10], [90, 0, 111, 10]])
    assert aoi.contains_centres(boxes).tolist() == [True, True, False]


def test_a_long_edge_keeps_its_course_in_the_files_crs(tmp_path: Path) -> None:
    # a parallel of latitude is straight in degrees and bent in UTM
    grid = Grid(10_000, 10_000, Affine(10, 0, 450_000, 0, -10, 6_700_000), UTM33)
    path = write(tmp_path / "a.gpkg", [shapely.box(10, 60, 20, 70)], LON_LAT)
    aoi = read_aoi(path, grid)
    lon = np.linspace(14.2, 15.8, 101)
    edge = grid.world_to_pixel(
        reproject(np.stack([lon, np.full_like(lon, 60)], axis=-1), source=LON_LAT, target=UTM33)
    )
    bend = edge[:, 1].max() - edge[:, 1].min()
    assert bend > 20
    distance = shapely.distance(shapely.points(edge), aoi.geometry.boundary)
    assert distance.max() < 0.1


def test_an_aoi_far_larger_than_the_rasters_crs_is_cut_to_the_raster(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [shapely.box(-180, -90, 180, 90)], LON_LAT)
    assert read_aoi(path, GRID).geometry.area == pytest.approx(1000 * 800)


def test_an_aoi_on_the_antimeridian_meets_a_raster_there(tmp_path: Path) -> None:
    grid = Grid(1000, 1000, Affine(100, 0, 800_000, 0, -100, 100_000), pyproj.CRS.from_epsg(32660))
    halves = [shapely.box(179, -5, 180, 5), shapely.box(-180, -5, -179, 5)]
    cut = read_aoi(write(tmp_path / "cut.gpkg", halves, LON_LAT), grid)
    beyond = read_aoi(write(tmp_path / "on.gpkg", [shapely.box(179, -5, 181, 5)], LON_LAT), grid)
    assert cut.geometry.area == pytest.approx(1000 * 1000, rel=1e-6)
    assert beyond.geometry.area == pytest.approx(1000 * 1000, rel=1e-6)


@pytest.mark.parametrize(
    "crs", ["EPSG:4326", "EPSG:4269", "OGC:CRS84", "EPSG:4979", "EPSG:3832", "EPSG:3857"]
)
@pytest.mark.parametrize("west", [179.9995, -180.0005, 190, 359.9995, -190, 12])
@pytest.mark.parametrize("turned", [False, True])
def test_degrees_may_be_counted_from_any_turn(
    tmp_path: Path, west: float, crs: str, *, turned: bool
) -> None:
    """The raster goes past 180 degrees, or counts otherwise than the AOI, which is cut there."""
    grid = Grid(1000, 800, Affine(1e-6, 0, west, 0, -1e-6, 10), LON_LAT)
    shape = shapely.box(100, 100, 900, 700)
    left, right = west + 1e-4, west + 9e-4
    turn = 360 * np.floor((left + 180) / 360)
    parts = [shapely.box(left - turn, 10 - 7e-4, right - turn, 10 - 1e-4)]
    if right - turn > 180:
        parts = [
            shapely.box(left - turn, 10 - 7e-4, 180, 10 - 1e-4),
            shapely.box(-180, 10 - 7e-4, right - turn - 360, 10 - 1e-4),
        ]
    target = pyproj.CRS(crs)
    if target.is_projected:
        parts = [
            shapely.transform(one, lambda xy: reproject(xy, source=LON_LAT, target=target))
            for one in parts
        ]
    elif turned:  # as files have it that count from 0 to 360
        parts = [translate(one, xoff=360) if one.bounds[0] < 0 else one for one in parts]
    aoi = read_aoi(write(tmp_path / "a.gpkg", parts, target), grid)
    assert aoi.geometry.buffer(0.01).hausdorff_distance(shape) < 0.1
    assert aoi.geometry.area == pytest.approx(shape.area, rel=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32660"])
def test_a_projected_raster_goes_past_the_antimeridian(tmp_path: Path, crs: str) -> None:
    web = pyproj.CRS.from_epsg(3857)
    edge = 20_037_508.342789244
    grid = Grid(100, 80, Affine(1, 0, edge - 50, 0, -1, 1000), web)
    sides = [shapely.box(edge - 40, 940, edge, 980), shapely.box(-edge, 940, 40 - edge, 980)]
    target = pyproj.CRS(crs)
    parts = [
        shapely.transform(one, lambda xy: reproject(xy, source=web, target=target)) for one in sides
    ]
    aoi = read_aoi(write(tmp_path / "a.gpkg", parts, target), grid)
    assert aoi.geometry.buffer(0.01).hausdorff_distance(shapely.box(10, 20, 90, 60)) < 0.1


def test_a_raster_round_the_pole(tmp_path: Path) -> None:
    grid = Grid(
        1000, 1000, Affine(1000, 0, -500_000, 0, -1000, 500_000), pyproj.CRS.from_epsg(3031)
    )
    path = write(tmp_path / "a.gpkg", [shapely.box(-180, -90, 180, -80)], LON_LAT)
    assert read_aoi(path, grid).geometry.area == pytest.approx(1000 * 1000, rel=1e-5)


def test_a_raster_whose_corners_lie_off_the_earth(tmp_path: Path) -> None:
    disk = pyproj.CRS.from_proj4("+proj=geos +h=35785831 +lon_0=0 +sweep=y +datum=WGS84")
    grid = Grid(1000, 1000, Affine(11_140, 0, -5.57e6, 0, -11_140, 5.57e6), disk)
    path = write(tmp_path / "a.gpkg", [shapely.box(0, -10, 20, 10)], LON_LAT)
    corners = reproject(np.array([[0.0, -10], [20, -10]]), source=LON_LAT, target=disk)
    (left, bottom), (right, _) = grid.world_to_pixel(corners)
    west, _, east, south = read_aoi(path, grid).geometry.bounds
    assert (west, south) == pytest.approx((left, bottom), abs=0.2)
    assert right < east < right + 10  # the edge along a meridian bulges


@pytest.mark.parametrize("code", [5773, 4978])
def test_a_crs_without_a_plane_is_an_error(tmp_path: Path, code: int) -> None:
    square = shapely.transform(shapely.box(100, 100, 200, 200), GRID.pixel_to_world)
    path = write(tmp_path / "a.gpkg", [square], pyproj.CRS.from_epsg(code))
    with pytest.raises(AoiError, match=r"no horizontal plane; state the CRS it was drawn in"):
        read_aoi(path, GRID)


def test_outside_the_raster_is_empty_not_an_error(tmp_path: Path) -> None:
    for name, crs in (("a.gpkg", UTM33), ("b.gpkg", LON_LAT)):
        away = shapely.box(5000, 5000, 6000, 6000)
        aoi = read_aoi(write(tmp_path / name, [world(GRID, away, crs)], crs), GRID)
        assert aoi.is_empty
        assert not aoi.touches(Window(0, 0, 1000, 800))
        assert not aoi.contains_centres(np.array([[0.0, 0, 10, 10]])).any()


def test_sharing_an_edge_with_the_raster_is_empty(tmp_path: Path) -> None:
    beside = shapely.transform(shapely.box(1000, 0, 1100, 800), GRID.pixel_to_world)
    assert read_aoi(write(tmp_path / "a.gpkg", [beside], UTM33), GRID).is_empty


class TestErrors:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(AoiError, match="found none"):
            read_aoi(tmp_path / "a.gpkg", GRID)

    def test_not_a_vector_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.geojson"
        path.write_text("hello")
        with pytest.raises(AoiError, match="expected a vector file"):
            read_aoi(path, GRID)

    def test_no_polygon(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.gpkg", [shapely.Point(500_000, 5_400_000)], UTM33)
        with pytest.raises(AoiError, match="found 1 feature and no polygon"):
            read_aoi(path, GRID)

    @pytest.mark.parametrize("move", [0, -5_399_960])
    def test_metres_in_a_file_of_degrees(self, move: int, tmp_path: Path) -> None:
        """What many programs write as GeoJSON, which is in degrees unless it says otherwise."""
        metres = shapely.box(500_000, 5_399_950 + move, 500_050, 5_400_000 + move)
        path = write(tmp_path / "a.geojson", [metres], LON_LAT)
        with pytest.raises(AoiError, match=r"runs from 500,000 to 500,050 .*`ogr2ogr -a_srs"):
            read_aoi(path, GRID)

    @pytest.mark.parametrize("crs", [UTM33, LON_LAT])
    def test_y_before_x(self, crs: pyproj.CRS, tmp_path: Path) -> None:
        right = world(GRID, shapely.box(100, 100, 300, 300), crs)
        swapped = shapely.transform(right, lambda points: points[:, ::-1])
        path = write(tmp_path / "a.gpkg", [swapped], crs)
        with pytest.raises(AoiError, match="with x and y swapped; write x"):
            read_aoi(path, GRID)

    def test_latitude_before_longitude_where_that_is_no_latitude(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.geojson", [shapely.box(40.0, -105.6, 40.1, -105.5)], LON_LAT)
        with pytest.raises(AoiError, match="latitude seems to stand before longitude"):
            read_aoi(path, GRID)

    def test_no_feature(self, tmp_path: Path) -> None:
        path = tmp_path / "a.geojson"
        path.write_text('{"type":"FeatureCollection","features":[]}')
        with pytest.raises(AoiError, match="found 0 features"):
            read_aoi(path, GRID)

    def test_null_geometry(self, tmp_path: Path) -> None:
        path = tmp_path / "a.geojson"
        path.write_text(
            '{"type":"FeatureCollection","features":['
            '{"type":"Feature","properties":{},"geometry":null}]}'
        )
        with pytest.raises(AoiError, match=r"no polygon|no layer"):
            read_aoi(path, GRID)

    def test_a_table_without_geometries(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("a,b\n1,2\n")
        with pytest.raises(AoiError, match="no layer with geometries"):
            read_aoi(path, GRID)

    def test_no_crs(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="crs"):
            path = write(tmp_path / "a.shp", [shapely.box(0, 0, 1, 1)], None)
        with pytest.raises(AoiError, match="the AOI has none"):
            read_aoi(path, GRID)

    def test_a_raster_without_crs(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], UTM33)
        with pytest.raises(AoiError, match="the raster has none"):
            read_aoi(path, Grid(10, 10, Affine.identity(), None))

    def test_several_layers(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gpkg"
        for name, edge in (("small", 10), ("large", 20)):
            frame = gpd.GeoDataFrame(
                geometry=[world(GRID, shapely.box(0, 0, edge, edge), UTM33)], crs=UTM33
            )
            frame.to_file(path, layer=name)
        with pytest.raises(AoiError, match="got small, large"):
            read_aoi(path, GRID)
        assert read_aoi(path, GRID, layer="large").geometry.area == pytest.approx(400)
        with pytest.raises(AoiError, match=r"no layer 'none' .*it has small, large"):
            read_aoi(path, GRID, layer="none")


def test_an_aoi_and_a_raster_without_crs_share_one_frame(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="crs"):
        path = write(tmp_path / "a.shp", [shapely.box(1, 1, 3, 3)], None)
    aoi = read_aoi(path, Grid(10, 10, Affine.identity(), None))
    assert aoi.geometry.equals(shapely.box(1, 1, 3, 3))


class TestAoi:
    aoi = Aoi(shapely.Polygon([(100, 100), (300, 100), (300, 300)]))

    def test_touches(self) -> None:
        assert self.aoi.touches(Window(0, 0, 1000, 1000))
        assert self.aoi.touches(Window(280, 250, 10, 10))
        assert not self.aoi.touches(Window(100, 250, 20, 20))
        assert not self.aoi.touches(Window(400, 100, 20, 20))

    @given(
        col=st.integers(0, 400),
        row=st.integers(0, 400),
        width=st.integers(1, 100),
        height=st.integers(1, 100),
    )
    def test_a_box_with_its_centre_inside_lies_in_a_window_that_touches(
        self, col: int, row: int, width: int, height: int
    ) -> None:
        window = Window(col, row, width, height)
        if self.aoi.contains_centres(np.array([window.box], dtype=np.float64))[0]:
            assert self.aoi.touches(window)

    @given(
        col=st.integers(0, 700),
        row=st.integers(0, 700),
        width=st.integers(1, 100),
        height=st.integers(1, 100),
    )
    def test_any_of_many_parts_may_be_touched(
        self, col: int, row: int, width: int, height: int
    ) -> None:
        corners = [(x, y) for x in range(0, 700, 70) for y in range(0, 700, 70)]
        parts = [shapely.Point(corner).buffer(20) for corner in corners]
        aoi, window = Aoi(shapely.MultiPolygon(parts)), Window(col, row, width, height)
        assert aoi.touches(window) == aoi.geometry.intersects(shapely.box(*window.box))

    def test_centres_decide(self) -> None:
        boxes = np.array([[280.0, 250, 320, 270], [90, 90, 110, 110], [100, 200, 120, 220]])
        assert self.aoi.contains_centres(boxes).tolist() == [True, True, False]

    def test_no_boxes(self) -> None:
        assert self.aoi.contains_centres(np.zeros((0, 4))).shape == (0,)


def test_a_centre_on_the_edge_counts() -> None:
    aoi = Aoi(shapely.box(0, 0, 10, 10))
    boxes = np.array([[8.0, 4, 12, 6], [8.1, 4, 12.1, 6]])
    assert aoi.contains_centres(boxes).tolist() == [True, False]


def test_an_aoi_in_an_archive_is_found_on_windows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("aoi.geojson", shapely.to_geojson(shapely.box(10, 50, 11, 51)))
    polygons, _ = aoi_file.read_polygons(WindowsPath("/vsizip/a.zip/aoi.geojson"), None)
    assert polygons.bounds == (10, 50, 11, 51)


@pytest.mark.parametrize("place", ["/vsizip/{}/a.geojson", "zip://{}!a.geojson", "zip://{}"])
def test_an_aoi_in_an_archive_by_its_whole_path(place: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.geojson", shapely.to_geojson(shapely.box(10, 50, 11, 51)))
    polygons, _ = aoi_file.read_polygons(place.format(tmp_path / "a.zip"), None)
    assert polygons.bounds == (10, 50, 11, 51)


def test_geoparquet(tmp_path: Path) -> None:
    shape, flat = shapely.box(500_010, 5_399_700, 500_060, 5_399_900), shapely.Point(500_000, 0, 9)
    table = gpd.GeoDataFrame({"n": [1, 2, 3]}, geometry=[shape, None, flat], crs=UTM33)
    table.to_parquet(tmp_path / "a.parquet")
    assert read_aoi(tmp_path / "a.parquet", GRID).geometry.area == pytest.approx(50 * 200 * 4)
    with pytest.raises(AoiError, match="no layers; leave --aoi-layer out"):
        read_aoi(tmp_path / "a.parquet", GRID, layer="a")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(AoiError, match="expected GeoParquet as AOI"):
        read_aoi(tmp_path / "b.parquet", GRID)
    pandas_only = table.drop(columns="geometry")
    pandas_only.to_parquet(tmp_path / "c.parquet")
    with pytest.raises(AoiError, match="expected GeoParquet as AOI"):
        read_aoi(tmp_path / "c.parquet", GRID)


@pytest.mark.parametrize("damage", ["column", "crs", "shape"])
def test_damaged_geoparquet(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    gpd.GeoSeries([shapely.box(0, 0, 9, 9)], crs=UTM33).to_frame("geometry").to_parquet(path)
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    if damage == "column":
        geo["primary_column"] = "elsewhere"
    elif damage == "crs":
        geo["columns"]["geometry"]["crs"] = "EPSG:99999"
    else:
        table = pa.table({"geometry": [b"no shape"]})
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    with pytest.raises(AoiError, match="expected GeoParquet as AOI"):
        read_aoi(path, GRID)
    with pytest.raises(LabelError, match="expected a vector file that OGR can read"):
        read_features(path, layer=None, crs=None)


def test_of_many_rasters_the_aoi_is_read_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read = aoi_file._read_polygons
    monkeypatch.setattr(
        aoi_file, "_read_polygons", lambda *place: (reads.append(place), read(*place))[1]
    )
    shape = shapely.box(500_010, 5_399_700, 500_060, 5_399_900)
    path = write(tmp_path / "a.shp", [shape], UTM33)
    first = [read_aoi(path, grid).geometry.area for grid in (GRID, ROTATED, GRID)]
    assert first[0] == first[2] == pytest.approx(50 * 200 * 4)
    assert len(reads) == 1
    write(path, [shapely.box(500_010, 5_399_700, 500_110, 5_399_900)], UTM33)
    assert read_aoi(path, GRID).geometry.area == pytest.approx(2 * first[0])
    (tmp_path / "a.prj").write_text(pyproj.CRS.from_epsg(32632).to_wkt("WKT1_ESRI"))
    assert read_aoi(path, GRID).is_empty, "another CRS of the same shapes"
    assert len(reads) == 3


def test_of_many_polygons_those_near_the_raster_are_looked_at(tmp_path: Path) -> None:
    """Also where they lie a turn around the Earth further."""
    cells = [
        shapely.box(500_000 + 20 * i, 5_399_000 + 20 * j, 500_018 + 20 * i, 5_399_018 + 20 * j)
        for i in range(-40, 60)
        for j in range(100)
    ]
    lon_lat = [
        translate(world_of(cell), xoff=turn)
        for turn, cell in zip([0, 360, -360] * len(cells), cells, strict=False)
    ]
    path = write(tmp_path / "a.gpkg", lon_lat, LON_LAT)
    found = read_aoi(path, GRID).geometry
    frame = shapely.box(500_000, 5_399_600, 500_500, 5_400_000)
    square_m = shapely.union_all(cells).intersection(frame).area
    assert found.area == pytest.approx(square_m * 4, rel=1e-4)


def world_of(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(shape, lambda xy: reproject(xy, source=UTM33, target=LON_LAT))


def test_what_lies_beside_an_aoi_does_not_matter(tmp_path: Path) -> None:
    shape = shapely.box(500_010, 5_399_700, 500_060, 5_399_900)
    path = write(tmp_path / "a[1]**.gpkg", [shape], UTM33)
    (tmp_path / "a[1]**.tif").symlink_to(tmp_path / "nowhere.tif")
    assert read_aoi(path, GRID).geometry.area == pytest.approx(50 * 200 * 4)


def test_a_file_put_in_place_of_an_aoi_is_read_though_date_and_size_are_the_same(
    tmp_path: Path,
) -> None:
    files = []
    for name, width in (("a", 50), ("b", 90)):
        shape = shapely.box(500_010, 5_399_700, 500_010 + width, 5_399_900)
        files.append(write(tmp_path / f"{name}.geojson", [shape], UTM33))
        os.utime(files[-1], (1e9, 1e9))
    first, second = files
    assert first.stat().st_size == second.stat().st_size
    assert read_aoi(first, GRID).geometry.area == pytest.approx(50 * 200 * 4)
    second.replace(first)
    assert read_aoi(first, GRID).geometry.area == pytest.approx(90 * 200 * 4)
