from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geo_retina.imagery.raster import open_raster
from geo_retina.labels.raster_kinds import RasterKind, blank_note, unlike_gsd, unlike_rasters

RGB = RasterKind(3, "uint8", 0.1)
BOXES = np.array([[5.0, 5, 15, 15], [60, 60, 70, 70]])
BEYOND = np.array([[500.0, 500, 510, 510]])


def test_rasters_of_one_kind() -> None:
    assert unlike_rasters({}) == ()
    assert unlike_rasters({"a.tif": RGB, "b.tif": RGB}) == ()
    assert unlike_gsd({}) == ""
    plain = RasterKind(3, "uint8", None)
    assert unlike_gsd({"a.png": plain, "b.tif": RGB}) == ""


def test_the_few_are_named() -> None:
    kinds = {f"x/{name}.tif": RGB for name in "abc"}
    kinds["x/d.tif"] = RasterKind(4, "uint8", 0.104)
    kinds["x/e.tif"] = RasterKind(3, "uint16", 0.4)
    assert unlike_rasters(kinds) == (
        "3 bands on 4 rasters; 4 bands on d.tif",
        "uint8 on 4 rasters; uint16 on e.tif",
    )
    assert unlike_gsd(kinds) == "0.1 m/px on 4 rasters; 0.4 m/px on e.tif"


def blank(pixels: np.ndarray) -> np.ndarray:
    pixels[:, :40, :40] = pixels[:, 45:, 45:] = 0
    return pixels


@pytest.mark.parametrize(
    ("nodata", "said"), [(None, "all alike"), (0, "no valid pixel")], ids=["alike", "nodata"]
)
def test_nothing_under_the_labels(
    write_raster: Callable[..., Path], noise: Callable[..., np.ndarray], nodata: int, said: str
) -> None:
    path = write_raster("a.tif", blank(noise(3, 100, 100)), nodata=nodata)
    with open_raster(path) as raster:
        assert said in blank_note(raster, BOXES)
        assert blank_note(raster, BOXES + np.array([0, 30, 0, 30])) == ""
        assert blank_note(raster, BOXES[:0]) == ""
        assert blank_note(raster, np.full((1, 4), np.nan)) == ""


def test_labels_off_the_raster(
    write_raster: Callable[..., Path], noise: Callable[..., np.ndarray]
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 100, 100))) as raster:
        assert blank_note(raster, BEYOND) == ""
        assert RasterKind.of(raster).bands == 3


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_rasters_off_the_earth_have_no_gsd(
    write_raster: Callable[..., Path], noise: Callable[..., np.ndarray], crs: str | None
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 20, 20), crs=crs)) as raster:
        assert RasterKind.of(raster).gsd_m is None
