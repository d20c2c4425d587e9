from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.shutil
from fixture_types import MakeCard, Noise, WriteRaster
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.errors import RadiometryError
from geo_retina.imagery import radiometry
from geo_retina.imagery.radiometry import Radiometry
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window

Array = NDArray[Any]


def read(path: Path, card: ModelCard, **options: object) -> Array:
    with open_raster(path) as raster:
        source = open_chip_source(raster, card, ReadOptions(**options))
        return source.read(Window(0, 0, source.grid.width, source.grid.height)).pixels


def test_same_type_is_left_alone(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    pixels = noise(3, 30, 40)
    np.testing.assert_array_equal(read(write_raster("a.tif", pixels), make_card()), pixels)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "uint32", "int8"])
def test_other_types_need_a_statement(
    dtype: str, write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8, dtype=dtype, high=99))
    with pytest.raises(RadiometryError, match=rf"uint8.*{dtype}.*--scale MIN MAX.*--stretch P1 P2"):
        read(path, make_card())


def test_same_type_is_demanded_of_all_bands_read(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with pytest.raises(RadiometryError, match=r"shown uint16 values.*holds uint8"):
        read(path, make_card(dtype="uint16", value_range=(0, 10_000)))


def test_bands_that_are_not_read_may_have_any_type(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    mixed = write_raster("a.tif", noise(2, 9, 8)).with_suffix(".vrt")
    rasterio.shutil.copy(mixed.with_suffix(".tif"), mixed, driver="VRT")
    text = mixed.read_text(encoding="utf-8")
    mixed.write_text(text.replace('"Byte" band="2"', '"UInt16" band="2"'), encoding="utf-8")
    card = make_card(bands=("pan",), mean=(0.5,), std=(0.2,))
    assert read(mixed, card, bands=(1,)).dtype == np.uint8
    with pytest.raises(RadiometryError, match="holds uint16"):
        read(mixed, card, bands=(2,))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_scale_maps_the_stated_range_and_clips(
    dtype: str, write_raster: WriteRaster, make_card: MakeCard
) -> None:
    values = np.array([[[-5, 0, 100, 500, 1000, 3000]]] * 3).clip(0 if dtype == "uint16" else -5)
    path = write_raster("a.tif", values.astype(dtype))
    out = read(path, make_card(), scale=(0, 1000))
    np.testing.assert_array_equal(out[0, 0], [0, 0, 26, 128, 255, 255])
    assert out.dtype == np.uint8


def test_scale_holds_for_the_same_type_too(write_raster: WriteRaster, make_card: MakeCard) -> None:
    values = np.array([[[10, 20, 30]]] * 3, np.uint8)
    out = read(write_raster("a.tif", values), make_card(), scale=(10, 30))
    np.testing.assert_array_equal(out[2, 0], [0, 128, 255])


def test_value_range_of_the_card_is_the_target(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    values = np.array([[[0, 5, 10]]] * 3, np.int16)
    card = make_card(dtype="float32", value_range=(-1, 1))
    np.testing.assert_allclose(
        read(write_raster("a.tif", values), card, scale=(0, 10))[0, 0], [-1, 0, 1]
    )


def test_stretch_takes_percentiles_of_each_band(
    write_raster: WriteRaster, make_card: MakeCard
) -> None:
    ramp = np.arange(101, dtype=np.uint16).reshape(1, 101)
    path = write_raster("a.tif", np.stack([ramp, ramp * 10, ramp + 7]))
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card(), ReadOptions(stretch=(2, 98)))
        np.testing.assert_allclose(source.radiometry.sources, [(2, 98), (20, 980), (9, 105)])


def test_stretch_leaves_out_nodata(write_raster: WriteRaster, make_card: MakeCard) -> None:
    values = np.full((3, 40, 40), 60_000, np.uint16)
    values[:, :20] = np.arange(20 * 40).reshape(20, 40)
    path = write_raster("a.tif", values, nodata=60_000)
    with open_raster(path) as raster:
        source = open_chip_source(raster, make_card(), ReadOptions(stretch=(0, 100)))
        assert source.radiometry.sources[0] == (0, 799)


def test_large_rasters_are_sampled_evenly_and_alike(
    write_raster: WriteRaster, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample of a ramp over the whole raster has the ramp's percentiles."""
    monkeypatch.setattr(radiometry, "EXACT_STATISTICS_PX", 1000)
    monkeypatch.setattr(radiometry, "_SAMPLE_PX", 2**14)
    monkeypatch.setattr(radiometry, "_ENOUGH_VALID_PX", 2**12)
    ramp = np.add.outer(np.arange(700), np.arange(900)).astype(np.uint16)
    path = write_raster("a.tif", np.stack([ramp] * 3))
    ranges = []
    for _ in range(2):
        with open_raster(path) as raster:
            ranges.append(
                open_chip_source(
                    raster, make_card(), ReadOptions(stretch=(2, 98))
                ).radiometry.sources
            )
    assert ranges[0] == ranges[1]
    np.testing.assert_allclose(ranges[0][0], np.percentile(ramp, (2, 98)), rtol=0.05)


def test_sampling_goes_on_until_it_meets_something(
    write_raster: WriteRaster, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radiometry, "EXACT_STATISTICS_PX", 1000)
    monkeypatch.setattr(radiometry, "_SAMPLE_PX", 2**14)
    values = np.zeros((3, 1000, 1000), np.uint16)
    values[:, 500:516, 200:216] = np.arange(1, 257).reshape(16, 16)
    path = write_raster("a.tif", values, nodata=0)
    with open_raster(path) as raster:
        (low, high), *_ = open_chip_source(
            raster, make_card(), ReadOptions(stretch=(0, 100))
        ).radiometry.sources
        assert 1 <= low < high <= 256
    path = write_raster("b.tif", np.zeros_like(values), nodata=0)
    with open_raster(path) as raster, pytest.raises(RadiometryError, match=r"--scale MIN MAX"):
        open_chip_source(raster, make_card(), ReadOptions(stretch=(2, 98)))


def test_all_nodata_is_no_error(write_raster: WriteRaster, make_card: MakeCard) -> None:
    path = write_raster("a.tif", np.zeros((3, 9, 8), np.uint16), nodata=0)
    with open_raster(path) as raster:
        chip = open_chip_source(raster, make_card(), ReadOptions(stretch=(2, 98))).read(
            Window(0, 0, 8, 9)
        )
    assert not chip.valid.any()


def test_constant_bands_cannot_be_stretched(write_raster: WriteRaster, make_card: MakeCard) -> None:
    path = write_raster("a.tif", np.full((3, 9, 8), 7, np.uint16))
    with open_raster(path) as raster, pytest.raises(RadiometryError, match=r"both 7"):
        open_chip_source(raster, make_card(), ReadOptions(stretch=(2, 98)))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (5, 5)},
        {"scale": (9, 1)},
        {"scale": (0, float("inf"))},
        {"scale": (float("nan"), 1)},
        {"stretch": (-1, 98)},
        {"stretch": (98, 2)},
        {"stretch": (2, 101)},
        {"scale": (0, 1), "stretch": (2, 98)},
    ],
)
def test_impossible_mappings_are_refused(
    options: dict[str, Any], write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8, dtype="uint16"))
    with open_raster(path) as raster, pytest.raises(RadiometryError):
        open_chip_source(raster, make_card(), ReadOptions(**options))


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_numbers_are_refused(
    write_raster: WriteRaster, make_card: MakeCard, dtype: str
) -> None:
    path = write_raster("a.tif", np.ones((3, 9, 8), np.complex64), dtype=dtype)
    with open_raster(path) as raster, pytest.raises(RadiometryError, match=dtype):
        open_chip_source(raster, make_card(), ReadOptions(scale=(0, 1)))


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=30), st.integers(0, 60_000))
def test_scale_never_changes_the_order_of_values(values: list[int], low: int) -> None:
    plan = Radiometry("uint8", (0, 255), ((low, low + 5000),), (0,))
    samples = np.sort(np.array(values, np.uint16)).reshape(1, 1, -1)
    out = plan.apply(samples, np.ones(samples.shape[1:], bool))[0, 0].astype(int)
    assert (np.diff(out) >= 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("shown", ["uint8", "uint16", "float32"])
def test_integers_are_mapped_as_the_same_numbers_in_floating_point(dtype: str, shown: str) -> None:
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1, dtype=dtype)
    samples = np.stack([every, every[::-1], np.roll(every, 7)]).reshape(3, -1, 64)
    sources = ((limits.min / 3, limits.max / 2), (1.25, 99.5), (-7.0, limits.max * 2.0))
    plan = Radiometry(shown, (0, 200), sources, (0, 0, 0))
    valid = np.ones(samples.shape[1:], bool)
    wanted = plan.apply(samples.astype(np.float32), valid)
    given_ = plan.apply(samples, valid)
    assert given_.dtype == shown
    np.testing.assert_array_equal(given_, wanted)
    swapped = plan.apply(samples[:, ::2, ::-1], valid[::2])  # a view with strides of its own
    np.testing.assert_array_equal(swapped, wanted[:, ::2, ::-1])
