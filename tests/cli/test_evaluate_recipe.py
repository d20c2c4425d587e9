"""What the recipe inside a checkpoint tells about an evaluation."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from geo_retina.card import ModelCard
from geo_retina.cli.main import app
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.model.settings import NetworkSettings
from geo_retina.training import learned_from

Field = Callable[..., tuple[Any, Any]]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path, write_raster_at: Callable[..., Path], field_of_objects: Field) -> Path:
    """A data folder: images a.tif, b.tif and c.tif, what is in them, and points."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "points").mkdir()
    rows = ["image_path,xmin,ymin,xmax,ymax,label,split"]
    for number, name in enumerate("abc"):
        pixels, boxes = field_of_objects(200, 150, seed=number)
        write_raster_at(folder / "images" / f"{name}.tif", pixels)
        split = "val" if name == "c" else "train"
        rows += [f"{name}.tif,{','.join(map(str, box))},tree,{split}" for box in boxes.tolist()]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        lines = ["x,y", *(f"{x},{y}" for x, y in centres.tolist())]
        (folder / "points" / f"{name}.csv").write_text("\n".join(lines))
    (folder / "boxes.csv").write_text("\n".join(rows))
    return folder


def csv_source(**changes: object) -> dict[str, Any]:
    source = {"kind": "deepforest-csv", "labels": "boxes.csv", "images": "images"}
    return source | changes


def recipe_of(card: ModelCard, **changes: Any) -> dict[str, Any]:
    """A recipe that learns from the rasters of split `train` and is measured on those of `val`."""
    plain = {
        "card": card.model_dump(mode="json"),
        "start_from": "tree-crowns",
        "schedule": {"steps": 1},
        "train": [csv_source(split="train")],
        "val": [csv_source(split="val")],
        "augment": {"crop_px": 64},
    }
    return plain | changes


Trained = Callable[..., Path]


@pytest.fixture
def trained(
    tmp_path: Path, blob_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Trained:
    """`trained(**changes)`: a model that finds every bright patch and carries a recipe."""
    import geo_retina.training.recipe_side
    from geo_retina.detection import job
    from geo_retina.evaluation import runs

    detector = blob_model()
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "m.safetensors"
    file.write_bytes(b"stands for weights")
    monkeypatch.setattr(runs, "choose_backend", lambda *_args, **_options: None)
    monkeypatch.setattr(runs, "load_backend", lambda *_args, **_options: detector)

    def install(**changes: Any) -> Path:
        recipe = json.dumps(recipe_of(detector.card, **changes))
        info = CheckpointInfo(file, detector.card, NetworkSettings(num_classes=1), recipe)
        for module in (runs, job, learned_from, geo_retina.training.recipe_side):
            monkeypatch.setattr(module, "read_info", lambda _model: info)
        monkeypatch.setattr("geo_retina.model.checkpoint.read_info", lambda _model: info)
        return file

    return install


OPTIMISTIC = (
    "chosen on these same rasters, as were the weights: optimistic; hold out a test set (another "
    "split or file given with --labels)"
)


def test_the_models_score_was_chosen_on_its_own_val_side(
    data: Path, trained: Trained, tmp_path: Path
) -> None:
    model = trained()
    done = run("--model", model, "--data", data, "--report", tmp_path / "e.html")
    assert done.exit_code == 0, done.stderr
    assert f"At score 0.300 ({OPTIMISTIC})" in done.stdout
    assert "beforehand" not in done.stdout
    assert OPTIMISTIC in (tmp_path / "e.html").read_text()
    about = json.loads((tmp_path / "e.json").read_text())["about"]
    assert about["score_origin"] == OPTIMISTIC
    assert about["labels"] == f"the val side of its recipe, paths from {data}"


def test_the_labels_of_the_recipe_are_not_overwritten(data: Path, trained: Trained) -> None:
    labels = data / "boxes.csv"
    before = labels.read_bytes()
    done = run("--model", trained(), "--data", data, "--json", labels)
    assert done.exit_code == 2
    assert "boxes.csv would be overwritten" in done.stderr
    assert labels.read_bytes() == before


def test_a_stated_score_on_the_val_side_leaves_the_weights(data: Path, trained: Trained) -> None:
    done = run("--model", trained(), "--data", data, "--score", 0.4)
    assert "At score 0.400 (chosen beforehand)" in done.stdout
    assert "Caution: the weights were chosen on these same rasters: optimistic" in done.stdout
    last = trained(validation={"keep": "last"})
    done = run("--model", last, "--data", data, "--score", 0.4)
    assert done.exit_code == 0, done.stderr
    assert "Caution" not in done.stdout
    done = run("--model", last, "--data", data)
    assert "(chosen on these same rasters: optimistic; hold out" in done.stdout


@pytest.mark.parametrize(
    "division",
    [
        {"kind": "column", "train": "val", "val": "train"},
        {"kind": "file", "shares": {"train": 0.34, "val": 0.33, "test": 0.33}, "seed": 2},
        {
            "kind": "ground",
            "block_m": 12,
            "guard_m": 1,
            "shares": {"train": 0.6, "val": 0.2, "test": 0.2},
        },
    ],
)
def test_a_side_that_is_neither_is_measured(
    division: dict[str, Any], data: Path, trained: Trained
) -> None:
    if division["kind"] == "column":
        rows = (data / "boxes.csv").read_text().splitlines()
        rows = [row.replace(",train", ",test") if row[0] == "a" else row for row in rows]
        (data / "boxes.csv").write_text("\n".join(rows))
    model = trained(train=[csv_source()], val=[], divide=division)
    done = run("--model", model, "--data", data, "--split", "test")
    assert done.exit_code == 0, done.stderr
    assert f"against the test side of its recipe, paths from {data}." in done.stdout
    assert "(chosen beforehand)" in done.stdout
    assert "Caution" not in done.stdout


def test_a_side_that_is_not_there_or_was_learned_from_is_told(data: Path, trained: Trained) -> None:
    done = run("--model", trained(), "--data", data, "--split", "test")
    assert done.exit_code == 2
    assert "the recipe has no test side" in done.stderr
    done = run("--model", trained(), "--data", data, "--split", "train")
    assert "Caution: 2 of 2 rasters (140 of 140 labels) have the names of" in done.stdout


LEARNED = (
    "Caution: 2 of 3 rasters (140 of 210 labels) have the names of rasters that this model learned "
    "from: the numbers are optimistic"
)


def evaluated(data: Path, *options: object) -> str:
    done = run("--labels", data / "boxes.csv", "--images", data / "images", *options)
    assert done.exit_code == 0, done.stderr
    assert "210 labels on 3 rasters" in done.stdout
    return str(done.stdout)


def test_rasters_that_the_model_learned_from_are_told(
    data: Path, trained: Trained, tmp_path: Path
) -> None:
    model = trained()
    text = evaluated(data, "--model", model, "--data", data)
    assert f"{LEARNED}.\n" in text
    assert "1 of 3 rasters (70 of 210 labels) has the name of a raster that chose this" in text
    copy = shutil.copytree(data, tmp_path / "copy")
    assert f"{LEARNED}.\n" in evaluated(copy, "--model", model, "--data", data)
    beside = evaluated(data, "--model", model)
    assert f"{LEARNED} if they are the same.\n" in beside, "only the paths' ends agree"


@pytest.mark.parametrize(
    "division",
    [
        {"kind": "column"},
        {"kind": "file", "shares": {"train": 0.67, "val": 0.33}, "seed": 1},
    ],
)
def test_a_division_tells_the_sides(division: dict[str, Any], data: Path, trained: Trained) -> None:
    model = trained(train=[csv_source()], val=[], divide=division)
    text = evaluated(data, "--model", model, "--data", data)
    assert LEARNED in text
    assert "70 of 210 labels) has the name of a raster that chose this model's score" in text


def test_a_run_folder_tells_without_the_data(data: Path, trained: Trained, tmp_path: Path) -> None:
    model = trained(train=[csv_source(labels="absent.csv", images="absent")], val=[])
    elsewhere = shutil.copytree(data, tmp_path / "elsewhere")
    assert "Caution" not in evaluated(elsewhere, "--model", model)
    features = [
        {"properties": {"raster": f"/lost/{name}.tif", "split": "train"}, "geometry": None}
        for name in "ab"
    ]
    model.with_name("split.geojson").write_text(json.dumps({"features": features}))
    assert "Caution" not in evaluated(elsewhere, "--model", model), (
        "of another run, for all we know"
    )
    from geo_retina.model.checkpoint import read_info

    model.with_name("recipe.json").write_text(read_info(model).recipe or "")
    assert f"{LEARNED}.\n" in evaluated(elsewhere, "--model", model)


def test_a_val_side_of_changed_data_may_hold_what_was_learned(data: Path, trained: Trained) -> None:
    """Without the raster that was val, another is."""
    model = trained()
    from geo_retina.model.checkpoint import read_info

    features = [
        {"properties": {"raster": str(data / "images" / name), "split": side}, "geometry": None}
        for name, side in (("a.tif", "train"), ("b.tif", "val"), ("c.tif", "val"))
    ]
    model.with_name("recipe.json").write_text(read_info(model).recipe or "")
    model.with_name("split.geojson").write_text(json.dumps({"features": features}))
    assert "learned from" not in run("--model", model, "--data", data).stdout
    features[2]["properties"]["split"] = "train"
    model.with_name("split.geojson").write_text(json.dumps({"features": features}))
    text = run("--model", model, "--data", data).stdout
    assert (
        "1 of 1 raster (70 of 70 labels) has the name of a raster that this model learned" in text
    )


def test_a_raster_that_the_recipe_names_needs_no_labels(data: Path, trained: Trained) -> None:
    source = {"kind": "labels", "labels": "lost.gpkg", "images": "lost/a.tif"}
    text = evaluated(data, "--model", trained(train=[source], val=[]))
    assert "Caution: 1 of 3 rasters (70 of 210 labels) has the name of a raster" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"train": [csv_source(labels="absent.csv")], "val": []},
        {"train": [{"kind": "of another version"}]},
        {"train": None, "val": None},
        {"train": [csv_source()], "val": [], "divide": {"kind": "site"}},
    ],
)
def test_what_cannot_be_found_out_does_not_fail(
    changes: dict[str, Any], data: Path, trained: Trained
) -> None:
    assert "Caution" not in evaluated(data, "--model", trained(**changes))


def test_points_are_as_wide_as_the_recipe_says(data: Path, trained: Trained) -> None:
    words = ("--labels", data / "points", "--images", data / "images", "--format", "points")
    refused = run(*words, "--model", trained())
    assert refused.exit_code == 2
    assert "--point-size-m" in refused.stderr
    points = {"kind": "labels", "format": "points", "labels": "points", "images": "images"}
    model = trained(train=[points | {"point_size_m": 1.2}], val=[])
    done = run(*words, "--model", model)
    assert done.exit_code == 0, done.stderr
    assert "| 1.000 |" in done.stdout
    assert learned_from.point_size_m(str(model)) == 1.2
    two = trained(train=[points | {"point_size_m": size} for size in (1, 2)], val=[])
    assert learned_from.point_size_m(str(two)) is None


def test_the_data_folder_is_there(data: Path, trained: Trained) -> None:
    words = ("--labels", data / "boxes.csv", "--images", data / "images", "--model", trained())
    done = run(*words, "--data", data / "absent")
    assert done.exit_code == 2
    assert "--data" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_run_folders_names_are_those_of_training() -> None:
    from geo_retina.training.run_folder import RECIPE_NAME

    assert learned_from._RECIPE_NAME == RECIPE_NAME


def test_neither_torch_nor_augmentation_is_loaded_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; from geo_retina.training.learned_from import known_rasters, point_size_m\n"
        "known_rasters('tree-crowns', [], labels='x.csv', data=None); point_size_m('trees-naip')\n"
        "assert not {'torch', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
