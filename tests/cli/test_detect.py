import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner

from geo_retina.cli.main import app

Field = Callable[..., tuple[Any, Any]]


@pytest.fixture
def run() -> Callable[..., Any]:
    """`run("detect", ...)`: the program in this process; standard error is kept apart."""

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def field(write_raster: Callable[..., Path], field_of_objects: Field) -> Path:
    return write_raster("field.tif", field_of_objects(200, 150)[0])


def test_writes_all_that_was_asked_for(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    out, picture, summary = (tmp_path / name for name in ("a.geojson", "a.png", "a.json"))
    done = run("detect", field, "-o", out, "-o", tmp_path / "a.gpkg", "--picture", picture,
               "--summary", summary)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    count = len(gpd.read_file(out))
    assert count == len(gpd.read_file(tmp_path / "a.gpkg")) > 0
    assert f"found    {count} objects ({count} tree)" in done.stdout
    assert f"written  {out}" in done.stdout
    assert f"picture  {picture}" in done.stdout
    assert json.loads(summary.read_text())["counts"]["objects"] == count
    with Image.open(picture) as image:
        assert image.size == (800, 600)
        yellow = (np.asarray(image).astype(int) - (255, 214, 10)).__abs__().sum(axis=2) < 60
    assert yellow.any()


def test_quiet_says_nothing_on_stderr(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    assert run("detect", field, "-o", tmp_path / "a.gpkg", "--quiet").stderr == ""
    assert "windows" in run("detect", field, "-o", tmp_path / "a.gpkg").stderr


def test_points(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    run("detect", field, "-o", tmp_path / "a.gpkg", "--simplify-to", "point")
    assert set(gpd.read_file(tmp_path / "a.gpkg").geom_type) == {"Point"}


def _write_text(path: Path) -> Path:
    path.write_text("no raster")
    return path


BAD_INPUT: dict[str, tuple[Callable[..., list[object]], str]] = {
    "missing file": (lambda t, _w: [t / "none.tif", "-o", t / "a.gpkg"], "does not exist"),
    "not a raster": (
        lambda t, _w: [_write_text(t / "a.tif"), "-o", t / "a.gpkg"],
        "cannot be opened as a raster",
    ),
    "bands": (
        lambda t, w: [w("one.tif", np.zeros((1, 9, 9), np.uint8)), "-o", t / "a.gpkg"],
        "band",
    ),
    "dtype": (
        lambda t, w: [w("deep.tif", np.zeros((3, 9, 9), np.uint16)), "-o", t / "a.gpkg"],
        "--scale MIN MAX",
    ),
    "no georeference": (
        lambda t, w: [w("no.tif", np.zeros((3, 9, 9), np.uint8), crs=None), "-o", t / "a.gpkg"],
        "--pixel-coordinates",
    ),
    "too coarse": (
        lambda t, w: [w("c.tif", np.zeros((3, 9, 9), np.uint8), gsd=2.0), "-o", t / "a.gpkg"],
        "--any-gsd",
    ),
    "extension": (lambda t, w: [_rgb(w), "-o", t / "a.docx"], ".geojson"),
    "folder": (lambda t, w: [_rgb(w), "-o", t / "none" / "a.gpkg"], "folder"),
    "aoi": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--aoi", t / "none.gpkg"], "AOI"),
    "score": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--score", 3], "score"),
    "overlap": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--overlap", 9999], "overlap"),
    "bands text": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--bands", "x"], "--bands"),
    "device": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--device", "warp"], "device"),
    "method": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--method", "magic"], "soft-nms"),
    "picture": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--picture", t / "a.jpg"], ".png"),
    "summary": (
        lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--summary", t / "none" / "a.json"],
        "folder",
    ),
}


def _rgb(write_raster: Callable[..., Path]) -> Path:
    return write_raster("rgb.tif", np.zeros((3, 9, 9), np.uint8))


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str,
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster: Callable[..., Path],
    tmp_path: Path,
) -> None:
    detector = blob_model()
    arguments, said = BAD_INPUT[case]
    done = run("detect", *arguments(tmp_path, write_raster), "--quiet")
    assert done.exit_code == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
    assert said in done.stderr
    assert detector.calls == 0
    assert not list(tmp_path.glob("a.*pkg*")), "nothing may be left behind"


def test_unknown_model_lists_the_known_ones(
    run: Callable[..., Any], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("detect", _rgb(write_raster), "-o", tmp_path / "a.gpkg", "--model", "birds")
    assert done.exit_code == 2
    assert "tree-crowns" in done.stderr


def test_usage_errors_exit_with_2(run: Callable[..., Any]) -> None:
    assert run("detect").exit_code == 2
    assert run("detekt").exit_code == 2


def test_aoi_outside_is_empty_with_a_warning(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(tmp_path / "far.gpkg")
    done = run("detect", field, "-o", tmp_path / "a.geojson", "--aoi", tmp_path / "far.gpkg")
    assert done.exit_code == 0
    assert "warning" in done.stderr
    assert len(gpd.read_file(tmp_path / "a.geojson")) == 0


def test_pixel_coordinates_without_georeference(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster: Callable[..., Path],
    tmp_path: Path,
) -> None:
    blob_model()
    pixels = np.full((3, 50, 50), 20, dtype=np.uint8)
    pixels[:, 10:22, 30:42] = 200
    path = write_raster("plain.tif", pixels, crs=None)
    done = run("detect", path, "-o", tmp_path / "a.geojson", "--pixel-coordinates")
    assert done.exit_code == 0, done.stderr
    bounds = gpd.read_file(tmp_path / "a.geojson").total_bounds
    assert bounds.tolist() == [30, 10, 42, 22]


def test_info_and_plan_print_json(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path
) -> None:
    detector = blob_model()
    shown = json.loads(run("info", field, "--json").stdout)
    assert (shown["width"], shown["height"]) == (200, 150)
    assert shown["gsd_m"] == pytest.approx([0.1, 0.1], rel=0.01)
    assert detector.calls == 0
