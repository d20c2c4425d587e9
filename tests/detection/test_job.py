import logging
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from fixture_types import BlobModel, WriteRaster
from rasterio.env import get_gdal_config

from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.errors import AoiError, ConfigError
from geo_retina.imagery.gdal import SMALLEST_BLOCK_CACHE_BYTES
from geo_retina.model.thresholds import Thresholds


@pytest.fixture
def rgb(write_raster: WriteRaster) -> Path:
    return write_raster("rgb.tif", np.zeros((3, 100, 200), np.uint8))


def test_a_job_is_the_raster_the_model_and_the_plan(rgb: Path, blob_model: BlobModel) -> None:
    detector = blob_model()
    with open_job(rgb, "blobs", DetectOptions(chip_px=96)) as job:
        assert job.raster_path == str(rgb)
        assert (job.plan.width, job.plan.height) == (200, 100)
        assert (job.plan.chip_px, job.plan.overlap_px) == (96, 16)
        assert job.aoi is None
        assert job.card == detector.card
    assert detector.calls == 0


def test_chips_and_their_limits_grow_with_the_raster(
    rgb: Path, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob_model(candidates_per_level=1000, detections_per_chip=501)
    monkeypatch.setattr("geo_retina.detection.chip_size.LARGEST_GROWTH", 2)
    with open_job(rgb, "blobs", DetectOptions(score=0.7)) as job:
        assert (job.plan.chip_px, len(job.plan)) == (128, 2)
        assert job.thresholds == Thresholds(0.7, 0.5, 4000, 2004)
    with open_job(rgb, "blobs", DetectOptions(chip_px=96)) as job:
        assert job.thresholds == Thresholds(0.3, 0.5, 2250, 1128)


def test_limits_never_shrink() -> None:
    assert Thresholds(0.3, 0.5, 10, 7).with_limits_times(0.2) == Thresholds(0.3, 0.5, 10, 7)


def test_the_block_cache_is_bounded_while_the_job_is_open(rgb: Path, blob_model: BlobModel) -> None:
    blob_model()
    before = int(get_gdal_config("GDAL_CACHEMAX"))
    with open_job(rgb, "blobs", DetectOptions()):
        assert int(get_gdal_config("GDAL_CACHEMAX")) == SMALLEST_BLOCK_CACHE_BYTES
    assert int(get_gdal_config("GDAL_CACHEMAX")) == before


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (DetectOptions(method="magic"), ConfigError, "magic"),
        (DetectOptions(chip_px=32), ConfigError, "at least 64 px"),
        (DetectOptions(chip_px=64, overlap_px=64), ConfigError, "smaller than the chip"),
        (DetectOptions(aoi=""), AoiError, "empty text"),
    ],
)
def test_wrong_options_are_found_before_anything_runs(
    options: DetectOptions, error: type[Exception], said: str, rgb: Path, blob_model: BlobModel
) -> None:
    blob_model()
    with pytest.raises(error, match=said), open_job(rgb, "blobs", options):
        pass


@pytest.mark.parametrize(("overlap_px", "warned"), [(15, True), (16, False)])
def test_an_overlap_under_the_models_is_warned_of(
    overlap_px: int,
    warned: bool,
    rgb: Path,
    blob_model: BlobModel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blob_model()
    with (
        caplog.at_level(logging.WARNING),
        open_job(rgb, "blobs", DetectOptions(overlap_px=overlap_px)),
    ):
        pass
    assert ("found in pieces" in caplog.text) is warned


def test_an_aoi_beside_the_raster_is_warned_of(
    rgb: Path, blob_model: BlobModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blob_model()
    far = tmp_path / "far.gpkg"
    gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:32633").to_file(far)
    with open_job(rgb, "blobs", DetectOptions(aoi=str(far))) as job:
        assert job.aoi is not None
        assert job.aoi.is_empty
    assert "lies outside" in caplog.text
