from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import WriteRaster
from numpy.typing import NDArray

from geo_retina.errors import GsdError
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.regridded import RegriddedRaster
from geo_retina.space.windows import Window


def regridded(path: Path, gsd_m: float, *, window: Window | None = None) -> NDArray[Any]:
    with open_raster(path) as raster:
        source = RegriddedRaster(raster, gsd_m)
        whole = Window(0, 0, source.grid.width, source.grid.height)
        return source.read(window or whole, bands=range(1, raster.band_count + 1))


def test_nodata_of_one_band_is_mixed_into_nothing(write_raster: WriteRaster) -> None:
    pixels = np.full((2, 20, 20), 100, np.float32)
    pixels[1, :, 10:] = -9999
    path = write_raster("a.tif", pixels, nodata=-9999)
    found = regridded(path, 0.15)
    assert (found[0] == 100).all()
    assert set(found[1].ravel().tolist()) == {100, -9999}
    with open_raster(path) as raster:
        source = RegriddedRaster(raster, 0.15)
        whole = Window(0, 0, source.grid.width, source.grid.height)
        for band in (1, 2):
            valid = source.read_mask(whole, band=band)
            np.testing.assert_array_equal(valid, found[band - 1] == 100)


def test_black_in_one_band_of_a_photograph_is_a_colour(write_raster: WriteRaster) -> None:
    pixels = np.full((3, 20, 20), 100, np.uint8)
    pixels[0, :, ::2] = 0  # averaged over two columns
    pixels[:, :10] = 0
    found = regridded(write_raster("a.tif", pixels, nodata=0), 0.2)
    assert (found[:, :5] == 0).all()
    assert (found[0, 5:] == 50).all()
    assert (found[1:, 5:] == 100).all()


def test_values_that_are_not_finite_are_nodata(write_raster: WriteRaster) -> None:
    pixels = np.ones((1, 20, 20), np.float32)
    pixels[0, 0, 0], pixels[0, 10:] = np.nan, np.inf
    found = regridded(write_raster("a.tif", pixels), 0.2)
    assert (found[0, :5] == 1).all()
    assert (found[0, 5:] == 0).all()


def test_masks_and_other_bands_know_of_values_that_are_not_finite(
    write_raster: WriteRaster,
) -> None:
    pixels = np.ones((2, 20, 20), np.float32)
    pixels[1, 10:] = np.nan
    path = write_raster("a.tif", pixels)
    found = regridded(path, 0.2)
    assert (found[0] == 1).all()
    assert (found[1, 5:] == 0).all()
    with open_raster(path) as raster:
        source = RegriddedRaster(raster, 0.2)
        whole = Window(0, 0, source.grid.width, source.grid.height)
        assert source.read_mask(whole, band=1).all()
        np.testing.assert_array_equal(source.read_mask(whole, band=2), found[1] == 1)


def test_whole_numbers_are_rounded(write_raster: WriteRaster) -> None:
    pixels = np.tile(np.array([[2, 3], [3, 3]], np.int16), (10, 10))[None]  # 2.75 on average
    assert (regridded(write_raster("a.tif", pixels), 0.2) == 3).all()


@pytest.mark.parametrize("gsd_m", [0.07, 0.16])
def test_overlapping_windows_hold_equal_values(gsd_m: float, write_raster: WriteRaster) -> None:
    pixels = np.random.default_rng(0).integers(1, 60_000, (2, 50, 40)).astype(np.uint16)
    pixels[:, 20:30, 5:25] = 0
    path = write_raster("a.tif", pixels, nodata=0)
    part = Window(3, 5, 15, 20)
    whole = regridded(path, gsd_m)[:, part.row_off : part.row_end, part.col_off : part.col_end]
    np.testing.assert_array_equal(regridded(path, gsd_m, window=part), whole)


def test_a_gsd_of_nothing_is_refused(write_raster: WriteRaster) -> None:
    with pytest.raises(GsdError, match="over 0"):
        regridded(write_raster("a.tif", np.ones((1, 9, 9), np.uint8)), 0)
