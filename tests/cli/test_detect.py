import errno
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

Field = Callable[..., tuple[Any, Any]]


@pytest.fixture
def field(write_raster: Callable[..., Path], field_of_objects: Field) -> Path:
    return write_raster("field.tif", field_of_objects(200, 150)[0])


def test_writes_all_that_was_asked_for(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    out, picture, summary = (tmp_path / name for name in ("a.geojson", "a.png", "a.json"))
    page = tmp_path / "a.html"
    done = run("detect", field, "-o", out, "-o", tmp_path / "a.gpkg", "--picture", picture,
               "--map", page, "--summary", summary)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    count = len(gpd.read_file(out))
    assert count == len(gpd.read_file(tmp_path / "a.gpkg")) > 0
    assert f"found    {count} objects ({count} tree)" in done.stdout
    assert f"written  {out}" in done.stdout
    assert f"picture  {picture}" in done.stdout
    assert f"map      {page}" in done.stdout
    assert f'"found": {count}' in page.read_text()
    assert json.loads(summary.read_text())["counts"]["objects"] == count
    with Image.open(picture) as image:
        assert image.size == (800, 600)
        yellow = (np.asarray(image).astype(int) - (255, 214, 10)).__abs__().sum(axis=2) < 60
    assert yellow.any()


def test_what_a_library_warns_of_is_a_line_like_others(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    field: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = blob_model()
    detect = detector.detect

    def warn_and_detect(*arguments: object) -> object:
        warnings.warn("the layer is\nodd", RuntimeWarning, stacklevel=1)
        return detect(*arguments)

    monkeypatch.setattr(detector, "detect", warn_and_detect)
    done = run("detect", field, "-o", tmp_path / "a.gpkg", "--quiet")
    assert done.stderr == "warning: the layer is odd\n"


def test_quiet_says_nothing_on_stderr(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    assert run("detect", field, "-o", tmp_path / "a.gpkg", "--quiet").stderr == ""
    assert "windows" in run("detect", field, "-o", tmp_path / "a.gpkg").stderr


def test_the_number_of_readers_changes_nothing(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    out = [tmp_path / f"{readers}.geojson" for readers in (1, 5)]
    for path in out:
        done = run(
            "detect", field, "-o", path, "--readers", path.stem, "--chip", 64, "--overlap", 16
        )
        assert done.exit_code == 0, done.stderr
    assert out[0].read_bytes() == out[1].read_bytes()


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
    "folder as raster": (lambda t, _w: [t, "-o", t / "a.gpkg"], "geo-retina mosaic"),
    "pattern": (lambda t, _w: [t / "*.tif", "-o", t / "a.gpkg"], 'geo-retina mosaic "'),
    "two rasters": (lambda t, w: [_rgb(w), t / "b.tif", "-o", t / "a.gpkg"], "geo-retina mosaic"),
    "layer alone": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--aoi-layer", "x"], "--aoi"),
    "crs of geojson": (
        lambda t, w: [_rgb(w), "-o", t / "a.geojson", "--crs", "EPSG:3857"],
        "leave the CRS out",
    ),
    "overlap": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--overlap", 9999], "overlap"),
    "bands text": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--bands", "x"], "--bands"),
    "device": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--device", "warp"], "device"),
    "class score": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--class-score", "x"], "car=0.2"),
    "class": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--class-score", "x=0.2"], "finds tree"),
    "method": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--method", "magic"], "soft-nms"),
    "soft": (
        lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--method", "soft-nms", "--decay-iou", 0.2],
        "no decay_iou with soft-nms",
    ),
    "picture": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--picture", t / "a.jpg"], ".png"),
    "map": (lambda t, w: [_rgb(w), "-o", t / "a.gpkg", "--map", t / "a.htm"], ".html"),
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


def test_the_summary_counts_windows_and_seams(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    summary = tmp_path / "a.json"
    done = run("detect", field, "-o", tmp_path / "a.csv", "--summary", summary, "--quiet")
    totals = json.loads(summary.read_text())["seams"]["totals"]
    assert totals["merged"] > 0
    assert totals["cut"] > 0
    assert (
        f"seams    {totals['merged']} boxes merged, {totals['cut']} dropped as cut, "
        f"{totals['suspected']} suspected duplicates\n" in done.stdout
    )
    assert "windows  12 searched, 0 empty, 0 outside the AOI, 0 split\n" in done.stdout


def test_plan_option_detects_nothing(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    field: Path,
    tmp_path: Path,
) -> None:
    detector = blob_model()
    done = run("detect", field, "-o", tmp_path / "a.csv", "--plan", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^windows +12 windows, 12 to search$", done.stdout, re.MULTILINE)
    assert re.search(r"^memory +about [\d,.]+ [MG]iB, ", done.stdout, re.MULTILINE)
    assert re.search(r"^time +(less than 1|\d+) s$", done.stdout, re.MULTILINE)
    assert detector.calls == 2, "one chip to warm up, one to be timed"
    assert not list(tmp_path.glob("a.csv*"))


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    detector, out = blob_model(), tmp_path / "a.csv"
    detect, calls = detector.detect, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return detect(*arguments)

    detector.detect = interrupted  # type: ignore[method-assign]
    done = run("detect", field, "-o", out, "--quiet")
    assert done.exit_code == 130
    assert re.fullmatch(r"interrupted: [^\n]+--resume[^\n]+\n", done.stderr)
    assert not out.exists()
    assert run("detect", field, "-o", out, "--quiet").exit_code == 2
    assert run("detect", field, "-o", out, "--quiet", "--resume").exit_code == 0
    assert out.exists()


def test_full_disk_is_one_line_and_exit_code_1(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    field: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob_model()
    out = tmp_path / "a.csv"

    def full(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("geo_retina.detection.disk.write_at", full)
        done = run("detect", field, "-o", out, "--quiet")
    assert done.exit_code == 1
    assert re.fullmatch(r"error: [^\n]*No space left on device[^\n]*\n", done.stderr)
    assert run("detect", field, "-o", out, "--quiet", "--resume").exit_code == 0


def test_skipped_windows_exit_with_1(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    field.write_bytes(field.read_bytes()[: field.stat().st_size * 3 // 4])
    done = run("detect", field, "-o", tmp_path / "a.csv", "--skip-errors", "--quiet")
    assert done.exit_code == 1
    assert "a.failed_windows.csv" in done.stderr
    assert (tmp_path / "a.csv").exists()


def test_no_output_takes_the_place_of_an_input_or_of_another_output(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    before, aoi = field.read_bytes(), tmp_path / "aoi.geojson"
    aoi.write_text("{}")
    out = tmp_path / "a.geojson"
    for words in (
        ("-o", out, "--picture", field),
        ("-o", out, "--summary", out),
        ("-o", out, "-o", tmp_path / "." / "a.geojson"),
        ("-o", aoi, "--aoi", aoi),
    ):
        done = run("detect", field, *words, "--quiet")
        assert done.exit_code == 2
        assert re.search("would be overwritten|expected different outputs", done.stderr)
    assert field.read_bytes() == before
    assert aoi.read_text() == "{}"


def test_no_file_that_belongs_to_an_input_is_written_or_removed(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    field: Path,
    field_of_objects: Field,
    write_raster: Callable[..., Path],
    tmp_path: Path,
) -> None:
    blob_model()
    # a raster whose CRS lies in a file that a Shapefile of its name would have too
    raster = write_raster("tile.bil", field_of_objects(200, 150)[0], driver="EHdr")
    prj = tmp_path / "tile.prj"
    assert prj.exists()
    options = ("--bands", "1,2,3")
    refused = run("detect", raster, "-o", tmp_path / "tile.shp", *options)
    assert refused.exit_code == 2
    assert "tile.prj would be overwritten, and it is read" in refused.stderr
    assert run("detect", raster, "-o", tmp_path / "other.shp", *options).exit_code == 0

    # the source of a mosaic
    image = write_raster("one.png", field_of_objects(200, 150)[0], driver="PNG")
    assert run("mosaic", image, "-o", tmp_path / "all.vrt").exit_code == 0
    before = image.read_bytes()
    for option in ("--picture", "--summary"):
        refused = run("detect", tmp_path / "all.vrt", "-o", tmp_path / "a.gpkg", option, image)
        assert refused.exit_code == 2
        assert "one.png would be overwritten" in refused.stderr
    many = ("-o", tmp_path / "{name}.gpkg", "--picture", tmp_path / "{name}.png")
    mosaic = tmp_path / "one.vrt"
    (tmp_path / "all.vrt").rename(mosaic)
    assert "one.png would be overwritten" in run("detect", mosaic, *many).stderr
    assert image.read_bytes() == before

    # the windows that an earlier run could not read, as AOI
    bounds = gpd.GeoSeries([shapely.box(5e5, 5.4e6 - 15, 5e5 + 20, 5.4e6)], crs="EPSG:32633")
    holes = tmp_path / "a.failed_windows.gpkg"
    bounds.to_file(holes)
    refused = run("detect", field, "-o", tmp_path / "a.gpkg", "--aoi", holes)
    assert refused.exit_code == 2
    assert holes.exists()
    assert run("detect", field, "-o", tmp_path / "b.gpkg", "--aoi", holes).exit_code == 0
    assert holes.exists()


def test_a_plan_needs_no_output_and_a_detection_does(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path
) -> None:
    blob_model()
    assert "expected --output FILE" in run("detect", field).stderr
    assert run("detect", field, "--plan").exit_code == 0
    refused = run("detect", field, "--plan", "--picture", "a.png")
    assert refused.exit_code == 2
    assert "--picture: --plan detects nothing" in refused.stderr


def test_many_rasters_do_not_flood_the_error(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("detect", *(tmp_path / f"{number}.tif" for number in range(50)), "-o", "a.gpkg")
    assert done.exit_code == 2
    assert "expected one raster, got 50 (" in done.stderr
    assert done.stderr.count(".tif") == 2


def test_geojson_stays_in_its_frame_beside_an_output_that_takes_the_crs(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    outputs = [tmp_path / "a.geojson", tmp_path / "a.gpkg"]
    words = [word for path in outputs for word in ("-o", path)]
    done = run("detect", field, *words, "--crs", "EPSG:3857")
    assert done.exit_code == 0, done.stderr
    assert [gpd.read_file(path).crs.to_epsg() for path in outputs] == [4326, 3857]
    assert "a.geojson is not written in EPSG:3857: RFC 7946" in done.stderr
    assert "a.gpkg is not written" not in done.stderr


def test_holes_beside_a_geojson_take_its_frame(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    field.write_bytes(field.read_bytes()[: field.stat().st_size * 3 // 4])
    words = ["-o", tmp_path / "a.geojson", "-o", tmp_path / "a.gpkg", "--crs", "EPSG:3857"]
    done = run("detect", field, *words, "--skip-errors", "--quiet")
    assert done.exit_code == 1
    assert (tmp_path / "a.failed_windows.geojson").exists()


def test_outputs_are_checked_before_the_model_is_opened(
    run: Callable[..., Any], field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "geo_retina.detection.job.read_info", lambda _model: pytest.fail("the model was opened")
    )
    done = run("detect", field, "-o", tmp_path / "a.geojson", "--crs", "EPSG:3857")
    assert done.exit_code == 2
    assert "WGS 84" in done.stderr


def test_an_exported_graph_is_no_model(
    run: Callable[..., Any], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    graph = tmp_path / "x.onnx"
    graph.touch()
    done = run("detect", _rgb(write_raster), "-o", tmp_path / "a.gpkg", "--model", graph)
    assert done.exit_code == 2
    assert "checkpoint NAME.safetensors" in done.stderr
    assert "OpenVINO graphs beside" in done.stderr


def test_a_layer_of_the_aoi_is_named(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    aoi = tmp_path / "aoi.gpkg"
    for name, side in (("near", 20), ("far", 1)):
        square = shapely.box(500_000, 5_400_000 - side, 500_000 + side, 5_400_000)
        gpd.GeoSeries([square], crs="EPSG:32633").to_file(aoi, layer=name)
    words = ["detect", field, "-o", tmp_path / "a.csv", "--aoi", aoi]
    refused = run(*words)
    assert refused.exit_code == 2
    assert "--aoi-layer NAME" in refused.stderr
    counts = []
    for name in ("near", "far"):
        done = run(*words, "--aoi-layer", name)
        assert done.exit_code == 0, done.stderr
        counts.append(len((tmp_path / "a.csv").read_text().splitlines()))
    assert counts[0] > counts[1]


def test_a_ledger_of_another_job_names_restart(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    detector, out = blob_model(), tmp_path / "a.csv"
    detect = detector.detect

    def interrupted(*arguments: Any) -> Any:
        if detector.calls == 8:
            raise KeyboardInterrupt
        return detect(*arguments)

    detector.detect = interrupted  # type: ignore[method-assign]
    assert run("detect", field, "-o", out, "--quiet").exit_code == 130
    detector.detect = detect  # type: ignore[method-assign]
    other = ("detect", field, "-o", out, "--score", 0.9, "--quiet")
    refused = run(*other, "--resume")
    assert refused.exit_code == 2
    assert "begin again with --restart" in refused.stderr
    assert run(*other, "--restart").exit_code == 0


def test_the_crs_of_a_csv_is_told(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    out = tmp_path / "a.csv"
    assert "a.csv: coordinates are in EPSG:32633;" in run("detect", field, "-o", out).stderr
    done = run("detect", field, "-o", out, "--crs", "EPSG:4326", "--simplify-to", "point")
    assert "a.csv: coordinates are in EPSG:4326;" in done.stderr
    assert out.read_text().splitlines()[0].endswith("height_m,lon,lat,WKT")


def test_a_damaged_ledger_names_restart(
    run: Callable[..., Any], blob_model: Callable[..., Any], field: Path, tmp_path: Path
) -> None:
    blob_model()
    words = ("detect", field, "-o", tmp_path / "a.csv", "--quiet")
    (tmp_path / "a.csv.ledger").write_bytes(b"no ledger")
    refused = run(*words, "--resume")
    assert refused.exit_code == 2
    assert "begin again with --restart" in refused.stderr
    assert run(*words, "--restart").exit_code == 0


def test_one_window_is_one(
    run: Callable[..., Any],
    blob_model: Callable[..., Any],
    write_raster: Callable[..., Path],
    tmp_path: Path,
) -> None:
    blob_model()
    done = run("detect", _rgb(write_raster), "-o", tmp_path / "a.csv")
    assert "1 window of 64 px\n" in done.stderr
