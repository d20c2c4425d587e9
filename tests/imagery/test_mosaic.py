import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fixture_types import MakeCard, WriteRaster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from windows_paths import WindowsPath

from geo_retina.card import ModelCard
from geo_retina.errors import OutputError, RasterError
from geo_retina.imagery import vrt
from geo_retina.imagery.mosaic import write_mosaic
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window

OTHER = "+proj=tmerc +lon_0=15 +ellps=GRS80 +units=m"
NORTH_UP = Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000)
TURNED = Affine.translation(500_000, 5_400_000) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1)


def scene(bands: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(1, 255, (bands, 90, 120), dtype=np.uint8)


def write_part(
    write: WriteRaster,
    path: Path,
    whole: NDArray[Any],
    window: Window,
    transform: Affine = NORTH_UP,
    **options: object,
) -> str:
    rows, cols = slice(window.row_off, window.row_end), slice(window.col_off, window.col_end)
    mask = options.pop("mask", None)
    if mask is not None:
        options["mask"] = mask[rows, cols]  # type: ignore[index]
    moved = transform @ Affine.translation(window.col_off, window.row_off)
    return str(write(path, whole[:, rows, cols], transform=moved, **options))


def quarters() -> list[Window]:
    return [Window(x, y, 60, 45) for y in (0, 45) for x in (0, 60)]


def read_all(path: Path, card: ModelCard) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    with open_raster(path) as raster:
        source = open_chip_source(raster, card, ReadOptions())
        chip = source.read(Window(0, 0, source.grid.width, source.grid.height))
        return chip.pixels, chip.valid


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_tiles_give_the_raster_they_were_cut_from(
    tmp_path: Path, write_raster: WriteRaster, transform: Affine
) -> None:
    whole = scene()
    files = [
        write_part(write_raster, tmp_path / f"{i}.tif", whole, window, transform)
        for i, window in enumerate(quarters())
    ]

    done = write_mosaic(files[::-1], tmp_path / "all.vrt")  # the first file is not the first corner

    assert (done.files, done.covered) == (4, 1)
    with open_raster(tmp_path / "all.vrt") as raster:
        assert raster.grid.crs == done.grid.crs
        assert np.allclose(raster.grid.transform, transform, rtol=0, atol=1e-6)
        assert raster.mask_flags[0] == {"all_valid"}
        read = raster.read(Window(0, 0, 120, 90), bands=[1, 2, 3])
    assert np.array_equal(read, whole)


@settings(max_examples=20, deadline=None)
@given(
    corners=st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 60), st.integers(1, 40), st.integers(1, 30)),
        min_size=1,
        max_size=6,
    )
)
def test_any_tiles_show_their_pixels_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    write_raster_at: WriteRaster,
    make_card: MakeCard,
    corners: list[tuple[int, int, int, int]],
) -> None:
    folder, whole = tmp_path_factory.mktemp("tiles"), scene()
    windows = [Window(*corner) for corner in corners]
    files = [
        write_part(write_raster_at, folder / f"{i}.tif", whole, window)
        for i, window in enumerate(windows)
    ]
    shown = np.zeros(whole.shape[1:], np.bool_)
    for window in windows:
        shown[window.row_off : window.row_end, window.col_off : window.col_end] = True
    rows, cols = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    shape = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)

    done = write_mosaic(files, folder / "all.vrt")

    pixels, valid = read_all(folder / "all.vrt", make_card())
    assert np.array_equal(valid, shown[shape])
    assert np.array_equal(pixels[:, valid], whole[:, *shape][:, valid])
    assert done.covered == pytest.approx(shown[shape].mean())


@pytest.mark.parametrize("kind", ["mask", "mask and nodata", "nodata", "alpha"])
def test_invalid_pixels_stay_invalid_and_let_lower_files_show(
    tmp_path: Path, write_raster: WriteRaster, make_card: MakeCard, kind: str
) -> None:
    whole = scene()
    holes = np.random.default_rng(4).random((2, 90, 120)) < 0.3
    lower, upper = Window(0, 0, 80, 90), Window(40, 0, 80, 90)
    files = []
    for name, window, hole in (("a.tif", lower, holes[0]), ("b.tif", upper, holes[1])):
        pixels, options = whole.copy(), dict[str, Any]()
        if kind.startswith("mask"):
            options |= {"mask": ~hole, "nodata": 255 if "nodata" in kind else None}
        elif kind == "nodata":
            pixels[:, hole], options["nodata"] = 0, 0
        else:
            pixels = np.concatenate([pixels, np.where(hole, 0, 255)[None].astype(np.uint8)])
            options["colours"] = ("red", "green", "blue", "alpha")
        files.append(write_part(write_raster, tmp_path / name, pixels, window, **options))
    expected = np.zeros((90, 120), np.bool_)
    expected[:, :80] |= ~holes[0][:, :80]
    expected[:, 40:] |= ~holes[1][:, 40:]

    write_mosaic(files, tmp_path / "all.vrt")

    pixels, valid = read_all(tmp_path / "all.vrt", make_card())
    assert np.array_equal(valid, expected)
    assert np.array_equal(pixels[:, valid], whole[:, valid])


def test_an_infrared_band_tagged_alpha_is_a_band_and_gaps_are_no_ground(
    tmp_path: Path, write_raster: WriteRaster, make_card: MakeCard
) -> None:
    whole = scene(4)
    whole[3, 5:20, 65:80] = 0  # water takes all infrared
    colours = ("red", "green", "blue", "alpha")
    files = [
        write_part(write_raster, tmp_path / f"{i}.tif", whole, window, colours=colours)
        for i, window in enumerate(quarters()[1:])
    ]

    write_mosaic(files, tmp_path / "all.vrt")

    card = make_card(bands=("red", "green", "blue", "nir"), mean=(0.5,) * 4, std=(0.2,) * 4)
    with open_raster(tmp_path / "all.vrt") as raster:
        source = open_chip_source(raster, card, ReadOptions(bands=(1, 2, 3, 4)))
        chip = source.read(Window(0, 0, 120, 90))
    expected = np.ones((90, 120), np.bool_)
    expected[:45, :60] = False
    assert np.array_equal(chip.valid, expected)
    assert np.array_equal(chip.pixels[:, expected], whole[:, expected])


def test_nan_is_a_nodata_value_like_others(tmp_path: Path, write_raster: WriteRaster) -> None:
    whole = scene(1).astype(np.float32)
    whole[0, 5:9, 65:70] = np.nan
    files = [
        write_part(write_raster, tmp_path / f"{i}.tif", whole, window, nodata=np.nan)
        for i, window in enumerate(quarters()[1:])
    ]

    write_mosaic(files, tmp_path / "all.vrt")

    expected = np.isfinite(whole[0])
    expected[:45, :60] = False
    with open_raster(tmp_path / "all.vrt") as raster:
        everything = Window(0, 0, 120, 90)
        assert np.array_equal(raster.read_mask(everything, band=1), expected)
        read = raster.read(everything, bands=[1])
    assert np.array_equal(read[0][expected], whole[0][expected])


def test_nan_is_not_valid_though_no_nodata_value_says_so(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    whole = scene(1).astype(np.float32)
    holes = np.random.default_rng(4).random((2, 90, 120)) < 0.3
    files = []
    for i, (hole, window) in enumerate(
        zip(holes, (Window(0, 0, 80, 90), Window(40, 0, 80, 90)), strict=True)
    ):
        pixels = np.where(hole, np.float32(np.nan), whole)
        files.append(write_part(write_raster, tmp_path / f"{i}.tif", pixels, window))

    write_mosaic(files, tmp_path / "all.vrt")

    with open_raster(tmp_path / "all.vrt") as raster:
        read = raster.read(Window(0, 0, 120, 90), bands=[1])[0]
    expected = np.full_like(whole[0], np.nan)
    expected[:, :80] = np.where(holes[0], np.nan, whole[0])[:, :80]
    upper = ~holes[1] & (np.arange(120) >= 40)
    expected[upper] = whole[0][upper]
    assert np.array_equal(read, expected, equal_nan=True)


def test_gdal_paths_keep_what_they_choose(tmp_path: Path, write_raster: WriteRaster) -> None:
    path = write_raster(tmp_path / "a.tif", scene(), colours=("red", "green", "blue"))

    write_mosaic([f"vrt://{path}?bands=3,2,1"], tmp_path / "all.vrt")

    with open_raster(tmp_path / "all.vrt") as raster:
        read = raster.read(Window(0, 0, 120, 90), bands=[1, 2, 3])
    assert np.array_equal(read, scene()[::-1])


def test_floats_with_and_without_masks_fit(tmp_path: Path, write_raster: WriteRaster) -> None:
    whole, mask = scene(1).astype(np.float32), np.ones((90, 120), np.bool_)
    mask[:, 70:] = False
    whole[:, 20:30] = 0  # dark, and as valid as any
    left = write_part(write_raster, tmp_path / "a.tif", whole, Window(0, 0, 60, 90))
    right = write_part(write_raster, tmp_path / "b.tif", whole, Window(60, 0, 60, 90), mask=mask)

    write_mosaic([left, right], tmp_path / "all.vrt")

    with open_raster(tmp_path / "all.vrt") as raster:
        assert np.array_equal(raster.read_mask(Window(0, 0, 120, 90), band=1), mask)


def test_a_mosaic_does_not_replace_a_part_of_its_files(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    file = write_raster(tmp_path / "a.tif", scene())
    write_mosaic([str(file)], tmp_path / "one.vrt")
    write_mosaic([str(tmp_path / "one.vrt")], tmp_path / "two.vrt")

    with pytest.raises(RasterError, match=r"one\.vrt is a part of .*two\.vrt"):
        write_mosaic([str(tmp_path / "two.vrt")], tmp_path / "one.vrt")


def test_a_mosaic_of_mosaics_knows_every_file_that_it_shows(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    """GDAL names the sources of the outermost one, without the masks and overviews beside them."""
    file = write_raster(tmp_path / "a.tif", scene())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(file, "r+") as tile:
        tile.write_mask(np.full((90, 120), 255, np.uint8))
    one, two, three = (tmp_path / f"{name}.vrt" for name in ("one", "two", "three"))
    write_mosaic([str(file)], one)
    write_mosaic([str(one)], two)
    write_mosaic([str(two)], three)

    with open_raster(three) as raster:
        names = {Path(file).name for file in raster.files}
    assert names == {"three.vrt", "two.vrt", "one.vrt", "a.tif", "a.tif.msk"}
    with pytest.raises(RasterError, match=r"one\.vrt is a part of .*three\.vrt"):
        write_mosaic([str(three)], one)
    assert write_mosaic([str(two), str(three)], three).files == 1, "nothing that it shows is lost"


def test_a_mosaic_of_subdatasets_knows_the_file_that_holds_them(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    held = tmp_path / "plots.gpkg"
    copy_raster(write_raster(tmp_path / "a.tif", scene()), held, driver="GPKG")
    with sqlite3.connect(held) as tables:
        ((table,),) = tables.execute("SELECT table_name FROM gpkg_contents")
    write_mosaic([f"GPKG:{held}:{table}"], tmp_path / "all.vrt")

    with open_raster(tmp_path / "all.vrt") as raster:
        assert str(held) in raster.files


def test_a_mosaic_that_is_named_loses_nothing_to_the_one_that_replaces_it(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    tiles = [
        write_part(write_raster, tmp_path / f"{number}.tif", scene(), window)
        for number, window in enumerate(quarters())
    ]
    out = tmp_path / "all.vrt"
    write_mosaic(tiles[:3], out)
    before = out.read_bytes()

    with pytest.raises(RasterError, match=r"all\.vrt would be overwritten.*0\.tif"):
        write_mosaic([str(out), tiles[3]], out)
    assert out.read_bytes() == before
    assert write_mosaic([str(out), *tiles], out).files == 4  # what a pattern finds


def test_large_whole_nodata_values_are_kept(tmp_path: Path, write_raster: WriteRaster) -> None:
    pixels = scene(1).astype(np.int32)
    file = write_raster(tmp_path / "a.tif", pixels, nodata=-2_147_483_647)

    write_mosaic([str(file)], tmp_path / "all.vrt")

    with open_raster(tmp_path / "all.vrt") as raster:
        assert raster.nodata == (-2_147_483_647,)


def test_a_mosaic_does_not_hold_itself_by_another_path(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    (tmp_path / "tiles").mkdir()
    file = write_part(write_raster, tmp_path / "tiles/a.tif", scene(), Window(0, 0, 60, 45))
    (tmp_path / "link").symlink_to(tmp_path / "tiles", target_is_directory=True)
    write_mosaic([file], tmp_path / "tiles/all.vrt")

    done = write_mosaic([file, str(tmp_path / "link/all.vrt")], tmp_path / "tiles/all.vrt")

    assert done.files == 1


def test_paths_are_relative_where_files_lie_below(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    (tmp_path / "tiles").mkdir()
    file = write_part(write_raster, tmp_path / "tiles/a.tif", scene(), Window(0, 0, 60, 45))

    write_mosaic([file], tmp_path / "all.vrt")
    moved = tmp_path.rename(tmp_path.with_name("moved"))

    with open_raster(moved / "all.vrt") as raster:
        assert raster.read(Window(0, 0, 60, 45), bands=[1]).any()


def test_an_older_mosaic_is_replaced_and_not_taken_for_a_file(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    file = write_part(write_raster, tmp_path / "a.tif", scene(), Window(0, 0, 60, 45))
    out = tmp_path / "all.vrt"
    write_mosaic([file], out)

    done = write_mosaic([file, str(out)], out)

    assert done.files == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "all.vrt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crs": "EPSG:32632"}, r"differ in their CRS: 1 of .*zone 3[23]N.*a\.tif"),
        (
            {"crs": "+proj=tmerc +lon_0=12 +ellps=GRS80 +units=m", "first": {"crs": OTHER}},
            r"differ in their CRS: 1 of unknown \(.*a\.tif.*1 of unknown \(.*b\.tif",
        ),
        ({"descriptions": ("blue", "green", "red")}, r"differ in their band names: 1 of none"),
        ({"crs": None}, r"no georeference: .*b\.tif.*--raster-crs"),
        ({"colours": ("red", "green", "nir")}, r"differ in their bands"),
        ({"nodata": 0}, r"differ in their nodata values: 1 of none, none, none"),
        (
            {"transform": NORTH_UP @ Affine.scale(2)},
            r"b\.tif: other pixels than .*a\.tif.*gdalwarp",
        ),
        ({"transform": NORTH_UP @ Affine.scale(1, 2)}, r"b\.tif: other pixels than .*a\.tif"),
        ({"transform": NORTH_UP @ Affine(1, 1, 0, 0, 1, 0)}, r"b\.tif: other pixels than"),
        ({"transform": NORTH_UP @ Affine(1, 0, 0, 1, 1, 0)}, r"b\.tif: other pixels than"),
        (
            {"transform": NORTH_UP @ Affine.translation(60.4, 0)},
            r"b\.tif: up to 0\.40 px off the grid of .*a\.tif",
        ),
    ],
    ids=[
        "CRS",
        "CRS of one name",
        "band names",
        "no CRS",
        "bands",
        "nodata",
        "pixel size",
        "taller pixels",
        "sheared along x",
        "sheared along y",
        "shifted",
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, write_raster: WriteRaster, options: dict[str, Any], message: str
) -> None:
    one = write_raster(tmp_path / "a.tif", scene(), transform=NORTH_UP, **options.pop("first", {}))
    plain = {"transform": NORTH_UP @ Affine.translation(120, 0)}
    other = write_raster(tmp_path / "b.tif", scene(), **(plain | options))

    with pytest.raises(RasterError, match=message):
        write_mosaic([str(one), str(other)], tmp_path / "all.vrt")
    assert not (tmp_path / "all.vrt").exists()


def test_other_data_types_are_refused(tmp_path: Path, write_raster: WriteRaster) -> None:
    one = write_raster(tmp_path / "a.tif", scene())
    other = write_raster(tmp_path / "b.tif", scene().astype(np.uint16))

    with pytest.raises(RasterError, match="differ in their data types: 1 of uint8"):
        write_mosaic([str(one), str(other)], tmp_path / "all.vrt")


def test_no_file_and_another_ending_are_refused(tmp_path: Path, write_raster: WriteRaster) -> None:
    one = str(write_raster(tmp_path / "a.tif", scene()))

    with pytest.raises(RasterError, match="got none"):
        write_mosaic([], tmp_path / "all.vrt")
    with pytest.raises(RasterError, match=r"ends in \.vrt, got .*all\.tif"):
        write_mosaic([one], tmp_path / "all.tif")
    with pytest.raises(OutputError, match=r"folder .*missing of all.vrt does not exist"):
        write_mosaic([one], tmp_path / "missing" / "all.vrt")


def test_progress_counts_files(tmp_path: Path, write_raster: WriteRaster) -> None:
    files = [
        write_part(write_raster, tmp_path / f"{i}.tif", scene(), window)
        for i, window in enumerate(quarters())
    ]
    seen: list[tuple[int, int]] = []

    write_mosaic(files, tmp_path / "all.vrt", on_progress=lambda *done: seen.append(done))

    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("nodata", [0, 0.5, 255])
def test_nodata_of_whole_numbers_is_not_rounded(
    tmp_path: Path, write_raster: WriteRaster, nodata: float
) -> None:
    """At 0.5 no pixel is nodata; at 0 the black ones would be."""
    pixels = np.zeros((3, 20, 20), np.uint8)
    pixels[:, 5] = 255
    path = write_raster("a.tif", pixels, nodata=nodata)
    write_mosaic([str(path)], tmp_path / "a.vrt")
    with open_raster(path) as one, open_raster(tmp_path / "a.vrt") as other:
        assert one.nodata == other.nodata == (nodata,) * 3


def test_a_vrt_of_windows_is_read_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WindowsPath, "exists", lambda _: True)
    monkeypatch.setattr(vrt, "Path", WindowsPath)
    folder = WindowsPath(r"C:\data")
    assert vrt._written_path(r"C:\data\tiles\a.tif", folder) == ("tiles/a.tif", True)
    assert vrt._written_path(r"D:\b.tif", folder) == (r"D:\b.tif", False)
