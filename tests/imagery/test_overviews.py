from pathlib import Path

import numpy as np
import pytest
import rasterio
from fixture_types import MakeCard, WriteRaster
from rasterio.enums import Resampling

from geo_retina.imagery import overviews
from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width))
    one = 127 + 60 * np.sin(x / 20) + 60 * np.sin(y / 17)
    return np.stack([one] * 3).astype(np.uint8)


def read_at(path: Path, make_card: MakeCard) -> np.ndarray:
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        return source.read(Window(0, 0, source.grid.width, source.grid.height)).pixels[0]


@pytest.mark.parametrize("gsd", [0.04, 0.023, 0.0125])
@pytest.mark.parametrize("how", ["nearest", "average", "bilinear", "cubic"])
def test_overviews_move_nothing_however_they_were_made(
    how: str, gsd: float, write_raster: WriteRaster, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", waves(1203, 1501), gsd=gsd)
    expected = read_at(path, make_card).astype(float)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling[how])
    found = read_at(path, make_card)
    inner = np.s_[3:-3, 3:-3]
    slope = np.gradient(expected)[1]
    lag = ((expected - found) * slope)[inner].sum() / (slope**2)[inner].sum()
    assert abs(lag) < 0.05, "pixels of the model"


def test_masked_ground_does_not_tell(write_raster: WriteRaster) -> None:
    pixels = np.full((3, 400, 400), 90, np.uint8)
    pixels[:, :, ::2] = 0
    path = write_raster("a.tif", pixels, gsd=0.04, mask=np.eye(400, dtype=bool), overviews=[2])
    with open_raster(path) as raster:
        level = raster.levels[1]
        assert not overviews.placed(level, raster, band=1).centred
        assert overviews.placed(raster.levels[0], raster, band=1) is raster.levels[0]


def test_what_cannot_be_read_is_left_to_the_reading(
    write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster("a.tif", waves(300, 300), gsd=0.04, overviews=[2])

    def broken(*_: object, **__: object) -> None:
        raise overviews.RasterReadError("damaged")

    with open_raster(path) as raster:
        level = raster.levels[1]
        monkeypatch.setattr(Raster, "read", broken)
        assert overviews.placed(level, raster, band=1) is level
