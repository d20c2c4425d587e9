"""What becomes of single values on their way from a raster to a chip, and of its size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from fixture_types import MakeCard, WriteRaster

from geo_retina.card import ModelCard
from geo_retina.errors import GsdError
from geo_retina.imagery.radiometry import Radiometry
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window


def _whole(path: Path, card: ModelCard, **options: Any) -> tuple[Any, Any]:
    with open_raster(path) as raster:
        source = open_chip_source(raster, card, ReadOptions(**options))
        chip = source.read(Window(0, 0, source.grid.width, source.grid.height))
        return chip.pixels, chip.valid


def test_percentiles_pass_over_values_that_are_no_numbers(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    ramp = np.linspace(0, 1, 3 * 40 * 50, dtype=np.float32).reshape(3, 40, 50)
    ramp[:, 5:9, 5:9] = np.nan
    pixels, valid = _whole(write_raster("a.tif", ramp), make_card(), stretch=(2, 98))
    assert pixels.max() == 255
    assert pixels.min() == 0
    assert not valid[5:9, 5:9].any()
    assert valid.sum() == 40 * 50 - 16


def test_ground_that_is_not_valid_is_filled_with_the_mean_of_a_shifted_range(
    make_card: MakeCard,
) -> None:
    card = make_card(dtype="float32", value_range=(-100, 300), mean=(0.25, 0.5, 0.75))
    made = Radiometry.of(card, None)
    filled = made.apply(np.full((3, 2, 2), 7, np.float32), np.zeros((2, 2), np.bool_))
    np.testing.assert_allclose(filled[:, 0, 0], [0, 100, 200])


def test_values_beyond_the_scale_end_at_the_cards_range(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    card = make_card(dtype="uint16", value_range=(0, 1000))
    path = write_raster("a.tif", np.full((3, 9, 8), 500, np.uint16))
    assert np.unique(_whole(path, card, scale=(0, 100))[0]).tolist() == [1000]
    assert np.unique(_whole(path, card, scale=(600, 700))[0]).tolist() == [0]


@pytest.mark.parametrize("gsd", [0.05, 0.1, 0.2])
def test_nodata_that_is_not_zero_stays_without_value_at_any_gsd(
    write_raster: WriteRaster, make_card: MakeCard, gsd: float
) -> None:
    card = make_card(gsd_m=0.1, coarsest_gsd_m=0.25)
    values = np.full((3, 80, 80), 100, np.uint8)
    values[:, :, 40:] = 255
    pixels, valid = _whole(write_raster("a.tif", values, gsd=gsd, nodata=255), card)
    middle, margin = pixels.shape[2] // 2, 4
    assert valid[:, : middle - margin].all()
    assert not valid[:, middle + margin :].any()
    fill = Radiometry.of(card, None).fill
    assert pixels[:, 5, -1].tolist() == [int(value) for value in fill]
    assert np.unique(pixels[:, :, : middle - margin]).tolist() == [100]


def test_resampled_values_are_rounded_not_cut(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    values = np.zeros((3, 80, 80), np.uint8)
    values[:, ::2] = 201
    values[:, 1::2] = 102  # 151.5 on the mean
    pixels, _ = _whole(write_raster("a.tif", values, gsd=0.1), make_card(gsd_m=0.2))
    assert np.unique(pixels[:, 5:-5, 5:-5]).tolist() == [152]


@pytest.mark.parametrize(("gsd", "width"), [(0.107, 107), (0.0596, 60), (0.102, 100)])
def test_the_working_grid_has_the_nearest_whole_size(
    write_raster: WriteRaster, make_card: MakeCard, gsd: float, width: int
) -> None:
    """A GSD within a few percent of the model's is taken for it."""
    path = write_raster("a.tif", np.zeros((3, 60, 100), np.uint8), gsd=gsd)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card(gsd_m=0.1, coarsest_gsd_m=0.25))
        assert source.grid.width == width


def test_the_longer_side_of_a_pixel_decides_whether_it_is_too_coarse(
    write_raster_at: WriteRaster, tmp_path: Path, make_card: MakeCard
) -> None:
    card = make_card(gsd_m=0.1, coarsest_gsd_m=0.25)
    for width, height in ((0.1, 0.6), (0.6, 0.1)):
        place = Affine(width, 0, 500_000, 0, -height, 5_400_000)
        path = write_raster_at(
            tmp_path / f"{width}.tif", np.zeros((3, 30, 40), np.uint8), transform=place
        )
        with open_raster(path) as raster, pytest.raises(GsdError, match="takes up to"):
            open_chip_source(raster, card)
