import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from geo_retina.training.settings import TrainingSettings

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from imbalance import prepare, rows, runs, tables

QUALITY = {"ap50": 0.5, "ap": 0.25, "ap50_smallest": 0.125}


def _run(**changes: Any) -> dict[str, Any]:
    plain = {"quality": QUALITY, "failure": "", "losses": [2.0, 1.0], "cpu_s": 90.0}
    return plain | changes


@pytest.mark.parametrize("data", ["neon", "tanks"])
def test_every_row_changes_a_valid_recipe(data: str) -> None:
    base = runs.Task(data=data, row="base", overrides=(), seed=0, steps=None).settings()
    found = {}
    for name, row in rows.ROWS.items():
        task = runs.Task(data=data, row=name, overrides=row.changes(data), seed=0, steps=None)
        found[name] = task.settings()
        assert _rest(found[name]) == _rest(base)
    assert found["fl-2"] == base, "the recipe itself is the focal loss with gamma 2"
    same = [name for name, settings in found.items() if settings == base]
    assert same == ["fl-2"], "every other row changes something"
    assert found["ce-no-prior"].network.head.prior == 0.5
    assert found["torchvision"].network.anchors.offset == 0
    assert found["p2"].network.levels[0] == 2
    assert found["p2-nwd"].loss.assignment.kind == "nwd"


def _rest(settings: TrainingSettings) -> dict[str, Any]:
    """What no row may change."""
    plain = settings.model_dump()
    plain["card"] |= {"candidates_per_level": 0, "detections_per_chip": 0}
    return plain | {"loss": 0, "network": 0, "schedule": 0}


def test_seed_and_steps_come_from_the_task() -> None:
    settings = runs.Task(data="neon", row="x", overrides=(), seed=7, steps=3).settings()
    schedule = settings.schedule
    assert (schedule.seed, schedule.steps, schedule.epoch_steps) == (7, 3, 3)


def test_tables_tell_means_spread_and_divergence() -> None:
    other = _run(quality=QUALITY | {"ap50": 0.7})
    broken = _run(quality=None, failure="the loss is nan", losses=[50.0, 1e9])
    text = tables.table_text({"ce": [_run(), other], "ce-no-prior": [_run(), broken]}, "losses")
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| CE | 0.600 (0.500 to 0.700) | 0.250 | 0.125 | 2.0 | 2.0 | no | 2 | 1.5 |"
    assert "1 of 2, after 2 steps" in lines[3]
    assert "26.0 (2.0 to 50.0)" in lines[3]
    assert tables.table_text({}, "losses") == ""


def test_a_table_of_diverged_runs_has_no_quality() -> None:
    broken = _run(quality=None, failure="the loss is nan")
    assert "| - | - | - |" in tables.table_text({"ce": [broken]}, "losses")


def test_tables_stand_between_their_markers(tmp_path: Path) -> None:
    (tmp_path / "neon-ce-0.json").write_text(json.dumps(_run()))
    (tmp_path / "neon-ce-50-0.json").write_text(json.dumps(_run()))
    document = tmp_path / "study.md"
    document.write_text("before\n<!-- losses neon -->\nold\n<!-- end -->\nafter\n")
    assert tables.write_tables(tmp_path, document) == ["losses neon"]
    text = document.read_text()
    assert text.startswith("before\n<!-- losses neon -->\n| ")
    assert text.endswith("|\n<!-- end -->\nafter\n")
    assert "old" not in text
    assert text.count("| CE |") == 1, "a run of ce-50 is none of ce"
    tables.write_tables(tmp_path, document)
    assert document.read_text() == text
    document.write_text("<!-- losses neon -->\nnever closed")
    with pytest.raises(SystemExit, match="lacks the line"):
        tables.write_tables(tmp_path, document)
    document.write_text("nothing")
    with pytest.raises(SystemExit, match="asks for no table"):
        tables.write_tables(tmp_path, document)


def test_the_smallest_third_is_told_by_size() -> None:
    from geo_retina.labels.labels import LabelledRaster, Labels

    boxes = [[0, 0, side, side] for side in (3, 6, 9, 12)]
    crowd = [0, 0, 1, 1]
    labels = Labels.of([*boxes, crowd], [0] * 5, ("tree",), ignored=np.arange(5) == 4)
    assert runs.smallest_third_px([LabelledRaster("a.tif", labels)]) == pytest.approx(6)


def test_tanks_are_cut_and_divided_as_listed(tmp_path: Path, noise: Callable[..., Any]) -> None:
    from PIL import Image

    source, folder = tmp_path / "source", tmp_path / "out"
    (source / "images").mkdir(parents=True)
    for name in "ab":
        pixels = np.moveaxis(noise(3, 512, 1024), 0, -1) + (name == "b")
        Image.fromarray(pixels.astype(np.uint8)).save(source / "images" / f"{name}.jpg")
    (source / "train.txt").write_text("a\n")
    (source / "val.txt").write_text("b\n")
    (source / "annotations.csv").write_text(
        'image_id,class,bounds\na,oil,"(10, 20, 40, 50)"\nb,oil,"(520, 460, 535, 480)"\n'
    )
    prepare.prepare_tanks(source, folder)
    for split, width in (("train", 30), ("held-out", 15)):
        content = json.loads((folder / f"{split}.json").read_text())
        assert [row["bbox"][2] for row in content["annotations"] if not row["iscrowd"]] == [width]


@pytest.fixture
def neon_folder(
    tmp_path: Path,
    write_raster_at: Callable[..., Path],
    field_of_objects: Callable[..., Any],
) -> Path:
    """A folder like the NEON benchmark's: eight plots in train, one in val."""
    folder = tmp_path / "benchmark"
    (folder / "images").mkdir(parents=True)
    lines = ["image_path,xmin,ymin,xmax,ymax,label,split"]
    for number in range(9):
        pixels, boxes = field_of_objects(150, 120, seed=number)
        place = Affine(0.1, 0, 500_000 + 100 * number, 0, -0.1, 5_400_000)
        write_raster_at(folder / "images" / f"{number}.tif", pixels, transform=place)
        split = "val" if number == 8 else "train"
        lines += [f"{number}.tif,{','.join(map(str, b.astype(int)))},Tree,{split}" for b in boxes]
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_val_plots_of_neon_are_left_alone(neon_folder: Path, tmp_path: Path) -> None:
    prepare.prepare_neon(neon_folder, tmp_path / "neon")
    found = [
        Path(row["raster"]).name
        for split in ("train", "held-out")
        for row in json.loads((tmp_path / "neon" / f"{split}.json").read_text())["images"]
    ]
    assert sorted(found) == [f"{number}.tif" for number in range(8)]


@pytest.mark.slow
def test_a_run_is_made_once_and_a_loss_that_is_not_finite_is_kept(
    neon_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare.prepare_neon(neon_folder, tmp_path / "neon")
    wild = ("schedule.learning_rate=1e30", "schedule.warm_up_steps=0", "schedule.clip_norm=0")
    tasks = [
        runs.Task(data="neon", row="ce", overrides=(), seed=0, steps=2),
        runs.Task(data="neon", row="wild", overrides=wild, seed=0, steps=20),
    ]
    good, bad = (runs.run_task(task, tmp_path) for task in tasks)
    assert 0 <= good["quality"]["ap50"] <= 1
    assert len(good["losses"]) == 2
    assert "the loss is nan" in bad["failure"]
    assert bad["quality"] is None
    monkeypatch.setattr(runs, "fit", None)  # a second run would call it
    assert runs.run_task(tasks[0], tmp_path) == good
    other = runs.Task(data="neon", row="ce", overrides=(), seed=0, steps=3)
    with pytest.raises(SystemExit, match="another recipe"):
        runs.run_task(other, tmp_path)
