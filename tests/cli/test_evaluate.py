import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner

from geo_retina.cli.main import app
from geo_retina.detection.detector import ChipResult
from geo_retina.errors import ModelError

Field = Callable[..., tuple[Any, Any]]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def model(blob_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`--model` and the default find every bright patch."""
    from geo_retina.detection import job

    detector = blob_model()
    runs = "geo_retina.evaluation.runs"
    monkeypatch.setattr(f"{runs}.read_info", job.read_info)
    monkeypatch.setattr(f"{runs}.choose_backend", lambda *_args, **_options: None)
    monkeypatch.setattr(f"{runs}.load_backend", lambda *_args, **_options: detector)
    return detector


@pytest.fixture
def field(tmp_path: Path, write_raster_at: Callable[..., Path], field_of_objects: Field) -> Path:
    """A folder with images `a.tif`, `b.tif` and what is in them, as `boxes.csv`, `points/`."""
    (tmp_path / "images").mkdir()
    (tmp_path / "points").mkdir()
    rows = ["image_path,xmin,ymin,xmax,ymax,label,split"]
    for number, name in enumerate("ab"):
        pixels, boxes = field_of_objects(200, 150, seed=number)
        write_raster_at(tmp_path / "images" / f"{name}.tif", pixels)
        rows += [f"{name}.tif,{','.join(map(str, box))},tree,{name}" for box in boxes.tolist()]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        lines = ["x,y", *(f"{x},{y}" for x, y in centres.tolist())]
        (tmp_path / "points" / f"{name}.csv").write_text("\n".join(lines))
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "list.txt").write_text("b\n")
    return tmp_path


def test_a_model_that_finds_all(field: Path, model: Any) -> None:
    done = run("--labels", field / "boxes.csv", "--images", field / "images",
               "--json", field / "e.json", "--report", field / "e.html")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "on 2 rasters, match by IoU 0.4" in done.stdout
    assert f"report   {field / 'e.html'}" in done.stdout
    numbers = json.loads((field / "e.json").read_text())
    assert numbers["quality"]["ap"] == pytest.approx(1)
    assert numbers["quality"]["ap50_95"] == pytest.approx(1)
    assert "<svg" in (field / "e.html").read_text()
    assert model.calls > 0


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ((), "auto"),
        (("--calibrated", "m.safetensors"), "torch"),
        (("--calibrated", "m.safetensors", "--backend", "openvino-int8"), "openvino-int8"),
    ],
)
def test_scores_are_calibrated_as_the_copy_gives_them(
    options: tuple[str, ...], backend: str, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has no graphs."""

    def chosen(_info: Any, **how: Any) -> Any:
        raise ModelError(f"runs on {how['backend']}")

    monkeypatch.chdir(field)
    monkeypatch.setattr("geo_retina.evaluation.runs.choose_backend", chosen)
    done = run("--labels", "boxes.csv", "--images", "images", *options)
    assert f"runs on {backend}\n" in done.stderr


def test_sizes_on_the_ground_and_how_the_model_runs(field: Path, model: Any) -> None:
    done = run("--labels", field / "boxes.csv", "--rasters", field / "images",
               "--split", "a", "--sizes-m", "0.5,1", "--chip", 96, "--overlap", 32,
               "--method", "wbf", "--nms-iou", 0.3, "--json", field / "e.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    numbers = json.loads((field / "e.json").read_text())
    sizes = numbers["quality"]["by_size"]
    assert [item["name"] for item in sizes] == ["under 0.5 m", "0.5 to 1 m", "over 1 m"]
    assert sum(item["labels"] for item in sizes) >= numbers["quality"]["labels"]
    assert " blocks of " in numbers["drawn"]
    assert numbers["thresholds"][0]["ap"]["low"] is not None
    assert model.calls > 1


def test_a_low_score_is_measured_with_all_that_reaches_it(
    field: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = model.detect

    def unsure(pixels: Any, thresholds: Any) -> list[Any]:
        found = [result.detections for result in find(pixels, thresholds)]
        timid = [replace(item, scores=item.scores / 50) for item in found]
        return [
            ChipResult(item.select(item.scores >= thresholds.score), saturated=False)
            for item in timid
        ]

    monkeypatch.setattr(model, "detect", unsure)
    done = run("--labels", field / "boxes.csv", "--images", field / "images", "--score", 0.01)
    assert done.exit_code == 0, done.output
    assert "At score 0.010 (chosen beforehand): precision 1.000, recall 1.000" in done.stdout


def test_what_runs_the_network_is_passed_on(field: Path) -> None:
    done = run("--labels", field / "boxes.csv", "--images", field / "images",
               "--backend", "abacus")  # fmt: skip
    assert done.exit_code == 2
    assert "abacus" in done.stderr


def test_a_single_class_may_be_called_otherwise(field: Path, model: Any) -> None:
    text = (field / "boxes.csv").read_text()
    (field / "other.csv").write_text(text.replace(",tree,", ",oak,"))
    arguments = ("--labels", field / "other.csv", "--images", field / "images")
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "--classes" in refused.stderr
    assert model.calls == 0
    done = run(*arguments, "--classes", "oak", "--json", field / "e.json")
    assert done.exit_code == 0, done.output
    assert json.loads((field / "e.json").read_text())["quality"]["ap"] == pytest.approx(1)


def test_labels_of_several_classes_against_a_model_of_one(field: Path, model: Any) -> None:
    text = (field / "boxes.csv").read_text()
    text = text.replace(",tree,a", ",Alive,a").replace(",tree,b", ",Dead,b")
    (field / "two.csv").write_text(text)
    arguments = ("--labels", field / "two.csv", "--images", field / "images")
    for further in ((), ("--classes", "Alive,Dead")):
        refused = run(*arguments, *further)
        assert refused.exit_code == 2
        assert "--class-agnostic" in refused.stderr
    assert model.calls == 0
    done = run(*arguments, "--class-agnostic", "--json", field / "e.json")
    assert done.exit_code == 0, done.output
    numbers = json.loads((field / "e.json").read_text())
    assert numbers["quality"]["ap"] == pytest.approx(1)
    assert numbers["classes"] == []


def test_labels_without_any_object(field: Path, model: Any) -> None:
    (field / "none.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,,,,,\n")
    done = run("--labels", field / "none.csv", "--images", field / "images",
               "--report", field / "e.html")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "only false alarms can be counted" in done.stdout
    assert "F1" not in done.stdout
    assert "only false alarms" in (field / "e.html").read_text()
    assert model.calls > 0


def test_points_are_matched_by_distance(field: Path, model: Any) -> None:
    done = run("--labels", field / "points", "--images", field / "images", "--format", "points",
               "--distance-m", 0.2, "--json", field / "e.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "0.2 m between centres" in done.stdout
    numbers = json.loads((field / "e.json").read_text())
    assert numbers["quality"]["ap"] == pytest.approx(1)
    assert numbers["quality"]["ap50"] is None
    assert model.calls > 0


@pytest.mark.parametrize("chosen", [["--split", "b"], ["--only", "list.txt"]])
@pytest.mark.parametrize("source", ["model", "file"])
def test_a_part_of_the_rasters(
    chosen: list[str], source: str, field: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(field)
    found = [] if source == "model" else ["--detections", _shifted(field)]
    done = run("--labels", "boxes.csv", "--images", "images", *chosen, *found)
    assert done.exit_code == 0, done.output
    assert "on 1 raster," in done.stdout
    assert (model.calls > 0) == (source == "model")


def _shifted(field: Path) -> Path:
    """The labels of b.tif as detections, one of them misplaced."""
    rows = [line.split(",") for line in (field / "boxes.csv").read_text().splitlines()[1:]]
    kept = [[*row[:6], "0.9"] for row in rows if row[0] == "b.tif"]
    kept[0][1:5] = [str(float(value) + 100) for value in kept[0][1:5]]
    lines = ["image_path,xmin,ymin,xmax,ymax,label,score", *map(",".join, kept)]
    (field / "found.csv").write_text("\n".join(lines))
    return field / "found.csv"


def test_files_beside_rasters_whose_crs_is_stated(tmp_path: Path) -> None:
    """A PNG with a world file names no CRS."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("0.1\n0\n0\n-0.1\n500000.05\n5399999.95\n")
    shapes = shapely.box([500_001, 500_003], 5_399_997, [500_002, 500_004], 5_399_998)
    frame = gpd.GeoDataFrame({"score": [0.9, 0.5]}, geometry=shapes, crs="EPSG:32633")
    frame.to_file(tmp_path / "a.gpkg")
    words = ["--labels", tmp_path / "a.gpkg", "--detections", tmp_path / "a.gpkg",
             "--images", tmp_path / "a.png", "--json", tmp_path / "e.json"]  # fmt: skip

    assert "--raster-crs" in run(*words).stderr
    done = run(*words, "--raster-crs", "EPSG:32633")

    assert done.exit_code == 0, done.stderr
    quality = json.loads((tmp_path / "e.json").read_text())["quality"]
    assert (quality["labels"], quality["ap"]) == (2, pytest.approx(1))


def test_detections_of_a_vector_file(field: Path) -> None:
    boxes = np.loadtxt(
        field / "boxes.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3, 4), ndmin=2
    )
    names = [line[0] for line in (field / "boxes.csv").read_text().splitlines()[1:]]
    own = boxes[np.array(names) == "a"]
    world = own * [0.1, -0.1, 0.1, -0.1] + [500_000, 5_400_000, 500_000, 5_400_000]
    frame = gpd.GeoDataFrame(geometry=shapely.box(*world.T), crs="EPSG:32633")
    frame = frame.assign(**{"class": "tree", "score": 0.9})
    frame.to_file(field / "found.gpkg")
    done = run("--labels", field / "boxes.csv", "--images", field / "images", "--split", "a",
               "--detections", field / "found.gpkg", "--json", field / "e.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads((field / "e.json").read_text())["quality"]["ap50"] == pytest.approx(1)


def test_detections_of_a_csv_are_told_their_crs(field: Path, field_of_objects: Field) -> None:
    _, boxes = field_of_objects(200, 150, seed=0)
    world = boxes * [0.1, -0.1, 0.1, -0.1] + [500_000, 5_400_000, 500_000, 5_400_000]
    shapes = shapely.to_wkt(shapely.box(*world.T))
    rows = [f'"{shape}",tree,0.9' for shape in shapes]
    (field / "found.csv").write_text("\n".join(["WKT,class,score", *rows]))
    words = ("--labels", field / "boxes.csv", "--images", field / "images", "--split", "a",
             "--json", field / "e.json", "--detections")  # fmt: skip
    refused = run(*words, field / "found.csv")
    assert refused.exit_code == 2
    assert "of detections --detections-crs" in refused.stderr
    done = run(*words, field / "found.csv", "--detections-crs", "EPSG:32633")
    assert done.exit_code == 0, done.output
    assert json.loads((field / "e.json").read_text())["quality"]["ap50"] == pytest.approx(1)
    pixels = field / "pixels.csv"
    pixels.write_text("image_path,xmin,ymin,xmax,ymax,label,score\na.tif,1,1,5,5,tree,0.5")
    refused = run(*words, pixels, "--detections-crs", "EPSG:32633")
    assert refused.exit_code == 2
    assert "--detections-crs would have no effect on deepforest detections" in refused.stderr


def test_detections_have_their_own_column_of_classes(field: Path) -> None:
    text = (field / "boxes.csv").read_text()
    (field / "known.csv").write_text(text.replace("label", "species", 1))
    rows = [f"{row},0.9" for row in text.splitlines()[1:] if row.startswith("a.tif")]
    (field / "found.csv").write_text(
        "\n".join(["image_path,xmin,ymin,xmax,ymax,kind,split,score", *rows])
    )
    words = ("--labels", field / "known.csv", "--images", field / "images",
             "--class-column", "species", "--detections", field / "found.csv",
             "--json", field / "e.json")  # fmt: skip
    refused = run(*words, "--detections-class-column", "absent")
    assert refused.exit_code == 2
    assert "absent" in refused.stderr

    done = run(*words, "--detections-class-column", "kind")

    assert done.exit_code == 0, done.stderr
    said = "1 of 2 rasters has no entry in the detections: all their labels count as missed."
    assert f"Caution: {said}" in done.stdout
    about = json.loads((field / "e.json").read_text())["about"]
    assert about["cautions"] == [said]
    assert (about["name"], about["model"]) == ("found.csv", None)
    assert (about["labels"], about["detections"]) == (
        str(field / "known.csv"),
        str(field / "found.csv"),
    )


def test_the_report_names_the_model_and_what_it_was_evaluated_on(field: Path, model: Any) -> None:
    done = run("--labels", field / "boxes.csv", "--images", field / "images", "--split", "a",
               "--report", field / "e.html")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("tree-crowns (")
    assert f"against {field / 'boxes.csv'}, split a." in done.stdout
    assert "<h1>Evaluation of tree-crowns</h1>" in (field / "e.html").read_text()
    about = json.loads((field / "e.json").read_text())["about"]
    assert (about["part"], about["cautions"]) == ("split a", [])
    assert about["model"].endswith("tree-crowns.safetensors")
    assert set(about["versions"]) >= {"python", "geo_retina"}
    assert model.calls > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "none.csv"], "none.csv"),
        (["--labels", "boxes.csv", "--split", "c"], "split 'c'"),
        (["--labels", "boxes.csv", "--model", "x", "--detections", "y"], "exclude each other"),
        (["--labels", "boxes.csv", "--report", "none/e.html"], "folder"),
        (["--labels", "boxes.csv", "--json", "none/e.json"], "folder"),
        (["--labels", "boxes.csv", "--classes", "car"], "expected the classes car"),
        (["--labels", "boxes.csv", "--iou", "0"], "IoU of a match"),
        (["--labels", "boxes.csv", "--detections", "boxes.csv"], "need a score"),
        (["--labels", "boxes.csv", "--bands", "red"], "--bands"),
        (["--labels", "boxes.csv", "--sizes-m", "6,3"], "must rise"),
        (["--labels", "boxes.csv", "--sizes-px", "small"], "--sizes-px takes numbers"),
        (["--labels", "boxes.csv", "--sizes-m", "3", "--sizes-px", "9"], "exclude each other"),
        (["--labels", "boxes.csv", "--method", "vote"], "vote"),
        (["--labels", "boxes.csv", "--calibrated", "m.x", "--detections", "y"], "needs a model"),
        (["--labels", "boxes.csv", "--calibrated", "m.x", "--decay-iou", "0.2"], "--decay-iou"),
        (["--labels", "boxes.csv", "--calibrated", "m.x", "--method", "wbf"], "--method"),
        (["--labels", "boxes.csv", "--iou", "0.5", "--distance-m", "1"], "exclude each other"),
        (["--labels", "boxes.csv", "--score", "7"], "a score lies in 0 to 1"),
        (["--labels", "boxes.csv", "--block-px", "0"], "over 0 px"),
        (["--labels", "boxes.csv", "--report", "r.json"], "ends in .html"),
        (["--labels", "boxes.csv", "--report", "q.html", "--json", "q.html"], "different outputs"),
        (["--labels", "boxes.csv", "--json", "boxes.csv"], "boxes.csv would be overwritten"),
        (["--labels", "boxes.json", "--report", "boxes.html"], "boxes.json would be overwritten"),
        (["--labels", "boxes.csv", "--report", "other.html"], "other.json would be overwritten"),
        (["--labels", "boxes.csv", "--only", "list.txt", "--json", "list.txt"], "overwritten"),
        (["--labels", "boxes.csv", "--calibrated", "m.gpkg"], "ends in .safetensors"),
        (["--labels", "boxes.csv", "--data", "x"], "--data"),
        (["--labels", "boxes.csv", "--score-column", "x"], "--score-column"),
        (["--labels", "boxes.csv", "--detections-class-column", "x"], "--detections-class-column"),
        (["--labels", "boxes.csv", "--detections", "y", "--data", "images"], "--data is for a"),
        (["--labels", "boxes.csv", "--detections", "y", "--chip", "96"], "--chip: for a model"),
        (["--labels", "boxes.csv", "--detections", "y", "--bands", "1"], "--bands: for a model"),
        (["--model", "tree-crowns", "--only", "val.txt"], "need --labels"),
        (["--model", "tree-crowns", "--gsd", "0.1"], "--gsd, options for reading labels"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, field: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(field)
    (field / "other.json").write_text('{"images": []}')
    done = run(*arguments, "--images", "images", "--quiet")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert model.calls == 0


@pytest.mark.usefixtures("model")
def test_no_raster_is_overwritten(field: Path) -> None:
    raster = field / "images" / "a.tif"
    before = raster.read_bytes()
    done = run("--labels", field / "boxes.csv", "--images", field / "images", "--json", raster)
    assert done.exit_code == 2
    assert "a.tif would be overwritten" in done.stderr
    assert raster.read_bytes() == before


def test_options_of_detection_reach_the_model(
    field: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geo_retina.evaluation import runs

    seen, open_job = [], runs.open_job

    def watched(raster: str, model: Any, options: Any) -> Any:
        seen.append(options)
        return open_job(raster, model, options)

    monkeypatch.setattr(runs, "open_job", watched)
    done = run("--labels", field / "boxes.csv", "--images", field / "images", "--chip", 96,
               "--overlap", 32, "--method", "nms-ios", "--nms-iou", 0.6)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert len(seen) == 2
    for options in seen:
        assert (options.chip_px, options.overlap_px) == (96, 32)
        assert (options.method, options.nms_iou) == ("nms-ios", 0.6)
    assert model.calls > 2
