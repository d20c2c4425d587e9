"""What holds for every format: the life of a file, refusals, empty results, places."""

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine

from geo_retina.detection import disk, features
from geo_retina.detection.file_writer import ROWS_AT_ONCE
from geo_retina.detection.vector import check_output, open_writer, open_writers
from geo_retina.errors import GeoreferenceError, OutputError, WriteError
from geo_retina.space.detections import Detections
from geo_retina.space.grid import WGS84, Grid, reproject

UTM33 = pyproj.CRS.from_epsg(32633)
NAMES = ("tree", 'große Tanne, "alt"')
TABLES = ("gpkg", "fgb", "parquet", "shp", "csv")
EVERY = (*TABLES, "geojson", "json", "geojsonl", "ndjson", "geojsonseq", "coco.json")
DETERMINISTIC = ("geojson", "geojsonl", "geojsonseq", "fgb", "csv", "parquet", "coco.json")
UNREFERENCED = Grid(1000, 800, Affine.identity(), None)


def grid_at(angle: float = 0, up: int = -1) -> Grid:
    transform = (
        Affine.translation(500_000, 5_400_000)
        @ Affine.rotation(angle)
        @ Affine.scale(0.1, up * 0.1)
    )
    return Grid(1000, 800, transform, UTM33)


GRID = grid_at()


def some(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 700, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])
    return Detections.of(boxes, rng.uniform(0, 1, count), rng.integers(0, 2, count), 3)


def write(path: Path, *parts: Detections, grid: Grid = GRID, **options: object) -> Path:
    with open_writer(path, grid=grid, class_names=NAMES, **options) as writer:
        for part in parts:
            writer.write(part)
    return path


def _plain(path: Path, folder: Path) -> Path:
    """The same files under a name that no reader takes for more than a name."""
    (folder / "plain").mkdir()
    for part in folder.glob(f"{glob.escape(path.stem)}.*"):
        shutil.copy(part, folder / "plain" / f"plain{part.suffix}")
    return folder / "plain" / f"plain{path.suffix}"


def interrupted(path: Path, stop: type[BaseException]) -> None:
    with open_writer(path, grid=GRID, class_names=NAMES) as writer:
        writer.write(some(5, seed=1))
        raise stop


def read(path: Path) -> gpd.GeoDataFrame:
    if path.suffix == ".parquet":
        return gpd.read_parquet(path)
    frame = gpd.read_file(path)
    return frame.drop(columns="WKT", errors="ignore")


def column_types(path: Path) -> list[tuple[str, str]]:
    """Names and types as the format itself declares them (all text in CSV)."""
    if path.suffix == ".parquet":
        return [(field.name, str(field.type)) for field in pq.read_schema(path)]
    info = pyogrio.read_info(path)
    return list(zip(info["fields"], info["ogr_types"], strict=True))


def files(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.mark.parametrize("extension", [*TABLES, "geojson", "geojsonl", "ndjson", "geojsonseq"])
def test_every_format_says_the_same(tmp_path: Path, extension: str) -> None:
    found = some(50)
    frame = read(write(tmp_path / f"a.{extension}", found)).sort_values("id").reset_index()
    expected = features.attributes(found, grid=GRID, class_names=NAMES).to_pandas()
    expected = expected.sort_values("id").reset_index()
    for name in features.FIELDS.names:
        column = frame[name]
        if extension == "csv" and name not in ("id", "class"):
            column = column.astype(float)  # CSV has no types
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(column, expected[name], rtol=1e-12)
        else:
            assert column.tolist() == expected[name].tolist()


@pytest.mark.parametrize("extension", TABLES)
@pytest.mark.parametrize("grid", [GRID, grid_at(33), grid_at(0, up=1), grid_at(200, up=1)])
def test_corners_are_in_place_to_a_micrometre(tmp_path: Path, extension: str, grid: Grid) -> None:
    found = some(20)
    frame = read(write(tmp_path / f"a.{extension}", found, grid=grid)).set_index("id")
    if extension != "csv":
        assert frame.crs == UTM33
    keys = features.attributes(found, grid=grid, class_names=NAMES)["id"].to_pylist()
    for key, corners in zip(keys, grid.box_corners(found.boxes), strict=True):
        ring = shapely.get_coordinates(frame.geometry[key])
        assert len(ring) == 5
        np.testing.assert_array_equal(ring[0], ring[-1])
        for corner in corners:
            assert np.hypot(*(ring - corner).T).min() < 1e-6
        if extension != "shp":  # Shapefile rings run clockwise by its own rule
            assert frame.geometry[key].exterior.is_ccw


@pytest.mark.parametrize("extension", TABLES)
def test_another_crs_on_request(tmp_path: Path, extension: str) -> None:
    found = some(20)
    path = write(tmp_path / f"a.{extension}", found, crs="EPSG:3857")
    frame = read(path).set_index("id")
    target = pyproj.CRS.from_epsg(3857)
    if extension != "csv":
        assert frame.crs == target
    keys = features.attributes(found, grid=GRID, class_names=NAMES)["id"].to_pylist()
    centres = GRID.pixel_to_world((found.boxes[:, :2] + found.boxes[:, 2:]) / 2)
    expected = reproject(centres, source=UTM33, target=target)
    middles = shapely.get_coordinates(shapely.centroid(frame.geometry[keys].to_numpy()))
    np.testing.assert_allclose(middles, expected, atol=1e-3)


@pytest.mark.parametrize("extension", [*TABLES, "geojson", "geojsonl"])
def test_points_are_the_centres(tmp_path: Path, extension: str) -> None:
    found = some(20)
    path = write(tmp_path / f"a.{extension}", found, grid=grid_at(33), geometry="point")
    frame = read(path).set_index("id")
    assert set(frame.geom_type) == {"Point"}
    keys = features.attributes(found, grid=GRID, class_names=NAMES)["id"].to_pylist()
    world = grid_at(33).pixel_to_world((found.boxes[:, :2] + found.boxes[:, 2:]) / 2)
    tolerance = 1e-6
    if extension.startswith("geojson"):
        world, tolerance = reproject(world, source=UTM33, target=WGS84), 1e-7
    points = shapely.get_coordinates(frame.geometry[keys].to_numpy())
    np.testing.assert_allclose(points, world, atol=tolerance, rtol=0)


@pytest.mark.parametrize("extension", TABLES)
@pytest.mark.parametrize("written", [(), (Detections.empty(),)])
def test_empty_is_a_valid_file_with_the_full_schema(
    tmp_path: Path, extension: str, written: tuple[Detections, ...]
) -> None:
    full = read(write(tmp_path / f"full.{extension}", some(3)))
    (tmp_path / "empty").mkdir()
    empty = read(write(tmp_path / "empty" / f"a.{extension}", *written))
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert empty.crs == full.crs
    assert column_types(tmp_path / "empty" / f"a.{extension}") == column_types(
        tmp_path / f"full.{extension}"
    )


@pytest.mark.parametrize("extension", TABLES)
def test_a_raster_without_crs_gives_pixels(tmp_path: Path, extension: str) -> None:
    found = some(5)
    frame = read(write(tmp_path / f"a.{extension}", found, grid=UNREFERENCED)).set_index("id")
    assert frame.crs is None or "Undefined" in str(frame.crs)
    assert frame["area_m2"].replace("", None).isna().all()
    keys = features.attributes(found, grid=UNREFERENCED, class_names=NAMES)["id"].to_pylist()
    bounds = shapely.bounds(frame.geometry[keys].to_numpy())
    np.testing.assert_allclose(bounds, found.boxes, atol=1e-8)


@pytest.mark.parametrize("extension", DETERMINISTIC)
def test_bytes_follow_from_the_sequence_alone(tmp_path: Path, extension: str) -> None:
    found = some(300)
    parts = [found.select(np.arange(start, start + 100)) for start in (0, 100, 200)]
    contents = set()
    for number, calls in enumerate([[found], parts, [Detections.empty(), *parts]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents.add(write(folder / f"a.{extension}", *calls).read_bytes())
    assert len(contents) == 1


def test_more_than_one_chunk(tmp_path: Path) -> None:
    count = ROWS_AT_ONCE + 5
    frame = read(write(tmp_path / "a.parquet", some(count)))
    keys = features.attributes(some(count), grid=GRID, class_names=NAMES)["id"].to_pylist()
    assert frame["id"].tolist() == keys


class TestLife:
    @pytest.mark.parametrize("extension", EVERY)
    def test_appears_at_the_end_and_alone(self, tmp_path: Path, extension: str) -> None:
        path = tmp_path / f"a.{extension}"
        with open_writer(path, grid=GRID, class_names=NAMES) as writer:
            writer.write(some(5))
            assert not path.exists()
        assert path.exists()
        parts = {"a.shp", "a.shx", "a.dbf", "a.prj", "a.cpg"}
        assert files(tmp_path) == (parts if extension == "shp" else {path.name})

    @pytest.mark.parametrize("extension", EVERY)
    @pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
    def test_leaves_nothing_after_a_failure(
        self, tmp_path: Path, extension: str, stop: type[BaseException]
    ) -> None:
        with pytest.raises(stop):
            interrupted(tmp_path / f"a.{extension}", stop)
        assert files(tmp_path) == set()

    @pytest.mark.parametrize("extension", EVERY)
    def test_an_older_file_stays_until_the_new_one_is_whole(
        self, tmp_path: Path, extension: str
    ) -> None:
        path = write(tmp_path / f"a.{extension}", some(3))
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(KeyboardInterrupt):
            interrupted(path, KeyboardInterrupt)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        write(path, some(7, seed=1))
        assert files(tmp_path) == set(before)
        assert path.read_bytes() != before[path.name]

    def test_parts_of_an_older_shapefile_go(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.shp", some(3))
        for stale in ("a.qix", "a.sbn"):
            (tmp_path / stale).write_text("index of the older file")
        write(path, some(3), grid=UNREFERENCED)
        assert files(tmp_path) == {"a.shp", "a.shx", "a.dbf", "a.cpg"}

    def test_the_log_of_an_older_geopackage_goes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.gpkg", some(3))
        (tmp_path / "a.gpkg-wal").write_text("log of the older file")
        write(path, some(4))
        assert files(tmp_path) == {"a.gpkg"}
        assert len(read(path)) == 4

    def test_what_a_killed_run_left_is_cleared(self, tmp_path: Path) -> None:
        left = tmp_path / ".a.gpkg.part"
        left.mkdir()
        (left / "a.gpkg").write_text("half a file")
        write(tmp_path / "a.gpkg", some(3))
        assert files(tmp_path) == {"a.gpkg"}

    def test_two_runs_cannot_write_one_output(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        with open_writer(path, grid=GRID, class_names=NAMES) as first:
            second = open_writer(path, grid=GRID, class_names=NAMES)
            with pytest.raises(OutputError, match="another run is writing"), second:
                pass
            first.write(some(2))
        assert len(read(path)) == 2

    def test_a_capital_extension_is_kept(self, tmp_path: Path) -> None:
        for name in ("a.SHP", "b.GPKG", "c.GeoJSON"):
            assert len(gpd.read_file(write(tmp_path / name, some(3)))) == 3

    @pytest.mark.parametrize(
        "name",
        ["gpkg_trees.gpkg", "sqlite_x.gpkg", "GPKG.gpkg", "rtree_.gpkg"]
        + [
            f"{stem}.{extension}"
            for stem in ("(1) a", "-x", "[x]", "+a", "#1", "@a", "~a", "{b}", "plot;1", "a'b")
            for extension in ("gpkg", "fgb", "shp")
        ],
    )
    def test_names_that_mean_something_to_a_format(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / name, some(3))
        _, _, shapes, _ = pyogrio.raw.read(_plain(path, tmp_path))
        assert len(shapes) == 3

    @pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.csv"])
    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "kept").mkdir()
        target = write(tmp_path / "kept" / name, some(2))
        link = tmp_path / name
        link.symlink_to(target)
        write(link, some(3))
        assert link.is_symlink()
        assert len(read(target)) == 3
        assert files(tmp_path) == {"kept", name}

    @pytest.mark.parametrize("extension", EVERY)
    def test_a_full_disk_is_a_write_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
    ) -> None:
        def full(_: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk, "sync_file", full)
        with pytest.raises(WriteError, match="No space left"):
            write(tmp_path / f"a.{extension}", some(3))
        assert files(tmp_path) == set()

    def test_a_failure_of_gdal_is_a_write_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise pyogrio.errors.DataLayerError("disk I/O error")

        monkeypatch.setattr(pyogrio, "write_arrow", broken)
        with pytest.raises(WriteError, match="disk I/O error"):
            write(tmp_path / "a.gpkg", some(3))
        assert files(tmp_path) == set()

    def test_writing_outside_the_with_statement_is_refused(self, tmp_path: Path) -> None:
        writer = open_writer(tmp_path / "a.csv", grid=GRID, class_names=NAMES)
        with pytest.raises(ValueError, match="not open"):
            writer.write(some(1))
        assert files(tmp_path) == set()


class TestSeveral:
    def test_all_get_the_same(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"a.{extension}" for extension in ("geojson", "gpkg", "parquet")]
        with open_writers(paths, grid=GRID, class_names=NAMES) as writer:
            writer.write(some(9))
        keys = [set(read(path)["id"]) for path in paths]
        assert keys[0] == keys[1] == keys[2]
        assert len(keys[0]) == 9

    def test_none_appears_if_one_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise pyogrio.errors.DataSourceError("no")

        monkeypatch.setattr(pyogrio, "write_arrow", broken)
        writer = open_writers(
            [tmp_path / "a.geojson", tmp_path / "a.gpkg"], grid=GRID, class_names=NAMES
        )
        with pytest.raises(WriteError), writer:
            writer.write(some(9))
        assert files(tmp_path) == set()

    def test_one_path_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="expected different outputs"):
            open_writers(
                [tmp_path / "a.csv", tmp_path / "." / "a.csv"], grid=GRID, class_names=NAMES
            )


class TestCheck:
    @pytest.mark.parametrize("extension", [*EVERY, "geojsons", "geoparquet", "GPKG"])
    def test_known_extensions_pass_and_touch_nothing(self, tmp_path: Path, extension: str) -> None:
        open_writer(tmp_path / f"a.{extension}", grid=GRID, class_names=NAMES)
        assert files(tmp_path) == set()

    @pytest.mark.parametrize("name", ["a.kml", "a", ".gpkg", "a.gpkg.zip"])
    def test_unknown_extension_names_the_known(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match=r"\.geojson.*\.gpkg.*\.csv, got"):
            check_output(tmp_path / name)

    def test_a_mark_of_archives_is_refused_where_gdal_would_take_it_for_one(
        self, tmp_path: Path
    ) -> None:
        for extension in ("gpkg", "fgb", "shp"):
            with pytest.raises(OutputError, match="what follows a !"):
                check_output(tmp_path / f"a!b.{extension}")
        assert (
            len(
                gpd.read_file(
                    write(tmp_path / "a!b.geojson", some(3)).rename(tmp_path / "a.geojson")
                )
            )
            == 3
        )

    @pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\udcff"])
    def test_a_name_that_a_library_does_not_find_is_refused(
        self, tmp_path: Path, name: str
    ) -> None:
        for extension in ("gpkg", "fgb", "shp", "parquet"):
            with pytest.raises(OutputError, match="without tabs and line breaks"):
                check_output(tmp_path / f"{name}.{extension}")
        check_output(tmp_path / f"{name}.geojson")

    def test_a_name_too_long_for_what_lies_beside_it(self, tmp_path: Path) -> None:
        check_output(tmp_path / f"{'a' * 215}.gpkg")
        with pytest.raises(OutputError, match="at most 220 bytes"):
            check_output(tmp_path / f"{'ä' * 110}.gpkg")

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"the folder .*none of a\.gpkg does not exist"):
            check_output(tmp_path / "none" / "a.gpkg")

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.gpkg").mkdir()
        with pytest.raises(OutputError, match="got the folder"):
            check_output(tmp_path / "a.gpkg")

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(OutputError, match="no permission"):
            check_output(tmp_path / "a.gpkg")

    @pytest.mark.parametrize("extension", ["geojson", "json", "geojsonl", "geojsonseq"])
    def test_geojson_in_another_crs_is_refused_saying_why(
        self, tmp_path: Path, extension: str
    ) -> None:
        with pytest.raises(OutputError, match="RFC 7946 section 4"):
            check_output(tmp_path / f"a.{extension}", crs="EPSG:32633")
        check_output(tmp_path / f"a.{extension}", crs="EPSG:4326")

    def test_coco_in_a_crs_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="COCO holds boxes in raster pixels"):
            check_output(tmp_path / "a.coco.json", crs="EPSG:4326")

    def test_coco_of_points_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="without --simplify-to point"):
            check_output(tmp_path / "a.coco.json", geometry="point")

    def test_unknown_crs_and_geometry(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="expected a CRS such as"):
            check_output(tmp_path / "a.gpkg", crs="EPSG:99999999")
        for code, kind in (("EPSG:5773", "EGM96 height"), ("EPSG:4978", "WGS 84")):
            with pytest.raises(OutputError, match=f"{kind} has no horizontal plane"):
                check_output(tmp_path / "a.gpkg", crs=code)
        with pytest.raises(OutputError, match="'polygon' or 'point'"):
            check_output(tmp_path / "a.gpkg", geometry="line")

    @pytest.mark.parametrize("extension", ["gpkg", "geojson"])
    def test_a_crs_for_a_raster_without(self, tmp_path: Path, extension: str) -> None:
        with pytest.raises(GeoreferenceError, match="cannot be written in WGS 84"):
            open_writer(
                tmp_path / f"a.{extension}", grid=UNREFERENCED, class_names=NAMES, crs="EPSG:4326"
            )

    def test_metadata_that_is_not_json_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            open_writer(
                tmp_path / "a.csv", grid=GRID, class_names=NAMES, metadata={"x": float("nan")}
            )


def test_importing_loads_no_heavy_library() -> None:
    code = (
        "import sys; from geo_retina.detection import aoi, features, ledger, vector; "
        "print({'torch', 'geopandas', 'pandas', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


MEMORY = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_vector import *
paths = [Path({folder!r}) / f"a.{{extension}}" for extension in {extensions!r}]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def run(batches):
    with open_writers(paths, grid=GRID, class_names=NAMES) as writer:
        for seed in range(batches):
            writer.write(some(20_000, seed))
run(4)  # one whole row group of the Parquet file, all libraries loaded
before = peak()
run({batches})
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_follow_the_number_of_detections(tmp_path: Path) -> None:
    extensions = ("geojson", "geojsonl", "gpkg", "shp", "csv", "parquet", "coco.json")
    code = MEMORY.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), extensions=extensions, batches=24
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 480_000
    written = sum(file.stat().st_size for file in tmp_path.iterdir()) / 2**20
    assert written > 400  # MiB: what growing memory would hold
    assert float(done.stdout) < 40


@pytest.fixture(autouse=True)
def _no_stray_warnings(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    assert [str(warning.message) for warning in recwarn if "crs" in str(warning.message)] == []
