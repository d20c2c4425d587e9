from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from fixture_types import MakeCard, Noise, WriteRaster
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window

Array = NDArray[Any]
ALL = Window(0, 0, 40, 30)
HOLE = np.s_[5:15, 8:20]


def holed() -> Array:
    """(30, 40) mask, False in `HOLE`."""
    mask = np.ones((30, 40), bool)
    mask[HOLE] = False
    return mask


def read(path: Path, card: ModelCard, **options: object) -> tuple[Array, Array]:
    with open_raster(path) as raster:
        chip = open_chip_source(raster, card, ReadOptions(**options)).read(ALL)
        return chip.pixels, chip.valid


def assert_holed(path: Path, card: ModelCard, original: Array, **options: object) -> None:
    pixels, valid = read(path, card, **options)
    np.testing.assert_array_equal(valid, holed())
    np.testing.assert_array_equal(pixels[:, HOLE[0], HOLE[1]][:, 0, 0], [102, 128, 76])
    np.testing.assert_array_equal(pixels[:, holed()], original[:3, holed()])


def test_nodata_value(write_raster: WriteRaster, noise: Noise, make_card: MakeCard) -> None:
    pixels = noise(3, 30, 40)
    pixels[:, ~holed()] = 255
    assert_holed(write_raster("a.tif", pixels, nodata=255), make_card(), pixels)


def test_internal_mask(write_raster: WriteRaster, noise: Noise, make_card: MakeCard) -> None:
    pixels = noise(3, 30, 40)
    assert_holed(write_raster("a.tif", pixels, mask=holed()), make_card(), pixels)


def test_mask_file(write_raster: WriteRaster, noise: Noise, make_card: MakeCard) -> None:
    pixels = noise(3, 30, 40)
    path = write_raster("a.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as file:
        file.write_mask(holed().astype(np.uint8) * 255)
    assert path.with_name("a.tif.msk").exists()
    assert_holed(path, make_card(), pixels)


def test_alpha(write_raster: WriteRaster, noise: Noise, make_card: MakeCard) -> None:
    pixels = noise(4, 30, 40)
    pixels[3] = holed() * 255
    path = write_raster("a.tif", pixels, colours=["red", "green", "blue", "alpha"])
    assert_holed(path, make_card(), pixels)


def test_alpha_besides_nodata(write_raster: WriteRaster, noise: Noise, make_card: MakeCard) -> None:
    """GDAL lets a nodata value hide the alpha band."""
    pixels = noise(4, 30, 40)
    pixels[3] = holed() * 255
    colours = ["red", "green", "blue", "alpha"]
    path = write_raster("a.tif", pixels, colours=colours, nodata=251)
    assert_holed(path, make_card(), pixels)


def test_alpha_asked_for_as_an_input_is_no_mask(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    pixels = noise(4, 30, 40)
    pixels[3] = holed() * 255
    path = write_raster("a.tif", pixels, colours=["red", "green", "blue", "alpha"])
    _, valid = read(path, make_card(), bands=[1, 2, 4])
    assert valid.all()


def test_nodata_that_is_a_colour_must_fill_all_bands(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    pixels = noise(3, 30, 40)
    pixels[:, ~holed()] = 0
    pixels[1, 20:25] = 0  # a shadow, black in green alone
    path = write_raster("a.tif", pixels, nodata=0)
    assert_holed(path, make_card(), pixels)


def test_nodata_that_is_no_colour_counts_in_each_band(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    values = noise(3, 30, 40).astype(np.float32)
    values[1, ~holed()] = -9999
    path = write_raster("a.tif", values, nodata=-9999)
    assert_holed(path, make_card(), values, scale=(0, 255))


@pytest.mark.parametrize("nodata", [None, float("nan"), -1.0])
@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_values_that_are_not_finite_are_invalid(
    nodata: float | None, hole: float, write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    values = noise(3, 30, 40).astype(np.float32)
    values[2, ~holed()] = hole
    path = write_raster("a.tif", values, nodata=nodata)
    assert_holed(path, make_card(), values, scale=(0, 255))


def test_float_models_never_see_nan(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    values = noise(3, 30, 40).astype(np.float32) / 255
    values[:, ~holed()] = np.nan
    pixels, valid = read(
        write_raster("a.tif", values), make_card(dtype="float32", value_range=(0, 1))
    )
    assert pixels.dtype == np.float32
    assert np.isfinite(pixels).all()
    np.testing.assert_array_equal(valid, holed())
    np.testing.assert_allclose(pixels[:, 5, 8], [0.4, 0.5, 0.3])


def test_empty_windows_are_told_without_reading_pixels(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster("a.tif", noise(3, 30, 40), mask=holed())
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        monkeypatch.setattr(raster, "read", None)
        inside = Window(8, 5, 12, 10)
        assert source.valid_share(inside) == 0
        assert source.valid_share(Window(7, 5, 12, 10)) > 0
        chip = source.read(inside)
        assert not chip.valid.any()
        assert chip.pixels.dtype == np.uint8
        np.testing.assert_array_equal(chip.pixels[:, 3, 3], [102, 128, 76])


def test_without_masks_nothing_is_read_to_tell(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 30, 40))) as raster:
        source = open_chip_source(raster, make_card())
        monkeypatch.setattr(raster, "read_mask", None)
        assert source.valid_share(ALL) > 0
        assert source.read(ALL).valid.all()


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_masks_are_resampled_with_their_pixels(
    overviews: tuple[int, ...], write_raster: WriteRaster, make_card: MakeCard
) -> None:
    """Pixels under the mask never bleed into valid ones."""
    pixels = np.full((3, 200, 240), 90, np.uint8)
    mask = np.ones((200, 240), bool)
    mask[80:121, 100:163] = False
    pixels[:, ~mask] = 255
    path = write_raster("a.tif", pixels, mask=mask, gsd=0.02, overviews=overviews)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        chip = source.read(Window(0, 0, source.grid.width, source.grid.height))
    share = mask.reshape(40, 5, 48, 5).mean(axis=(1, 3))
    assert chip.valid[share == 1].all()
    assert not chip.valid[share == 0].any()
    assert (chip.pixels[:, chip.valid] == 90).all()


def test_a_bands_own_mask_beside_alpha(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    """The first band of a VRT has a mask of its own, the others have the alpha band."""
    own = np.ones((30, 40), bool)
    own[20:25, 30:35] = False
    write_raster("own.tif", own[None].astype(np.uint8) * 255)
    pixels = noise(4, 30, 40)
    pixels[3] = holed() * 255
    path = write_raster("a.tif", pixels, colours=["red", "green", "blue", "alpha"])
    mosaic = path.with_suffix(".vrt")
    rasterio.shutil.copy(path, mosaic, driver="VRT")
    band = '<VRTRasterBand dataType="Byte" band="1">'
    mask = (
        '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">own.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></MaskBand>"
    )
    text = mosaic.read_text()
    assert band in text
    mosaic.write_text(text.replace(band, band + mask))
    with open_raster(mosaic) as raster:
        assert [set(flags) for flags in raster.mask_flags[:2]] == [set(), {"per_dataset", "alpha"}]
    _, valid = read(mosaic, make_card())
    np.testing.assert_array_equal(valid, holed() & own)
