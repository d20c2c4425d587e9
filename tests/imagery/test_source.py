from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakeCard, Noise, WriteRaster
from hypothesis import given
from hypothesis import strategies as st

from geo_retina.imagery import source as source_module
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import Chip, ChipSource, open_chip_source
from geo_retina.space.windows import Window


def whole(source: ChipSource) -> Chip:
    return source.read(Window(0, 0, source.grid.width, source.grid.height))


def test_native_grid_is_kept_within_tolerance(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    for gsd in (0.096, 0.104):
        pixels = noise(3, 50, 60)
        with open_raster(write_raster("a.tif", pixels, gsd=gsd)) as raster:
            source = open_chip_source(raster, make_card())
            assert source.grid is raster.grid
            assert (source.scale_x, source.scale_y) == (1, 1)
            np.testing.assert_array_equal(whole(source).pixels, pixels)


@pytest.mark.parametrize(("gsd", "size"), [(0.04, (40, 32)), (0.25, (250, 200))])
def test_other_grids_cover_the_same_ground(
    gsd: float, size: tuple[int, int], write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 80, 100), gsd=gsd)) as raster:
        source = open_chip_source(raster, make_card())
        assert (source.grid.width, source.grid.height) == size
        np.testing.assert_allclose(
            source.grid.transform @ size, raster.grid.transform @ (100, 80), rtol=1e-12
        )
        assert source.scale_x == pytest.approx(100 / size[0])
        np.testing.assert_allclose(source.grid.gsd_m(), 0.1, rtol=1e-3)


@pytest.fixture(scope="module")
def masked_paths(
    tmp_path_factory: pytest.TempPathFactory, write_raster_at: WriteRaster
) -> dict[bool, Path]:
    """The same noise under a ragged mask, with overviews (True) and without."""
    folder = tmp_path_factory.mktemp("masked")
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 255, (3, 331, 409), dtype=np.uint8)
    mask = np.add.outer(np.arange(331), np.arange(409)) % 97 > 20
    return {
        bool(overviews): write_raster_at(
            folder / f"{len(overviews)}.tif", pixels, mask=mask, overviews=overviews
        )
        for overviews in [(), (2, 4, 8)]
    }


@given(data=st.data(), gsd_m=st.floats(0.04, 0.9), overviews=st.booleans())
def test_overlapping_windows_read_identical_pixels(
    *,
    data: st.DataObject,
    gsd_m: float,
    overviews: bool,
    masked_paths: dict[bool, Path],
    make_card: MakeCard,
) -> None:
    card = make_card(gsd_m=gsd_m, coarsest_gsd_m=2)
    with open_raster(masked_paths[overviews]) as raster:
        source = open_chip_source(raster, card)
        grid = source.grid
        width, height = min(grid.width, 200), min(grid.height, 200)
        col = data.draw(st.integers(0, grid.width - width))
        row = data.draw(st.integers(0, grid.height - height))
        large = source.read(Window(col, row, width, height))
        dx, dy = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        part = Window(
            col + dx,
            row + dy,
            data.draw(st.integers(1, width - dx)),
            data.draw(st.integers(1, height - dy)),
        )
        small = source.read(part)
    inside = np.s_[..., dy : dy + part.height, dx : dx + part.width]
    np.testing.assert_array_equal(small.pixels, large.pixels[inside])
    np.testing.assert_array_equal(small.valid, large.valid[inside])


@pytest.mark.parametrize("gsd", [0.1, 0.03, 0.25])
def test_large_windows_are_read_in_parts_alike(
    gsd: float,
    write_raster: WriteRaster,
    noise: Noise,
    make_card: MakeCard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_raster("a.tif", noise(3, 120, 90), gsd=gsd, nodata=17)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        expected = whole(source)
        monkeypatch.setattr(source_module, "LARGEST_READ_SAMPLES", 500)
        read = []
        monkeypatch.setattr(
            raster,
            "read",
            lambda window, _read=raster.read, **options: (
                read.append(window) or _read(window, **options)
            ),
        )
        got = whole(source)
    np.testing.assert_array_equal(got.pixels, expected.pixels)
    np.testing.assert_array_equal(got.valid, expected.valid)
    assert got.window == expected.window
    assert len(read) > 10
    assert max(window.width * window.height for window in read) <= 500


def test_shrinking_averages_over_the_true_area(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    pixels = noise(3, 80, 100)
    with open_raster(write_raster("a.tif", pixels, gsd=0.025)) as raster:
        out = whole(open_chip_source(raster, make_card())).pixels
    expected = pixels.reshape(3, 20, 4, 25, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(out, expected, atol=0.5 + 1e-4)


def test_fitting_overview_is_read_instead_of_the_raster(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster("a.tif", noise(3, 640, 800), gsd=0.02, overviews=[2, 4, 8])
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card())
        windows = []
        monkeypatch.setattr(
            raster,
            "read",
            lambda window, _read=raster.read, **options: (
                windows.append(window) or _read(window, **options)
            ),
        )
        source.read(Window(32, 32, 64, 64))
    assert [(window.width, window.height) for window in windows] == [(80, 80)]  # factor 4 of 5


def test_bands_and_values_are_the_models(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    pixels = noise(4, 30, 40, dtype="uint16", high=4000)
    path = write_raster("a.tif", pixels, descriptions=["blue", "green", "red", "nir"])
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card(), ReadOptions(scale=(0, 4000)))
        assert source.bands == (3, 2, 1)
        expected = np.rint(pixels[[2, 1, 0]] * (255 / 4000))
        np.testing.assert_allclose(whole(source).pixels, expected, atol=1)
        assert whole(source).pixels.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1)])
def test_tiny_rasters(
    size: tuple[int, int], write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    for gsd in (0.03, 0.1, 0.3):
        with open_raster(write_raster("a.tif", noise(3, *size), gsd=gsd)) as raster:
            chip = whole(open_chip_source(raster, make_card()))
            assert chip.valid.all()
            assert min(chip.valid.shape) >= 1


@pytest.mark.parametrize("window", [Window(-1, 0, 5, 5), Window(36, 0, 5, 5), Window(0, 26, 5, 5)])
def test_windows_outside_are_refused(
    window: Window, write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 30, 40))) as raster:
        source = open_chip_source(raster, make_card())
        with pytest.raises(ValueError, match=r"inside the grid of 40 x 30"):
            source.read(window)
        with pytest.raises(ValueError, match=r"inside the grid"):
            source.valid_share(window)


def test_clones_read_alike_and_close_only_themselves(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 60, 40), gsd=0.04)) as raster:
        source = open_chip_source(raster, make_card())
        with source.clone() as clone:
            assert clone.raster is not raster
            np.testing.assert_array_equal(whole(clone).pixels, whole(source).pixels)
        assert whole(source).valid.all()
