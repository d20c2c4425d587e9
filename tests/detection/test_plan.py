import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from fixture_types import BlobModel, WriteRaster

from geo_retina.detection import plan
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.plan import MOST_WINDOWS_CHECKED, describe_raster, describe_work


def test_info_tells_what_the_raster_is_and_what_would_be_done(
    write_raster: WriteRaster, blob_model: BlobModel
) -> None:
    detector = blob_model()
    path = write_raster(
        "fine.tif",
        np.zeros((4, 300, 400), np.uint8),
        gsd=0.05,
        nodata=255,
        descriptions=["nir", "red", "green", "blue"],
    )
    with open_job(path, "blobs", DetectOptions(bands=(2, 3, 4), scale=(10, 90))) as job:
        shown = json.loads(json.dumps(describe_raster(job).to_dict()))
    assert (shown["width"], shown["height"], shown["megapixels"]) == (400, 300, 0.12)
    assert shown["bands"] == ["nir", "red", "green", "blue"]
    assert shown["bands_read"] == [2, 3, 4]
    assert shown["values_shown"] == [[10, 90]] * 3
    assert shown["gsd_m"] == pytest.approx([0.05, 0.05], rel=1e-3)
    assert shown["resampled_to"] == pytest.approx([200, 150], abs=1)
    assert not shown["all_valid"]
    assert shown["windows"] == 4 * 3
    assert shown["strips"] == 3
    assert shown["readers"] == 1
    assert detector.calls == 0


def test_plan_counts_what_there_is_to_do(write_raster: WriteRaster, blob_model: BlobModel) -> None:
    detector = blob_model(batch=2)
    mask = np.zeros((200, 400), np.bool_)
    mask[:, :200] = True
    path = write_raster("half.tif", np.zeros((3, 200, 400), np.uint8), mask=mask)
    with open_job(path, "blobs", DetectOptions(overlap_px=0)) as job:
        work = describe_work(job, detector)
        windows = [job.plan.window(number) for number in range(len(job.plan))]
    touched = [window for window in windows if window.col_off < 200]
    assert (work.windows, work.windows_to_infer) == (len(windows), len(touched))
    assert not work.is_estimate
    assert work.megapixels_to_infer == pytest.approx(len(touched) * 64**2 / 1e6)
    assert work.valid_megapixels == pytest.approx(0.04, rel=0.15)
    assert work.block_cache_mib == 16
    assert work.memory_mib is not None
    assert work.memory_mib > work.block_cache_mib
    assert work.minutes is not None
    assert work.minutes > 0
    assert detector.calls == 4, "one batch to warm up, one to be timed"


@pytest.mark.parametrize(("chip_px", "overlap_px"), [(64, 0), (64, 48), (150, 20), (390, 0)])
def test_pixels_that_windows_share_are_valid_once(
    write_raster: WriteRaster, blob_model: BlobModel, chip_px: int, overlap_px: int
) -> None:
    blob_model()
    mask = np.zeros((200, 400), np.bool_)
    mask[30:, :210] = True
    path = write_raster("part.tif", np.zeros((3, 200, 400), np.uint8), mask=mask)
    with open_job(path, "blobs", DetectOptions(chip_px=chip_px, overlap_px=overlap_px)) as job:
        work = describe_work(job)
    assert work.valid_megapixels == pytest.approx(mask.sum() / 1e6)


def test_the_time_is_that_of_all_windows(
    write_raster: WriteRaster, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = blob_model(batch=2)
    monkeypatch.setattr(plan, "_seconds_per_chip", lambda *_: 30.0)
    path = write_raster("a.tif", np.zeros((3, 128, 192), np.uint8))
    with open_job(path, "blobs", DetectOptions(overlap_px=0, chip_px=64)) as job:
        work = describe_work(job, detector)
    assert work.windows_to_infer == 6
    assert work.minutes == 3


def test_plan_respects_the_aoi(
    write_raster: WriteRaster, blob_model: BlobModel, tmp_path: Path
) -> None:
    blob_model()
    path = write_raster("rgb.tif", np.zeros((3, 640, 640), np.uint8))
    corner = shapely.box(500_000, 5_399_997, 500_003, 5_400_000)  # 30 x 30 px
    gpd.GeoSeries([corner], crs="EPSG:32633").to_file(tmp_path / "aoi.gpkg")
    options = DetectOptions(aoi=str(tmp_path / "aoi.gpkg"), overlap_px=0)
    with open_job(path, "blobs", options) as job:
        work = describe_work(job)
    assert work.windows_to_infer == 1
    assert work.valid_megapixels == pytest.approx(64**2 / 1e6)
    assert work.minutes is work.memory_mib is None


def test_large_plans_are_told_from_a_sample(
    write_raster: WriteRaster, blob_model: BlobModel, monkeypatch: Any
) -> None:
    from geo_retina.imagery.source import ChipSource

    blob_model()
    looked = 0
    share = ChipSource.valid_share

    def counted(self: ChipSource, window: Any) -> float:
        nonlocal looked
        looked += 1
        return share(self, window)

    monkeypatch.setattr(ChipSource, "valid_share", counted)
    mask = np.zeros((1500, 1500), np.bool_)
    mask[:750] = True
    path = write_raster("wide.tif", np.zeros((3, 1500, 1500), np.uint8), mask=mask)
    with open_job(path, "blobs", DetectOptions(overlap_px=0)) as job:
        monkeypatch.setattr("geo_retina.detection.plan.MOST_WINDOWS_CHECKED", 60)
        work = describe_work(job)
    assert MOST_WINDOWS_CHECKED >= 60
    assert looked == 60
    assert work.is_estimate
    assert work.windows == 24 * 24
    assert work.windows_to_infer == pytest.approx(24 * 12, rel=0.15)
    assert work.valid_megapixels == pytest.approx(1.125, rel=0.15)
