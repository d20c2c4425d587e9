from pathlib import Path

import numpy as np
import pytest
from fixture_types import Noise, WriteRaster

from geo_retina.errors import BandError
from geo_retina.imagery.bands import BandChoice, choose_bands
from geo_retina.imagery.raster import open_raster

RGB = ("red", "green", "blue")


def pick(path: Path, needed: tuple[str, ...] = RGB, **options: object) -> BandChoice:
    with open_raster(path) as raster:
        return choose_bands(raster, needed, **options)


def test_untagged_bands_are_taken_in_file_order(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), photometric="MINISBLACK")
    assert pick(path) == BandChoice((1, 2, 3), None)


def test_tags_say_the_order(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), colours=["blue", "green", "red"])
    assert pick(path).numbers == (3, 2, 1)


def test_alpha_is_a_mask_not_an_input(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(4, 9, 8), colours=[*RGB, "alpha"])
    assert pick(path) == BandChoice((1, 2, 3), 4)


def test_colours_are_found_among_more_bands(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(5, 9, 8), descriptions=["NIR", "B", "Blue", "Green", "Red"])
    assert pick(path).numbers == (5, 4, 3)


def test_descriptions_outdo_default_tags(write_raster: WriteRaster, noise: Noise) -> None:
    """GDAL tags any three 8-bit bands red, green, blue."""
    path = write_raster("a.tif", noise(3, 9, 8), descriptions=["Near infrared", "red", "green"])
    assert pick(path, ("nir", "red", "green")).numbers == (1, 2, 3)
    with pytest.raises(BandError, match=r"1 nir, 2 red, 3 green"):
        pick(path)


def test_tags_that_contradict_the_file_order_are_an_error(
    write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), colours=["red", "green", "nir"])
    with pytest.raises(BandError, match=r"--bands"):
        pick(path)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_other_counts_need_a_statement(bands: int, write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(bands, 9, 8), photometric="MINISBLACK")
    with pytest.raises(BandError, match=rf"has {bands} band.*--bands"):
        pick(path)


def test_too_few_bands_are_called_so(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with pytest.raises(BandError, match=r"has 3 bands: .*too few: take a raster that has all"):
        pick(path, (*RGB, "nir"))


def test_stated_numbers_win(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(5, 9, 8), photometric="MINISBLACK")
    assert pick(path, numbers=[5, 1, 1]).numbers == (5, 1, 1)


def test_stated_alpha_is_an_input(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(4, 9, 8), colours=[*RGB, "alpha"])
    assert pick(path, (*RGB, "nir"), numbers=[1, 2, 3, 4]) == BandChoice((1, 2, 3, 4), None)
    with pytest.raises(BandError, match=r"Band 4 is tagged alpha"):
        pick(path, (*RGB, "nir"))


@pytest.mark.parametrize("numbers", [[1, 2], [0, 1, 2], [1, 2, 4]])
def test_wrong_numbers_are_refused(
    numbers: list[int], write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with pytest.raises(BandError, match=r"--bands names"):
        pick(path, numbers=numbers)


def test_palettes_are_refused_with_the_step_to_take(
    write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(1, 9, 8), photometric="PALETTE", colours=["palette"])
    for numbers in (None, [1, 1, 1]):
        with pytest.raises(BandError, match=r"-expand rgb"):
            pick(path, numbers=numbers)


def test_single_band_models_take_a_single_band(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(1, 9, 8))
    assert pick(path, ("pan",)).numbers == (1,)
    assert np.prod(pick(path, ("gray",)).numbers) == 1
