import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from geo_retina.cli.main import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["labels", "check", *map(str, arguments)])


@pytest.fixture
def labelled(
    write_raster: Callable[..., Path], field_of_objects: Callable[..., Any], tmp_path: Path
) -> Path:
    """`labels.csv` of one raster without fault."""
    pixels, boxes = field_of_objects(120, 100)
    write_raster("a.tif", pixels)
    rows = [f"a.tif,{','.join(map(str, box))},tree" for box in boxes.astype(int).tolist()]
    csv = tmp_path / "labels.csv"
    csv.write_text("\n".join(["image_path,xmin,ymin,xmax,ymax,label", *rows]) + "\n")
    return csv


def test_labels_without_fault(labelled: Path, tmp_path: Path) -> None:
    sheet, outcome = tmp_path / "sheet.png", tmp_path / "check.json"
    done = run(labelled, "--sheet", sheet, "--json", outcome)
    assert done.exit_code == 0, done.output
    assert "to mend: nothing" in done.stdout
    assert f"sheet    {sheet}" in done.stdout
    assert json.loads(outcome.read_text())["is_clean"]
    with Image.open(sheet) as picture:
        assert picture.size[0] == 4 * 320


def test_faults_are_counted_and_end_in_exit_code_1(labelled: Path, tmp_path: Path) -> None:
    with labelled.open("a") as file:
        file.write("a.tif,30,30,20,20,tree\na.tif,500,500,520,520,tree\na.tif,7,7,7,9,tree\n")
    done = run(labelled, "--json", tmp_path / "check.json")
    assert done.exit_code == 1
    totals = json.loads((tmp_path / "check.json").read_text())["totals"]
    assert (totals["swapped"], totals["outside"], totals["too_small"]) == (1, 1, 1)
    assert "1 swapped" in done.stdout


def test_splits_that_leak_are_a_fault(
    labelled: Path, write_raster: Callable[..., Path], field_of_objects: Callable[..., Any]
) -> None:
    write_raster("b.tif", field_of_objects(120, 100)[0])
    labelled.write_text(
        "image_path,xmin,ymin,xmax,ymax,label,split\n"
        "a.tif,1,1,9,9,tree,train\nb.tif,1,1,9,9,tree,val\n"
    )
    done = run(labelled)
    assert done.exit_code == 1
    assert "LEAK" in done.stdout
    out = labelled.parent / "out"
    cut = CliRunner().invoke(app, ["chips", str(labelled), "-o", str(out), "--chip", "60"])
    assert cut.exit_code == 1
    assert "LEAK" in cut.stdout
    assert f"written  {out / 'val.json'}" in cut.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.csv"], "none.csv: no such file"),
        (["none.json"], "none.json: no such file"),
        (["labels.csv", "--area-layer", "plots"], "name it with --area"),
        (["labels.csv", "--format", "docx"], "expected a label format among"),
        (["labels.csv", "--classes", "car"], "expected the classes car"),
        (["labels.csv", "--split", "test"], "belongs to the split 'test'"),
        (["labels.csv", "--sheet", "none/sheet.png"], "folder"),
        (["labels.csv", "--images", "nowhere"], "nowhere: no such file or folder"),
        (["labels.csv", "--images", "elsewhere"], "its raster elsewhere/a.tif does not exist"),
        (["labels.csv", "--images", "elsewhere"], "--images"),
        (["header.csv"], "header.csv: has no rows"),
        (["class.csv"], "--class-column"),
    ],
)
def test_bad_input_is_exit_code_2(
    arguments: list[str], said: str, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled.parent)
    Path("elsewhere").mkdir()
    text = labelled.read_text()
    Path("header.csv").write_text(text.splitlines()[0] + "\n")
    Path("class.csv").write_text(text.replace("ymax,label", "ymax,class"))
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_missing_or_damaged_raster_is_a_fault_among_others(
    labelled: Path, write_raster: Callable[..., Path], field_of_objects: Callable[..., Any]
) -> None:
    damaged = write_raster("damaged.tif", field_of_objects(200, 200)[0])
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    rows = labelled.read_text().splitlines()[1:]
    rows += ["none.tif,1,1,9,9,tree", "damaged.tif,1,1,9,9,tree", "damaged.tif,2,150,12,190,tree"]
    splits = ("train", "val")
    labelled.write_text(
        "image_path,xmin,ymin,xmax,ymax,label,split\n"
        + "\n".join(f"{row},{splits[row[0] != 'a']}" for row in rows)
    )
    folder = labelled.parent
    done = run(labelled, "--json", folder / "check.json", "--sheet", folder / "sheet.png")
    assert done.exit_code == 1, done.output
    report = json.loads((folder / "check.json").read_text())
    unreadable = [Path(raster).name for raster in report["unreadable"]]
    assert unreadable == ["none.tif", "damaged.tif"]
    assert (folder / "sheet.png").exists()


def test_labels_are_not_overwritten(labelled: Path) -> None:
    before = labelled.read_bytes()
    done = run(labelled, "--json", labelled)
    assert done.exit_code == 2
    assert "would be overwritten" in done.stderr
    assert labelled.read_bytes() == before


@pytest.mark.parametrize("option", ["--json", "--sheet"])
def test_rasters_are_not_overwritten(labelled: Path, option: str) -> None:
    raster = labelled.parent / "plain.png"
    Image.new("RGB", (64, 64)).save(raster)
    labelled.write_text("image_path,xmin,ymin,xmax,ymax,label\nplain.png,8,8,24,24,tree\n")
    before = raster.read_bytes()
    done = run(labelled, option, raster)
    assert done.exit_code == 2
    assert "plain.png would be overwritten" in done.stderr
    assert raster.read_bytes() == before


def test_a_sheet_is_a_png(labelled: Path) -> None:
    done = run(labelled, "--sheet", "sheet")
    assert done.exit_code == 2
    assert "ends in .png" in done.stderr


def test_the_class_of_a_csv_may_have_its_own_column(labelled: Path) -> None:
    labelled.write_text(labelled.read_text().replace("ymax,label", "ymax,class"))
    done = run(labelled, "--class-column", "class")
    assert done.exit_code == 0, done.output
    assert "classes: 'tree' " in done.stdout


def test_chips_are_not_mixed_with_those_of_an_earlier_cut(labelled: Path, tmp_path: Path) -> None:
    def cut(*arguments: object) -> Any:
        command = ["chips", labelled, "--output", tmp_path / "out", "--chip", 60, *arguments]
        return CliRunner().invoke(app, list(map(str, command)))

    assert cut().exit_code == 0
    again = cut()
    assert again.exit_code == 2
    assert "pass --overwrite" in again.stderr
    done = cut("--overwrite")
    assert done.exit_code == 0, done.output
    assert "4 chips" in done.stdout


def test_a_yolo_data_set_is_checked_as_it_lies(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "data.yaml").write_text("names: [big tree]\ntrain: images\n")
    done = run(tmp_path)
    assert done.exit_code == 0, done.output
    assert "1 label on 1 raster, 0 without objects\nclasses: 'big tree' 1\n" in done.stdout
