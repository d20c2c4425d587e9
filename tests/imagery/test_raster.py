import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from fixture_types import Noise, WriteRaster
from rasterio.shutil import copy as copy_raster
from windows_paths import WindowsPath

from geo_retina.errors import GeoreferenceError, RasterError, RasterReadError
from geo_retina.imagery import raster as raster_module
from geo_retina.imagery.raster import open_raster
from geo_retina.space.windows import Window


def test_header_is_told(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster(
        "field.tif",
        noise(4, 90, 80),
        tiled=True,
        blockxsize=32,
        blockysize=16,
        colours=["red", "green", "blue", "alpha"],
        descriptions=["r", "", "b", ""],
        nodata=None,
        overviews=[2, 4],
    )
    with open_raster(path) as raster:
        assert raster.name == "field"
        assert raster.driver == "GTiff"
        assert (raster.grid.width, raster.grid.height) == (80, 90)
        assert raster.grid.transform == Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000)
        assert raster.grid.crs.to_epsg() == 32633
        assert raster.has_georeference
        assert raster.band_count == 4
        assert raster.dtypes == ("uint8",) * 4
        assert raster.nodata == (None,) * 4
        assert raster.descriptions == ("r", "", "b", "")
        assert raster.colours == ("red", "green", "blue", "alpha")
        assert raster.block_shape == (16, 32)
        assert raster.overview_factors == (2, 4)
        assert [(level.width, level.height) for level in raster.levels] == [
            (80, 90),
            (40, 45),
            (20, 23),
        ]


def test_windows_hold_the_files_samples(write_raster: WriteRaster, noise: Noise) -> None:
    pixels = noise(3, 50, 60)
    with open_raster(write_raster("a.tif", pixels)) as raster:
        read = raster.read(Window(7, 11, 20, 5), bands=[3, 1])
        np.testing.assert_array_equal(read, pixels[[2, 0], 11:16, 7:27])


def test_overviews_are_read_pixel_by_pixel(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 777, 1001), overviews=[2, 4, 8])
    with open_raster(path) as raster:
        for index, level in enumerate(raster.levels[1:]):
            with rasterio.open(path, overview_level=index) as overview:
                expected = overview.read()
            for window in [
                Window(13, 7, level.width - 13, level.height - 7),
                Window(level.width - 1, 5, 1, 1),
                Window(20, level.height - 3, 2, 3),
            ]:
                read = raster.read(window, bands=[1, 2, 3], level=level)
                x_min, y_min, x_max, y_max = window.box
                np.testing.assert_array_equal(read, expected[:, y_min:y_max, x_min:x_max])


@pytest.mark.parametrize("mask_first", [True, False])
def test_masks_hold_on_overviews_with_and_without_overviews_of_their_own(
    *, mask_first: bool, write_raster: WriteRaster
) -> None:
    mask = np.ones((603, 801), bool)
    mask[:200, :300] = False
    path = write_raster("a.tif", np.full((3, 603, 801), 90, np.uint8))
    steps = [
        lambda file: file.write_mask(mask.astype(np.uint8) * 255),
        lambda file: file.build_overviews([2, 4]),
    ]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        for step in steps if mask_first else steps[::-1]:
            with rasterio.open(path, "r+") as file:
                step(file)
    with open_raster(path) as raster:
        level = raster.levels[2]
        whole = raster.read_mask(Window(0, 0, level.width, level.height), band=1, level=level)
        assert not whole[:49, :74].any()
        assert whole[51:].all()
        assert whole[:, 76:].all()
        corner = raster.read_mask(Window(74, 0, 3, 1), band=1, level=level)
        np.testing.assert_array_equal(corner, whole[:1, 74:77])


def test_missing_files_of_windows_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geo_retina.imagery.raster.Path", WindowsPath)
    for path, said in [
        (r"C:\data\none.tif", "does not exist"),
        (r"\\server\share\none.tif", "does not exist"),
        (r"C:\data\*.tif", "is a pattern of names"),
        (r"NETCDF:C:\data\none.nc:trees", "cannot be opened"),
    ]:
        with pytest.raises(RasterError, match=said):
            open_raster(path)


def test_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"does not exist"):
        open_raster(tmp_path / "none.tif")
    with pytest.raises(RasterError, match=r"is a folder"):
        open_raster(tmp_path)
    with pytest.raises(RasterError, match=r"/vsizip/none.zip/a.tif cannot be opened"):
        open_raster("/vsizip/none.zip/a.tif")


@pytest.mark.parametrize(("name", "format_name"), [("a.sid", "MrSID"), ("b.ECW", "ECW")])
def test_licensed_formats_are_named(name: str, format_name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"msid")
    with pytest.raises(RasterError, match=rf"{name} is {format_name}, .* `gdal_translate"):
        open_raster(path)


def test_an_archive_is_told_how_to_name_the_raster_in_it(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(RasterError, match=rf"name the raster in it, as in /vsizip/{path}/"):
        open_raster(path)


@pytest.mark.parametrize("name", ["a.tif", "a.ecw"])
def test_a_server_that_refuses_is_not_called_a_wrong_format(name: str) -> None:
    with pytest.raises(RasterError, match=r"connect.*; check the address, or download") as caught:
        open_raster(f"http://127.0.0.1:1/{name}")
    assert "format" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"II*\0" + bytes(50)])
def test_other_files_are_told(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(RasterError, match=r"cannot be opened as a raster"):
        open_raster(path)
    assert capfd.readouterr() == ("", "")


def test_files_of_several_rasters_name_them(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(2, 9, 8)).with_suffix(".nc")
    copy_raster(path.with_suffix(".tif"), path, driver="netCDF")
    with pytest.raises(RasterError, match=r"no bands of its own.*Band1.*Band2"):
        open_raster(path)


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_truncated_files_name_the_window(
    suffix: str,
    write_raster: WriteRaster,
    noise: Noise,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    driver = {"tif": "GTiff", "jpg": "JPEG"}[suffix]
    whole = write_raster(f"whole.{suffix}", noise(3, 400, 600), driver=driver)
    short = tmp_path / f"short.{suffix}"
    data = whole.read_bytes()
    short.write_bytes(data[: len(data) * 6 // 10] if suffix == "jpg" else data[:-100_000])
    with open_raster(short, pixel_coordinates=True) as raster:
        with pytest.raises(RasterReadError, match=r"600 x 30 pixels.*column 0, row 370"):
            raster.read(Window(0, 370, 600, 30), bands=[1, 2, 3])
        assert raster.read(Window(0, 0, 600, 3), bands=[1, 2, 3]).any()
    assert capfd.readouterr() == ("", "")


def test_giant_blocks_are_refused(
    write_raster: WriteRaster, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_module, "LARGEST_BLOCK_BYTES", 1000)
    path = write_raster("a.tif", noise(3, 64, 64), tiled=True, blockxsize=64, blockysize=64)
    with pytest.raises(RasterError, match=r"blocks of 64 x 64 pixels.*gdal_translate -of COG"):
        open_raster(path)


def test_more_blocks_than_bytes_are_refused(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(1, 8, 8), blockysize=1)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x01\x01\x03\x00\x01\x00\x00\x00\x08\x00")  # ImageLength, SHORT, 1 value
    data[at + 2 : at + 12] = b"\x04\x00\x01\x00\x00\x00" + (2**30).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(RasterError):
        open_raster(path)


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_broken_transforms_are_refused(
    size: float, write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    vrt = path.with_suffix(".vrt")
    copy_raster(path, vrt, driver="VRT")
    text = vrt.read_text()
    start, end = text.index("<GeoTransform>"), text.index("</GeoTransform>")
    vrt.write_text(f"{text[:start]}<GeoTransform>5, {size}, 0, 6, 0, {size}{text[end:]}")
    with pytest.raises(GeoreferenceError, match=r"transform"):
        open_raster(vrt)


def test_closed_rasters_cannot_be_read(write_raster: WriteRaster, noise: Noise) -> None:
    raster = open_raster(write_raster("a.tif", noise(3, 9, 8)))
    raster.close()
    raster.close()
    with pytest.raises(RasterReadError):
        raster.read(Window(0, 0, 8, 9), bands=[1])


def test_threads_may_share_a_raster_or_reopen_it(write_raster: WriteRaster, noise: Noise) -> None:
    pixels = noise(3, 256, 256)
    path = write_raster("a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="LZW")
    wrong: list[int] = []

    def check(seed: int) -> None:
        shared = seed % 2 == 0
        mine = raster if shared else raster.reopen()
        for col, row in np.random.default_rng(seed).integers(0, 200, (40, 2)).tolist():
            read = mine.read(Window(col, row, 50, 50), bands=[1, 2, 3])
            if not np.array_equal(read, pixels[:, row : row + 50, col : col + 50]):
                wrong.append(seed)
        if not shared:
            mine.close()

    with open_raster(path) as raster:
        threads = [threading.Thread(target=check, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_reopening_a_vanished_file_is_told(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with open_raster(path) as raster:
        path.unlink()
        with pytest.raises(RasterError, match=r"does not exist"):
            raster.reopen()
