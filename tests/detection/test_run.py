import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from fixture_types import BlobModel, MakeCard, WriteRaster
from geopandas.testing import assert_geodataframe_equal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.detection import job
from geo_retina.detection.backends import Model, load_model
from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.inference import HEADROOM
from geo_retina.detection.options import DetectOptions, WorkOptions
from geo_retina.detection.run import detect
from geo_retina.errors import (
    AoiError,
    ConfigError,
    LedgerError,
    ModelError,
    OutputError,
    RasterError,
    RasterReadError,
)
from geo_retina.imagery.mosaic import write_mosaic

Field = Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]


def _pixel_boxes(frame: gpd.GeoDataFrame, gsd: float = 0.1) -> NDArray[np.float64]:
    """Boxes of a result over a raster made by `write_raster`, sorted."""
    bounds = frame.bounds.to_numpy()
    x, y = 500_000.0, 5_400_000.0
    columns = [bounds[:, 0] - x, y - bounds[:, 3], bounds[:, 2] - x, y - bounds[:, 1]]
    boxes = np.round(np.stack(columns, axis=1) / gsd, 3)
    return boxes[np.lexsort(boxes.T)]


def _sorted(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes[np.lexsort(boxes.T)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    width=st.integers(30, 330),
    height=st.integers(30, 330),
    chip_px=st.integers(64, 200),
    overlap_px=st.integers(20, 60),
    batch=st.integers(1, 5),
)
def test_stitched_is_whole(
    blob_model: BlobModel,
    write_raster: WriteRaster,
    width: int,
    height: int,
    chip_px: int,
    overlap_px: int,
    batch: int,
    field_of_objects: Field,
) -> None:
    """An ideal detector finds window by window what it would find in the whole image."""
    blob_model(batch=batch)
    pixels, boxes = field_of_objects(width, height)
    path = write_raster("field.tif", pixels)
    found = detect(path, chip_px=chip_px, overlap_px=overlap_px)
    np.testing.assert_allclose(_pixel_boxes(found), _sorted(boxes), atol=0.002)


def test_object_on_the_corner_of_four_windows(
    blob_model: BlobModel, write_raster: WriteRaster
) -> None:
    blob_model()
    pixels = np.full((3, 112, 112), 20, dtype=np.uint8)
    pixels[:, 50:62, 50:62] = 200  # windows of 64 px with 16 px overlap meet in 48..64
    found = detect(write_raster("corner.tif", pixels))
    assert _pixel_boxes(found).tolist() == [[50, 50, 62, 62]]


def test_object_larger_than_the_overlap_is_not_lost(
    blob_model: BlobModel, write_raster: WriteRaster
) -> None:
    blob_model()
    pixels = np.full((3, 64, 200), 20, dtype=np.uint8)
    pixels[:, 20:40, 20:150] = 200
    found = detect(write_raster("long.tif", pixels))
    assert shapely.union_all(found.geometry.to_numpy()).area == pytest.approx(13 * 2.0)


@pytest.mark.parametrize("size", [(1, 1), (63, 20), (64, 64)])
def test_raster_no_larger_than_a_chip(
    blob_model: BlobModel, write_raster: WriteRaster, size: tuple[int, int]
) -> None:
    detector = blob_model()
    pixels = np.full((3, *size), 200, dtype=np.uint8)
    found = detect(write_raster("small.tif", pixels))
    assert len(found) == 1
    assert detector.calls == 1


def test_nothing_found_is_a_valid_result(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path
) -> None:
    blob_model()
    path = write_raster("empty.tif", np.full((3, 100, 100), 20, dtype=np.uint8))
    out = tmp_path / "empty.gpkg"
    done = detect_to_files(path, [out])
    frame = gpd.read_file(out)
    assert done.counts.objects == len(frame) == 0
    assert {"id", "class", "score", "window"} <= set(frame.columns)
    assert str(frame.crs) == "EPSG:32633"


def test_windows_without_valid_pixels_are_not_inferred(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path
) -> None:
    detector = blob_model()
    pixels = np.full((3, 200, 200), 200, dtype=np.uint8)
    mask = np.zeros((200, 200), dtype=np.bool_)
    path = write_raster("void.tif", pixels, mask=mask)
    done = detect_to_files(path, [tmp_path / "void.geojson"])
    assert done.counts.objects == 0
    assert detector.calls == 0
    assert done.counts.windows_empty == done.windows


def test_invalid_pixels_produce_no_objects(
    blob_model: BlobModel, write_raster: WriteRaster
) -> None:
    blob_model()
    pixels = np.full((3, 60, 60), 20, dtype=np.uint8)
    pixels[:, 10:22, 10:22] = 200
    pixels[:, 40:52, 40:52] = 200
    mask = np.ones((60, 60), dtype=np.bool_)
    mask[30:, 30:] = False
    found = detect(write_raster("masked.tif", pixels, mask=mask))
    assert _pixel_boxes(found).tolist() == [[10, 10, 22, 22]]


def test_a_crowded_window_is_split_not_truncated(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model(chip_px=256, overlap_px=32, detections_per_chip=10)
    pixels, boxes = field_of_objects(256, 256)
    done = detect_to_files(write_raster("crowd.tif", pixels), [tmp_path / "crowd.gpkg"])
    assert len(boxes) > 10 * HEADROOM
    np.testing.assert_allclose(
        _pixel_boxes(gpd.read_file(tmp_path / "crowd.gpkg")), _sorted(boxes), atol=0.002
    )
    assert done.counts.windows_split > 0
    assert done.counts.windows_saturated == 0


def test_aoi_limits_the_work(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    detector = blob_model()
    pixels, boxes = field_of_objects(400, 400)
    area = shapely.box(500_000, 5_399_990, 500_010, 5_400_000)  # upper left 100 x 100 px
    gpd.GeoSeries([area], crs="EPSG:32633").to_file(tmp_path / "area.gpkg")
    found = detect(write_raster("aoi.tif", pixels), aoi=str(tmp_path / "area.gpkg"))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = boxes[(centres <= 100).all(axis=1)]
    np.testing.assert_allclose(_pixel_boxes(found), _sorted(inside), atol=0.002)
    assert detector.calls <= 9


def test_aoi_may_be_a_table(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, _ = field_of_objects(400, 400)
    path = write_raster("aoi.tif", pixels)
    area = shapely.box(500_000, 5_399_980, 500_020, 5_400_000)
    stands = gpd.GeoDataFrame(
        {"age": [3, 80]}, geometry=[shapely.Point(0, 0), area], crs="EPSG:32633"
    )
    stands.to_file(tmp_path / "stands.gpkg")
    found = detect(path, aoi=tmp_path / "stands.gpkg")
    assert 0 < len(found) < len(detect(path))
    assert_geodataframe_equal(detect(path, aoi=stands), found)
    assert_geodataframe_equal(detect(path, aoi=stands.geometry.to_crs(4326)), found)
    for lacks_crs in (area, stands.set_crs(None, allow_override=True)):
        with pytest.raises(AoiError, match="with a CRS as aoi, got a "):
            detect(path, aoi=lacks_crs)


def test_resampled_raster_keeps_its_places(
    blob_model: BlobModel, write_raster: WriteRaster
) -> None:
    blob_model()
    pixels = np.full((3, 120, 120), 20, dtype=np.uint8)
    pixels[:, 40:60, 70:90] = 220
    found = detect(write_raster("fine.tif", pixels, gsd=0.05))
    np.testing.assert_allclose(_pixel_boxes(found, 0.05), [[70, 40, 90, 60]], atol=1.01)


def test_outputs_agree_and_ids_are_stable(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, boxes = field_of_objects(200, 200)
    path = write_raster("field.tif", pixels)
    detect_to_files(path, [tmp_path / "a.geojson", tmp_path / "a.gpkg"])
    detect_to_files(path, [tmp_path / "b.geojson"], options=DetectOptions(chip_px=128))
    lonlat, native = gpd.read_file(tmp_path / "a.geojson"), gpd.read_file(tmp_path / "a.gpkg")
    other = gpd.read_file(tmp_path / "b.geojson")
    assert len(native) == len(boxes)
    assert set(lonlat["id"]) == set(native["id"]) == set(other["id"])
    assert lonlat.to_crs(native.crs).geometry.distance(native.geometry).max() < 0.02


@pytest.fixture
def loaded(blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch) -> Model:
    blob_model()
    monkeypatch.setattr("geo_retina.detection.backends.read_info", job.read_info)
    return load_model("blobs")


def test_a_loaded_model_runs_on_many_rasters_and_is_not_loaded_again(
    loaded: Model,
    write_raster: WriteRaster,
    tmp_path: Path,
    field_of_objects: Field,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rasters = [write_raster(f"{seed}.tif", field_of_objects(200, 90)[0]) for seed in range(2)]
    by_name = [detect(raster, model="blobs") for raster in rasters]
    monkeypatch.delattr("geo_retina.detection.backends.load_backend")

    for raster, expected in zip(rasters, by_name, strict=True):
        assert_geodataframe_equal(detect(raster, model=loaded), expected)
        detect_to_files(raster, [tmp_path / "found.gpkg"], model=loaded)
        assert len(gpd.read_file(tmp_path / "found.gpkg")) == len(expected) > 0


def test_a_loaded_model_is_called_by_what_was_loaded(
    loaded: Model, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    path = write_raster("field.tif", field_of_objects(90, 90)[0])
    detect_to_files(path, [tmp_path / "a.geojson"], model=loaded)
    loaded.file.write_bytes(b"other weights")
    detect_to_files(path, [tmp_path / "b.geojson"], model=loaded)
    detect_to_files(path, [tmp_path / "c.geojson"], model="blobs")

    a, b, c = (json.loads((tmp_path / f"{name}.geojson").read_text()) for name in "abc")
    assert a.keys() == b.keys() == c.keys()
    assert [a[key] for key in a if key != "features"] == [b[key] for key in b if key != "features"]
    assert [a[key] for key in a if key != "features"] != [c[key] for key in c if key != "features"]


def test_what_has_no_effect_on_a_loaded_model_is_refused(
    loaded: Model, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    path = write_raster("field.tif", field_of_objects(90, 90)[0])

    with pytest.raises(ConfigError, match=r"backend='torch'.*give them to load_model"):
        detect(path, model=loaded, backend="torch")
    with pytest.raises(ConfigError, match=r"batch=3 .*give them to load_model"):
        detect_to_files(path, [tmp_path / "a.gpkg"], model=loaded, work=WorkOptions(batch=3))
    assert not list(tmp_path.glob("a.gpkg*"))


def test_unreadable_window_keeps_what_was_done(
    blob_model: BlobModel,
    write_raster: WriteRaster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field_of_objects: Field,
) -> None:
    from geo_retina.imagery.source import ChipSource

    blob_model()
    pixels, boxes = field_of_objects(200, 200)
    path, out = write_raster("bad.tif", pixels), tmp_path / "bad.geojson"
    read = ChipSource.read

    def failing(self: ChipSource, window: Any) -> Any:
        if window.row_off == 136 and window.col_off == 0:
            raise RasterReadError(f"cannot read {window}")
        return read(self, window)

    monkeypatch.setattr(ChipSource, "read", failing)
    with pytest.raises(RasterReadError, match="row_off=136"):
        detect_to_files(path, [out])
    assert not out.exists()
    with pytest.raises(LedgerError, match="--resume"):
        detect_to_files(path, [out])

    skipped = detect_to_files(path, [out], work=WorkOptions(resume=True, skip_errors=True))
    assert skipped.counts.windows_failed == 1
    assert len(gpd.read_file(str(skipped.failed_windows_file))) == 1
    assert 0 < len(gpd.read_file(out)) < len(boxes)
    assert not Path(f"{out}.ledger").exists()


def test_resumed_run_ends_in_the_same_bytes(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, _ = field_of_objects(300, 600)
    path = write_raster("field.tif", pixels)
    whole, broken = tmp_path / "whole.geojson", tmp_path / "broken.geojson"
    detect_to_files(path, [whole])

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(path, [broken], on_progress=interrupt)
    assert not broken.exists()
    detect_to_files(path, [broken], work=WorkOptions(resume=True))
    assert broken.read_bytes() == whole.read_bytes()


def test_resume_refuses_another_job(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, _ = field_of_objects(300, 300)
    path, out = write_raster("field.tif", pixels), tmp_path / "out.geojson"

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(path, [out], on_progress=interrupt)
    with pytest.raises(LedgerError, match="score"):
        detect_to_files(
            path, [out], options=DetectOptions(score=0.9), work=WorkOptions(resume=True)
        )


def test_resume_refuses_another_tile_of_a_mosaic_of_mosaics(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, _ = field_of_objects(300, 300)
    tile, out = write_raster(tmp_path / "tile.tif", pixels), tmp_path / "out.geojson"
    write_mosaic([str(tile)], tmp_path / "row.vrt")
    write_mosaic([str(tmp_path / "row.vrt")], tmp_path / "all.vrt")

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(tmp_path / "all.vrt", [out], on_progress=interrupt)
    write_raster(tile, pixels[:, ::-1])
    with pytest.raises(LedgerError, match=r"raster\.files"):
        detect_to_files(tmp_path / "all.vrt", [out], work=WorkOptions(resume=True))


def test_resume_refuses_another_aoi_of_the_same_file(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    """The CRS of a Shapefile stands in a file beside it."""
    blob_model()
    path, out = write_raster("field.tif", field_of_objects(300, 300)[0]), tmp_path / "out.geojson"
    aoi = tmp_path / "aoi.shp"
    area = gpd.GeoSeries([shapely.box(5e5, 5.4e6 - 30, 5e5 + 30, 5.4e6)], crs="EPSG:32633")
    area.to_file(aoi)

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    options = DetectOptions(aoi=str(aoi))
    with pytest.raises(KeyboardInterrupt):
        detect_to_files(path, [out], options=options, on_progress=interrupt)
    aoi.with_suffix(".prj").write_text(pyproj.CRS("EPSG:32633").to_wkt("WKT1_ESRI"))
    detect_to_files(path, [out], options=options, work=WorkOptions(resume=True))
    with pytest.raises(KeyboardInterrupt):
        detect_to_files(path, [out], options=options, on_progress=interrupt)
    aoi.with_suffix(".prj").write_text(pyproj.CRS("EPSG:32733").to_wkt("WKT1_ESRI"))
    with pytest.raises(LedgerError, match="aoi_hash"):
        detect_to_files(path, [out], options=options, work=WorkOptions(resume=True))


@pytest.mark.parametrize("aoi", ["aoi", "aoi.vrt", "GPKG:aoi/stand.gpkg"])
def test_no_output_takes_the_place_of_what_an_aoi_shows(
    blob_model: BlobModel,
    write_raster: WriteRaster,
    tmp_path: Path,
    field_of_objects: Field,
    monkeypatch: pytest.MonkeyPatch,
    aoi: str,
) -> None:
    detector = blob_model()
    monkeypatch.chdir(tmp_path)
    path = write_raster("field.tif", field_of_objects(100, 100)[0])
    stand = tmp_path / "aoi" / ("stand.shp" if aoi == "aoi" else "stand.gpkg")
    stand.parent.mkdir()
    area = gpd.GeoSeries([shapely.box(5e5, 5.4e6 - 9, 5e5 + 9, 5.4e6)], crs="EPSG:32633")
    area.to_file(stand)
    source = '<SrcDataSource relativeToVRT="1">aoi/stand.gpkg</SrcDataSource>'
    Path("aoi.vrt").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="stand">{source}</OGRVRTLayer></OGRVRTDataSource>'
    )
    before = stand.read_bytes()

    with pytest.raises(OutputError, match="would be overwritten, and it is read"):
        detect_to_files(path, [stand], options=DetectOptions(aoi=aoi))
    assert stand.read_bytes() == before
    assert detector.calls == 0
    detect_to_files(path, [tmp_path / "found.gpkg"], options=DetectOptions(aoi=aoi))


def test_bad_outputs_are_refused_before_work(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    detector = blob_model()
    path = write_raster("field.tif", field_of_objects(100, 100)[0])
    for name in ("out.xyz", "missing/out.gpkg"):
        with pytest.raises(OutputError):
            detect_to_files(path, [tmp_path / name])
    for one in (tmp_path / "out.gpkg", str(tmp_path / "out.gpkg")):
        with pytest.raises(OutputError, match=r"expected a list of output files, got one: give \["):
            detect_to_files(path, one)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="expected the path of an output file, got None"):
        detect_to_files(path, [None])  # type: ignore[list-item]
    assert detector.calls == 0


def test_progress_is_told_to_a_function(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path
) -> None:
    detector = blob_model()
    path = write_raster("field.tif", np.zeros((3, 64, 64), np.uint8))
    output = tmp_path / "out.gpkg"
    with pytest.raises(ConfigError, match="expected a function as on_progress, got 3"):
        detect(path, on_progress=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a function as on_progress, got 3"):
        detect_to_files(path, [output], on_progress=3)  # type: ignore[arg-type]
    assert detector.calls == 0


def test_summary_is_plain_data(
    blob_model: BlobModel, write_raster: WriteRaster, tmp_path: Path, field_of_objects: Field
) -> None:
    blob_model()
    pixels, boxes = field_of_objects(200, 200)
    done = detect_to_files(write_raster("field.tif", pixels), [tmp_path / "out.gpkg"])
    plain = json.loads(json.dumps(done.to_dict()))
    assert plain["objects_by_class"] == {"tree": len(boxes)}
    assert plain["counts"]["windows_inferred"] == done.windows


def test_an_unknown_option_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"geo_retina\.detect has no option 'geometry', 'crs'"
    ) as raised:
        detect(tmp_path / "a.tif", geometry="point", crs="EPSG:4326")
    assert "score, class_scores, nms_iou" in str(raised.value)
    assert "detect_to_files(..., output_options=OutputOptions(...))" in str(raised.value)


def test_the_docstring_names_every_option() -> None:
    missing = [
        field.name
        for field in fields(DetectOptions)
        if f"`{field.name}`" not in str(detect.__doc__)
    ]
    assert not missing


@pytest.mark.parametrize("method", ["nms", "nms-ios", "soft-nms", "wbf"])
def test_no_method_leaves_scores_under_the_least_one(
    blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field, method: str
) -> None:
    """Windows overlap, so that most objects are found twice or four times."""
    blob_model()
    pixels, boxes = field_of_objects(200, 200)  # scores from 150 / 255 up
    raster = write_raster("field.tif", pixels)
    found = detect(raster, method=method, score=0.58, chip_px=80, overlap_px=40)
    assert len(found) == len(boxes)
    assert found["score"].min() >= 0.58


def test_options_may_come_from_numpy_and_pathlib(
    blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field, tmp_path: Path
) -> None:
    blob_model()
    raster = write_raster("field.tif", field_of_objects(100, 100)[0])
    aoi = tmp_path / "aoi.gpkg"
    gpd.GeoSeries([shapely.box(5e5, 5.4e6 - 10, 5e5 + 5, 5.4e6)], crs="EPSG:32633").to_file(aoi)
    given = DetectOptions(
        score=np.float32(0.25),  # type: ignore[arg-type]
        chip_px=np.int64(80),  # type: ignore[arg-type]
        overlap_px=20,
        bands=np.array([3, 2, 1]),  # type: ignore[arg-type]
        aoi=aoi,  # type: ignore[arg-type]
    )
    plain = DetectOptions(score=0.25, chip_px=80, overlap_px=20, bands=(3, 2, 1), aoi=str(aoi))
    assert given == plain
    done = detect_to_files(raster, [tmp_path / "a.gpkg"], options=given)
    assert done.counts.objects > 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_agnostic": "no"},
        {"score": True},
        {"score": "0.3"},
        {"chip_px": True},
        {"aoi": b"a.gpkg"},
        {"class_scores": {"tree": "0.3"}},
        {"score": "high"},
        {"chip_px": 512.5},
        {"aoi": 3},
        {"bands": 3},
        {"scale": (0, "x")},
        {"scale": (0,)},
        {"stretch": (2, 50, 98)},
        {"score": np.True_},
    ],
)
def test_options_of_another_kind_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"as {name}, got"):
        DetectOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"resume": "no"}, {"skip_errors": 1}, {"batch": "2"}, {"readers": 1.5}]
)
def test_how_the_work_is_done_is_checked_when_it_is_said(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"as {name}, got"):
        WorkOptions(**wrong)
    with pytest.raises(ConfigError, match="batch must be a whole number of at least 1, got 0"):
        WorkOptions(batch=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {"score": 0.4}},
        {"options": WorkOptions()},
        {"work": {"resume": True}},
        {"output_options": DetectOptions()},
    ],
)
def test_options_in_the_place_of_others_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"expected \w+Options\(\.\.\.\) as {name}, got "):
        detect_to_files(tmp_path / "field.tif", [tmp_path / "a.gpkg"], **wrong)


@pytest.mark.parametrize("raster", [None, 3, b"a.tif", ["a.tif"], np.zeros((3, 64, 64), np.uint8)])
def test_what_is_no_path_is_no_raster(raster: Any, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"expected the path of one raster, got .*detect_chip"):
        detect(raster)
    with pytest.raises(RasterError, match=r"expected the path of one raster, got .*detect_chip"):
        detect_to_files(raster, [tmp_path / "a.gpkg"])


@pytest.mark.parametrize("model", [None, 3, b"tree-crowns", DetectOptions()])
def test_what_is_no_path_is_no_model(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected the name of a bundled model or the path"):
        detect(tmp_path / "field.tif", model=model)


def test_least_scores_of_classes(
    blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field, make_card: MakeCard
) -> None:
    card = make_card(class_names=("tree", "car"), score=0.3)
    limits = DetectOptions(class_scores=(("car", 0.1),)).thresholds(card)
    assert (limits.score, limits.class_scores) == (0.1, (0.3, 0.1))
    assert DetectOptions(score=0.5).thresholds(card).class_scores is None
    learned = make_card(class_names=("tree", "car"), score=0.3, class_scores={"tree": 0.2})
    assert DetectOptions().thresholds(learned).class_scores == (0.2, 0.3)
    assert DetectOptions().thresholds(learned).score == 0.2
    assert DetectOptions(class_scores=(("car", 0.1),)).thresholds(learned).class_scores == (
        0.2,
        0.1,
    )
    assert DetectOptions(score=0.5).thresholds(learned).score == 0.5
    assert DetectOptions(score=0.5).thresholds(learned).class_scores is None
    with pytest.raises(ConfigError, match=r"names bus; .* finds tree, car"):
        DetectOptions(class_scores=(("bus", 0.1),)).thresholds(card)
    with pytest.raises(ConfigError, match="least score of car must lie in 0 to 1, got 2"):
        DetectOptions(class_scores=(("car", 2),))

    blob_model()
    raster = write_raster("field.tif", field_of_objects(200, 100)[0])
    everything = detect(raster)
    for method in ("nms", "soft-nms"):
        found = detect(raster, class_scores={"tree": 0.8}, method=method, chip_px=80, overlap_px=40)
        assert len(found) == (everything["score"] >= 0.8).sum() > 3
