from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.training.split_map import SPLIT_NAME, warn_of_changes, write_split_map


def test_the_ground_of_each_side_is_written(
    tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    placed = write_raster("a.tif", np.zeros((1, 100, 200), np.uint8))
    plain = write_raster("b.tif", np.zeros((1, 9, 9), np.uint8), crs=None)
    labels = Labels.empty(["tree"])
    half = shapely.box(0, 0, 100, 100)
    path = write_split_map(
        tmp_path,
        [
            LabelledRaster(str(placed), labels, "site", "train", area=half),
            LabelledRaster(str(placed), labels, "site", "val"),
            LabelledRaster(str(plain), labels, split="train"),
        ],
    )
    found = gpd.read_file(path)
    assert found.crs == "EPSG:4326"
    assert found["split"].tolist() == ["train", "val", "train"]
    square_m = found.geometry.to_crs(32633).area
    assert square_m[0] == pytest.approx(100, rel=2e-3)
    assert square_m[1] == pytest.approx(200, rel=2e-3)
    assert found.geometry[2] is None


def test_a_raster_of_unknown_place_has_no_geometry(
    tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    pixels = np.zeros((1, 9, 9), np.uint8)
    plain = write_raster("plain.tif", pixels, crs=None)
    half = write_raster("half.tif", pixels, transform=Affine.identity())  # a CRS alone
    local = write_raster("local.tif", pixels, crs='LOCAL_CS["site",UNIT["metre",1]]')
    off = write_raster("off.tif", pixels, transform=Affine.translation(9e9, 9e9))
    paths = (plain, half, local, off)
    rasters = [LabelledRaster(str(path), Labels.empty(["tree"])) for path in paths]
    assert gpd.read_file(write_split_map(tmp_path, rasters)).geometry.isna().all()


def test_a_run_that_goes_on_with_other_data_is_told(
    tmp_path: Path, write_raster: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raster("a.tif", np.zeros((1, 9, 9), np.uint8))
    one = Labels.of([[1, 1, 5, 5]], [0], ["tree"])
    began = [LabelledRaster(str(path), one, split=split) for split in ("train", "val")]
    write_split_map(tmp_path, began)
    warn_of_changes(tmp_path, [replace(item, raster=f"moved/{path.name}") for item in began])
    assert not caplog.messages
    warn_of_changes(tmp_path, [began[0], replace(began[1], labels=Labels.empty(["tree"]))])
    assert "changed since the run began: a.tif; " in caplog.text
    caplog.clear()
    (tmp_path / SPLIT_NAME).write_text("[]")
    warn_of_changes(tmp_path, began)
    assert not caplog.messages
