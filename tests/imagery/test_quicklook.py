from pathlib import Path

import numpy as np
import pytest
from fixture_types import WriteRaster

from geo_retina.errors import RasterReadError
from geo_retina.imagery.quicklook import read_small


def test_large_rasters_shrink_and_small_ones_grow(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", np.full((3, 40, 80), 100, np.uint8))
    small, zoom = read_small(str(path), most_px=20)
    assert (small.shape, zoom) == ((10, 20, 3), 0.25)
    assert (small == 100).all()
    large, zoom = read_small(str(path), most_px=400, least_px=160)
    assert (large.shape, zoom) == ((80, 160, 3), 2.0)


def test_other_types_are_stretched_and_invalid_is_black(write_raster: WriteRaster) -> None:
    pixels = np.tile(np.linspace(1000, 3000, 50), (1, 30, 1)).astype(np.uint16)
    pixels[:, :5] = 0
    shown, _ = read_small(str(write_raster("b.tif", pixels, nodata=0)), most_px=100)
    assert shown.shape == (30, 50, 3), "one band is shown as grey"
    assert (shown[:5] == 0).all()
    assert shown[10, 0, 0] < 10
    assert shown[10, -1, 0] > 245


def test_of_complex_numbers_the_magnitude_is_shown(write_raster: WriteRaster) -> None:
    pixels = np.linspace(0, 8, 50) * np.exp(1j * np.arange(50))
    path = write_raster("c.tif", np.tile(pixels, (1, 30, 1)).astype(np.complex64))
    shown, _ = read_small(str(path), most_px=100)
    assert (np.diff(shown[0, :, 0].astype(int)) >= 0).all()
    assert (shown[10, 0, 0], shown[10, -1, 0]) == (0, 255)


def test_a_colour_that_holds_nodata_in_one_band_is_shown(write_raster: WriteRaster) -> None:
    pixels = np.full((3, 30, 30), 100, np.uint8)
    pixels[0, :10] = 255  # over-exposed in red alone
    pixels[:, 20:] = 255
    path = write_raster("d.tif", pixels, nodata=255)
    shown, _ = read_small(str(path), most_px=30)
    assert (shown[:10] == (255, 100, 100)).all()
    assert (shown[20:] == 0).all()


def test_what_is_no_raster_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.tif").write_text("nothing")
    with pytest.raises(RasterReadError, match=r"c\.tif"):
        read_small(str(tmp_path / "c.tif"), most_px=10)
