from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakeCard, Noise, WriteRaster

from geo_retina.detection.calibration import read_calibration_chips
from geo_retina.detection.options import DetectOptions
from geo_retina.errors import BandError, RasterError


def test_chips_are_spread_over_rasters_and_padded(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard, tmp_path: Path
) -> None:
    write_raster("a.tif", noise(3, 200, 150))
    small = write_raster("b.png", noise(3, 40, 70), driver="PNG", crs=None)
    (tmp_path / "notes.txt").write_text("no raster")
    chips = read_calibration_chips([tmp_path], make_card(chip_px=64, overlap_px=16), most=10)
    shapes = [chip.shape for chip in chips]
    assert shapes.count((1, 3, 64, 64)) == len(chips) == 7  # five of a, both of b
    np.testing.assert_array_equal(chips[0][0, :, 0, 0], noise(3, 200, 150)[:, 0, 0])
    np.testing.assert_array_equal(chips[4][0, :, -1, -1], noise(3, 200, 150)[:, -1, -1])
    (one,) = read_calibration_chips([small], make_card(chip_px=96), most=1)
    assert one.shape == (1, 3, 64, 96)


def test_chips_are_read_as_the_options_say(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 64, 64))
    options = DetectOptions(bands=(3, 1, 2))
    (chip,) = read_calibration_chips([path], make_card(chip_px=64), most=1, options=options)
    np.testing.assert_array_equal(chip[0], noise(3, 64, 64)[[2, 0, 1]])


def test_most_is_a_limit_where_there_are_many_rasters(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    paths = [write_raster(f"{number}.tif", noise(3, 200, 64)) for number in range(5)]
    assert len(read_calibration_chips(paths, make_card(), most=3)) == 3


def test_rasters_without_pixels_are_an_error(
    write_raster: WriteRaster, make_card: MakeCard, tmp_path: Path
) -> None:
    with pytest.raises(RasterError, match="no rasters to calibrate with"):
        read_calibration_chips([tmp_path], make_card(), most=3)
    empty = write_raster("empty.tif", np.zeros((3, 64, 64), np.uint8), nodata=0)
    with pytest.raises(RasterError, match="no valid pixels"):
        read_calibration_chips([empty], make_card(), most=3)


def test_rasters_that_do_not_fit_the_model_are_an_error(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    with pytest.raises(BandError):
        read_calibration_chips(
            [write_raster("one.tif", np.ones((1, 64, 64), np.uint8))], make_card(), most=3
        )


def test_few_chips_come_from_all_over_many_rasters(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    paths = [
        write_raster(f"{number}.tif", np.full((3, 64, 64), number, np.uint8))
        for number in range(1, 8)
    ]
    chips = read_calibration_chips(paths, make_card(), most=3)
    assert [int(chip.max()) for chip in chips] == [1, 4, 7]
