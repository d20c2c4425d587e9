"""Damaged rasters: what was done stays, the error names the window, holes are told."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from fixture_types import BlobModel, WriteRaster
from PIL import Image

from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.holes import holes_path
from geo_retina.detection.options import WorkOptions
from geo_retina.errors import ConfigError, LedgerError, RasterReadError, WriteError
from geo_retina.viewing.overlay import PictureWriter

Field = Callable[..., tuple[Any, Any]]


@pytest.fixture
def truncated(write_raster: WriteRaster, field_of_objects: Field) -> Path:
    """A TIFF of 200 x 600 pixels that ends after three quarters of its rows."""
    path = write_raster("cut.tif", field_of_objects(200, 600)[0], blockysize=4, interleave="pixel")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    return path


def test_a_truncated_file_names_the_window_and_how_to_go_on(
    truncated: Path, blob_model: BlobModel, tmp_path: Path
) -> None:
    detector, out = blob_model(), tmp_path / "a.geojson"
    with pytest.raises(RasterReadError, match=r"row 4\d\d.*--resume.*--skip-errors"):
        detect_to_files(truncated, [out])
    assert not out.exists()
    assert Path(f"{out}.ledger").exists()

    before = detector.calls
    with pytest.raises(RasterReadError, match=r"row 4\d\d"):
        detect_to_files(truncated, [out], work=WorkOptions(resume=True))
    assert detector.calls - before < before / 2, "only the strip that broke is done again"


def test_skipped_windows_become_features(
    truncated: Path, blob_model: BlobModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blob_model()
    out = tmp_path / "a.gpkg"
    with caplog.at_level(logging.WARNING):
        done = detect_to_files(truncated, [out], work=WorkOptions(skip_errors=True))
    holes = gpd.read_file(str(done.failed_windows_file))
    assert done.counts.windows_failed == len(holes) > 0
    assert len(holes) > 6
    assert caplog.text.count("skipped: ") == 6
    assert f"skipped: {len(holes) - 5} more windows" in caplog.text
    assert set(holes["class"]) == {"failed_window"}
    assert done.counts.windows_failed + done.counts.windows_inferred == done.windows
    found = gpd.read_file(out)
    whole_rows = found.union_all().bounds[1]
    assert holes.union_all().bounds[1] < whole_rows, "the holes reach to the raster's foot"
    assert json.loads(json.dumps(done.to_dict()))["failed_windows_file"] == str(holes_path(out))


def test_holes_are_the_same_after_a_break(
    truncated: Path, blob_model: BlobModel, tmp_path: Path
) -> None:
    """Failed windows of earlier strips come from the ledger."""
    blob_model()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    first = detect_to_files(truncated, [whole / "a.csv"], work=WorkOptions(skip_errors=True))

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > 0.9 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(
            truncated,
            [broken / "a.csv"],
            work=WorkOptions(skip_errors=True),
            on_progress=interrupt,
        )
    again = detect_to_files(
        truncated, [broken / "a.csv"], work=WorkOptions(skip_errors=True, resume=True)
    )
    assert again.counts == first.counts
    assert again.seams == first.seams
    for name in ("a.csv", "a.failed_windows.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_holes_of_an_earlier_run_are_cleared_away(
    truncated: Path,
    blob_model: BlobModel,
    write_raster: WriteRaster,
    field_of_objects: Field,
    tmp_path: Path,
) -> None:
    blob_model()
    out = tmp_path / "a.geojson"
    detect_to_files(truncated, [out], work=WorkOptions(skip_errors=True))
    assert holes_path(out).exists()
    whole = write_raster("whole.tif", field_of_objects(200, 200)[0])
    done = detect_to_files(whole, [out])
    assert done.failed_windows_file is None
    assert not holes_path(out).exists()


def test_a_vrt_whose_source_changed_is_another_raster(
    blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field, tmp_path: Path
) -> None:
    blob_model()
    source = write_raster("part.tif", field_of_objects(200, 300)[0])
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">{source.name}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    vrt, out = tmp_path / "whole.vrt", tmp_path / "a.geojson"
    vrt.write_text(
        '<VRTDataset rasterXSize="200" rasterYSize="300"><SRS>EPSG:32633</SRS><GeoTransform>'
        f"500000,0.1,0,5400000,0,-0.1</GeoTransform>{bands}</VRTDataset>"
    )

    def interrupt(done: float, total: float, _found: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(vrt, [out], on_progress=interrupt)
    write_raster(source.name, np.zeros((3, 300, 200), np.uint8))
    with pytest.raises(LedgerError, match=r"raster\.files"):
        detect_to_files(vrt, [out], work=WorkOptions(resume=True))
    assert detect_to_files(vrt, [out], work=WorkOptions(restart=True)).counts.objects == 0


def test_a_run_that_did_nothing_leaves_no_ledger(
    truncated: Path, blob_model: BlobModel, tmp_path: Path
) -> None:
    blob_model()

    def interrupt(_done: float, _total: float, _found: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_to_files(truncated, [tmp_path / "a.csv"], on_progress=interrupt)
    assert not list(tmp_path.glob("*a.csv*"))


def test_resume_and_restart_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="one of"):
        WorkOptions(resume=True, restart=True)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("readers", [1, 2, 5])
def test_the_result_does_not_depend_on_readers_and_batch(
    readers: int,
    batch: int,
    blob_model: BlobModel,
    write_raster: WriteRaster,
    field_of_objects: Field,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster("field.tif", field_of_objects(500, 300)[0], **layout)
    blob_model()
    detect_to_files(path, [tmp_path / "plain.csv"])
    monkeypatch.setattr("geo_retina.detection.reading.MOST_READERS", readers)
    blob_model(batch=batch)
    detect_to_files(path, [tmp_path / "other.csv"])
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_progress_moves_window_by_window(
    blob_model: BlobModel, write_raster: WriteRaster, field_of_objects: Field, tmp_path: Path
) -> None:
    """From nothing done, also on a raster of one strip."""
    blob_model()
    path = write_raster("wide.tif", field_of_objects(1000, 60)[0])
    told: list[tuple[float, float, int]] = []
    done = detect_to_files(
        path, [tmp_path / "a.csv"], on_progress=lambda *values: told.append(values)
    )
    megapixels = [values[0] for values in told]
    assert done.windows == 21
    assert sorted(set(megapixels)) == pytest.approx([0.06 * number / 21 for number in range(22)])
    assert megapixels == sorted(megapixels)
    assert told[-1] == pytest.approx((0.06, 0.06, done.counts.objects))


def test_a_picture_is_drawn_of_what_can_be_read(
    truncated: Path, blob_model: BlobModel, tmp_path: Path
) -> None:
    blob_model()
    picture, out = tmp_path / "a.png", tmp_path / "a.gpkg"
    strict = PictureWriter(picture, truncated)
    told = r"cut.tif cannot be read for a picture or a map.*--skip-errors"
    with pytest.raises(RasterReadError, match=told):
        detect_to_files(truncated, [out], also=[strict])
    assert not Path(f"{out}.ledger").exists(), "nothing was computed"
    lenient = PictureWriter(picture, truncated, skip_errors=True)
    done = detect_to_files(truncated, [out], work=WorkOptions(skip_errors=True), also=[lenient])
    assert done.counts.objects > 0
    with Image.open(picture) as drawn:
        pixels = np.asarray(drawn.convert("L"))
    assert pixels[: len(pixels) // 2].any()
    assert not pixels[-len(pixels) // 8 :].any()


def test_no_output_appears_where_the_picture_fails(
    write_raster: WriteRaster, field_of_objects: Field, blob_model: BlobModel, tmp_path: Path
) -> None:
    blob_model()
    path = write_raster("a.tif", field_of_objects(120, 100)[0])
    picture, out = tmp_path / "pictures" / "a.png", tmp_path / "a.gpkg"
    picture.parent.mkdir()
    writer = PictureWriter(picture, path)
    picture.parent.rmdir()
    with pytest.raises(WriteError, match="--resume"):
        detect_to_files(path, [out], also=[writer])
    assert not out.exists()
    picture.parent.mkdir()
    detect_to_files(path, [out], work=WorkOptions(resume=True), also=[writer])
    assert out.exists()
    assert picture.exists()


def test_a_whole_run_clears_away_all_that_told_of_holes(
    truncated: Path,
    blob_model: BlobModel,
    write_raster: WriteRaster,
    field_of_objects: Field,
    tmp_path: Path,
) -> None:
    blob_model()
    out = tmp_path / "a.shp"
    detect_to_files(truncated, [out], work=WorkOptions(skip_errors=True))
    assert len(list(tmp_path.glob("a.failed_windows.*"))) > 3
    whole = write_raster("whole.tif", field_of_objects(200, 600)[0])
    detect_to_files(whole, [out])
    assert not list(tmp_path.glob("a.failed_windows.*"))


@pytest.mark.parametrize(
    ("output", "holes"),
    [("a.gpkg", "a.failed_windows.gpkg"), ("b.c.coco.json", "b.c.failed_windows.coco.json")],
)
def test_holes_have_the_format_of_their_output(output: str, holes: str) -> None:
    assert holes_path(output) == Path(holes)
