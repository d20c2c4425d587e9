import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint
from typer.testing import CliRunner

from geo_retina.cli.main import app
from geo_retina.cli.reporting import megapixels, memory
from geo_retina.wording import counted


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines_of(text: str) -> dict[str, str]:
    """What stands after each name."""
    return {line[:13].strip(): line[13:].strip() for line in text.splitlines() if line.strip()}


def test_says_what_the_raster_is_for_people(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    detector = blob_model()
    path = write_raster("a.tif", np.zeros((3, 50, 60), np.uint8), colours=["red", "green", "blue"])
    done = run("info", path)
    assert done.exit_code == 0, done.output
    shown = lines_of(done.stdout)
    assert shown["size"] == "60 x 50 px, 0.003 Mpix"
    assert shown["bands"] == "1 red, 2 green, 3 blue"
    assert (shown["data type"], shown["nodata"]) == ("uint8", "none")
    assert shown["CRS"] == "WGS 84 / UTM zone 33N (EPSG:32633)"
    assert shown["transform"] == "0.1, 0, 500000, 0, -0.1, 5400000"
    assert shown["bounds"] == "left 500000, bottom 5399995, right 500006, top 5400000"
    assert shown["GSD"] == "0.10 m"
    assert shown["values shown"] == "0 to 255"
    assert shown["valid"] == "all, by its masks; values not looked at"
    assert shown["windows"] == "1 window in 1 row"
    assert detector.calls == 0


def test_control_points_are_told_of_once(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    corners = [(0, 0), (0, 60), (50, 0), (50, 60)]
    points = [
        GroundControlPoint(row=row, col=col, x=500_000 + col / 10, y=5_400_000 - row / 10)
        for row, col in corners
    ]
    path = write_raster("a.tif", np.zeros((3, 50, 60), np.uint8), gcps=points)
    assert run("info", path).stderr.count("ground control points") == 1


UNREADABLE: dict[str, tuple[tuple[int, ...], str, dict[str, object], str]] = {
    "sixteen bits": ((3, 9, 9), "uint16", {}, "--scale MIN MAX"),
    "four bands": ((4, 9, 9), "uint8", {"colours": ["undefined"] * 4}, "--bands"),
    "no place": ((3, 9, 9), "uint8", {"crs": None}, "--pixel-coordinates"),
    "coarse": ((3, 9, 9), "uint8", {"gsd": 2.0}, "--any-gsd"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_raster_that_the_default_model_cannot_read_is_described_all_the_same(
    case: str, write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    shape, dtype, options, said = UNREADABLE[case]
    path = write_raster("a.tif", np.zeros(shape, dtype), **options)

    done = run("info", path)
    assert done.exit_code == 0, done.output
    shown = lines_of(done.stdout)
    assert shown["size"].startswith("9 x 9 px")
    assert shown["data type"] == dtype
    assert shown["CRS"].startswith("none: " if case == "no place" else "WGS 84 / UTM")
    assert "windows" not in shown
    last = done.stdout.splitlines()[-1]
    assert last.startswith("tree-crowns cannot read it: ")
    assert said in last

    plain = json.loads(run("info", path, "--json").stdout)
    assert plain["dtypes"] == [dtype] * shape[0]
    assert said in plain["refusal"]

    stated = run("info", path, "--model", "blobs")
    assert stated.exit_code == 2
    assert lines_of(stated.stdout)["data type"] == dtype
    assert stated.stderr.startswith("error: blobs cannot read it: ")
    assert stated.stderr.count("\n") == 1


def test_a_broken_georeference_is_told(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    transform = Affine(0.1, 0, 5, 0, -0.1, 9)
    path = write_raster("a.tif", np.zeros((3, 9, 9), np.uint8), crs=None, transform=transform)
    done = run("info", path)
    assert done.exit_code == 0
    assert "a transform but no CRS" in lines_of(done.stdout)["CRS"]
    wrong = run("info", path, "--raster-crs", "EPSG:99999999")
    assert wrong.exit_code == 2
    assert "99999999" in wrong.stderr


@pytest.mark.parametrize("datum", ["+ellps=GRS80", "+ellps=bessel +towgs84=598,73,418,1,0,-2,7"])
def test_a_crs_without_a_name_is_told_by_its_kind(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any], datum: str
) -> None:
    blob_model()
    crs = f"+proj=tmerc +lat_0=40 +lon_0=-105 +x_0=0 +y_0=0 {datum} +units=us-ft"
    transform = Affine(0.3, 0, 5, 0, -0.3, 9)
    done = run(
        "info", write_raster("a.tif", np.zeros((3, 9, 9), np.uint8), crs=crs, transform=transform)
    )
    told = lines_of(done.stdout)["CRS"]
    assert "Transverse Mercator" in told
    assert "US survey foot" in told
    assert "unknown" not in told


def test_what_is_no_raster_or_no_model_is_bad_input(
    write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_raster("a.tif", np.zeros((3, 9, 9), np.uint8))
    for words in ((tmp_path / "none.tif",), (path, "--model", "birds"), (path, path)):
        done = run("info", *words)
        assert done.exit_code == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1


def test_floats_with_nan_are_not_called_valid(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    pixels = np.zeros((3, 20, 20), np.float32)
    pixels[:, 5] = np.nan
    done = run("info", write_raster("a.tif", pixels), "--scale", 0, 1)
    assert lines_of(done.stdout)["valid"] == "all, by its masks; values not looked at"


@pytest.mark.parametrize("nodata", [np.nan, np.inf])
def test_nodata_that_json_lacks_is_text_there(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any], nodata: float
) -> None:
    blob_model()
    path = write_raster("a.tif", np.zeros((3, 20, 20), np.float32), nodata=nodata)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    done = run("info", path, "--json")
    assert json.loads(done.stdout, parse_constant=refuse)["nodata"] == [str(nodata)] * 3


def test_a_raster_off_its_crs_is_described(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    far = Affine(0.1, 0, 9e7, 0, -0.1, 9e7)
    done = run("info", write_raster("a.tif", np.zeros((3, 20, 20), np.uint8), transform=far))
    assert done.exit_code == 0
    assert "20 x 20 px" in done.stdout
    assert "outside the area where its CRS" in done.stdout + done.stderr


def test_a_nodata_value_is_named_as_such(
    write_raster: Callable[..., Path], blob_model: Callable[..., Any]
) -> None:
    blob_model()
    done = run("info", write_raster("a.tif", np.zeros((3, 20, 20), np.uint8), nodata=255))
    assert lines_of(done.stdout)["nodata"] == "255"
    assert lines_of(done.stdout)["valid"].startswith("where its masks or nodata values say so")


def test_plan_speaks_in_units_and_takes_a_layer_of_the_aoi(
    write_raster: Callable[..., Path],
    blob_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    blob_model()
    for name, side in (("near", 2), ("all", 20)):
        square = shapely.box(500_000, 5_400_000 - side, 500_000 + side, 5_400_000)
        gpd.GeoSeries([square], crs="EPSG:32633").to_file(tmp_path / "aoi.gpkg", layer=name)
    path = write_raster("a.tif", np.zeros((3, 200, 200), np.uint8))
    words = ("plan", path, "--aoi", tmp_path / "aoi.gpkg", "--aoi-layer", "near")
    done = run(*words)
    assert done.exit_code == 0, done.output
    shown = lines_of(done.stdout)
    assert shown["windows"] == "16 windows, 1 to search"
    assert "Mpix valid; " in shown["pixels"]
    assert "iB, with up to 16 MiB of decoded blocks" in shown["memory"]
    assert shown["time"].endswith(" s")
    plain = json.loads(run(*words, "--json").stdout)
    assert {"memory_mib", "minutes", "is_estimate", "windows_to_infer"} <= set(plain)


def test_units_are_those_that_fit() -> None:
    assert [counted(1, "window"), counted(2, "row")] == ["1 window", "2 rows"]
    assert [memory(299.6), memory(2048)] == ["300 MiB", "2.0 GiB"]
    assert [megapixels(m) for m in (0.16, 12.34, 1234.5)] == [
        "0.16 Mpix",
        "12.3 Mpix",
        "1,234 Mpix",
    ]
