import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
import torch
from safetensors.torch import load_file

from geo_retina.model.checkpoint import read_info
from geo_retina.training.run_lock import LOCK_NAME, hold_folder

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

RECIPE = """
[card]
name = "tiny"
summary = "For tests."
licence = "CC0-1.0"
class_names = ["tree"]
bands = ["red", "green", "blue"]
dtype = "uint8"
value_range = [0, 255]
mean = [0.4, 0.5, 0.3]
std = [0.2, 0.2, 0.2]
gsd_m = 0.1
coarsest_gsd_m = 0.3
chip_px = 64
overlap_px = 16
score = 0.3
nms_iou = 0.5
candidates_per_level = 1000
detections_per_chip = 500

[network]
num_classes = 1
pyramid_width = 16
backbone = { name = "timm:test_efficientnet", frozen_batch_norm = false }
head = { depth = 1, width = 16 }

[augment]
crop_px = 64

[schedule]
steps = 2
epoch_steps = 1
warm_up_steps = 1
batch = 2

[[train]]
kind = "labels"
labels = "labels.csv"
images = "images"
split = "train"
"""

VAL = """
[[val]]
kind = "labels"
labels = "labels.csv"
images = "images"
split = "val"
"""


@pytest.fixture
def work(
    tmp_path: Path,
    write_raster_at: Callable[..., Path],
    field_of_objects: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with a recipe, `labels.csv`, `images/train.tif` and `images/val.tif`."""
    (tmp_path / "images").mkdir()
    lines = ["image_path,xmin,ymin,xmax,ymax,label,split"]
    for number, split in enumerate(("train", "val")):
        pixels, boxes = field_of_objects(130, 110, seed=number)
        write_raster_at(tmp_path / "images" / f"{split}.tif", pixels, crs=f"EPSG:{32633 + number}")
        lines += [
            f"{split}.tif,{','.join(map(str, box))},tree,{split}"
            for box in boxes.astype(int).tolist()
        ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_trains_and_resumes(run: Callable[..., Any], work: Path) -> None:
    (work / "recipe.toml").write_text(RECIPE + VAL)
    done = run("train", "recipe.toml", "--device", "cpu", "--out", "out")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "written  out/tiny.safetensors\n"
    for said in ("anchors fitted to the labels", "recall cannot exceed", "nearest train and val",
                 "val AP"):  # fmt: skip
        assert said in done.stderr
    names = {path.name for path in (work / "out").iterdir()}
    assert names >= {"tiny.safetensors", "recipe.json", "metrics.csv", "validation.csv",
                     "state.ckpt", "split.geojson", "tensorboard"}  # fmt: skip
    sides = gpd.read_file(work / "out" / "split.geojson")
    assert sorted(sides["split"]) == ["train", "val"]
    curves = b"".join(path.read_bytes() for path in (work / "out" / "tensorboard").glob("events*"))
    assert b"loss_classes" in curves
    assert b"val_ap" in curves
    info = read_info("out/tiny.safetensors")
    assert info.card.metrics
    told = run("models", "out/tiny.safetensors", "--recipe")
    assert json.loads(told.stdout) == json.loads((work / "out" / "recipe.json").read_text())
    judged = run("evaluate", "--model", "out/tiny.safetensors", "--data", work, "--device", "cpu",
                 "--json", "e.json")  # fmt: skip
    assert judged.exit_code == 0, judged.stderr
    numbers = json.loads((work / "e.json").read_text())
    assert numbers["rule"] == "IoU 0.5", "the recipe's, not the command's 0.4"
    assert numbers["score"] == info.card.score
    known = {item.name: item.value for item in info.card.metrics}
    assert numbers["quality"]["ap"] == pytest.approx(known["AP"], abs=1e-4)
    again = run("train", "recipe.toml", "--device", "cpu", "--out", "out", "--resume", "--quiet")
    assert again.exit_code == 0
    assert re.fullmatch(r"warning: val AP is 0: [^\n]+\n", again.stderr), "two steps find nothing"


def test_a_checkpoint_without_val_side_or_recipe_needs_labels(
    run: Callable[..., Any], work: Path
) -> None:
    done = run("train", "recipe.toml", "--device", "cpu", "--out", "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    for arguments, said in (
        (["evaluate", "--model", "out/tiny.safetensors", "--data", work], "has no val side"),
        (["evaluate", "--model", "out/tiny.safetensors", "--data", "/nowhere"], "--data names"),
        (["evaluate", "--model", "tree-crowns"], "--labels"),
        (["evaluate"], "--labels is missing"),
        (["models", "--recipe"], "--recipe needs the name"),
    ):
        bad = run(*arguments)
        assert bad.exit_code == 2, (arguments, bad.output)
        assert said in bad.stderr


BAD: dict[str, tuple[list[str], str]] = {
    "no recipe": (["none.toml"], "cannot read the configuration none.toml"),
    "unknown key": (["recipe.toml", "schedule.step=3"], "did you mean 'steps'"),
    "no labels": (["recipe.toml", "train.0.labels=none.csv"], "none.csv"),
    "a file in the way": (["recipe.toml", "train.0.labels=none.csv", "--out", "recipe.toml/out"],
                          "cannot write the run folder recipe.toml/out"),
    "no such split": (["recipe.toml", "train.0.split=test"], "no image left"),
    "other classes": (["recipe.toml", 'card.class_names=["car"]'], "expected the classes car"),
    "bands": (
        [
            "recipe.toml", 'card.bands=["nir", "red", "green"]',
        ],
        "the model needs the bands nir, red, green",
    ),
    "empty side": (["recipe.toml", "divide.kind=column"], "val has 0 rasters"),
    "leak": (["leak.toml"], "train and val share pixels"),
    "labels without CRS": (["recipe.toml", "train.0.labels=nowhere.shp"], "states no CRS"),
    "labels elsewhere": (["recipe.toml", "train.0.labels=far.gpkg"], "far.gpkg"),
    "device": (["recipe.toml", "--device", "warp"], "unknown device"),
    "devices": (["recipe.toml", "--device", "cuda:0", "--devices", "2"], "device"),
    "nothing to resume": (["recipe.toml", "--resume"], "nothing to resume"),
    "weights": (["recipe.toml", "start_from=birds"], "unknown model 'birds'"),
    "pretrained": (["recipe.toml", "pretrained=imagenet"], "'imagenet' are neither a file"),
    "backbone": (["recipe.toml", "network.backbone.name=vgg"], "unknown backbone 'vgg'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, run: Callable[..., Any], work: Path
) -> None:
    leak = VAL.replace('split = "val"', 'split = "train"')
    (work / "leak.toml").write_text(RECIPE + leak)
    far = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")
    far.to_file(work / "far.gpkg")
    far.set_crs(None, allow_override=True).to_file(work / "nowhere.shp")
    arguments, said = BAD[case]
    done = run("train", "--out", "out", *arguments, "--quiet", *_on_cpu(arguments))
    assert done.exit_code == 2, done.output
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
    assert said in done.stderr
    assert not (work / "out").exists()


def test_a_run_folder_in_use_is_refused(run: Callable[..., Any], work: Path) -> None:
    with hold_folder(work / "out"):
        done = run("train", "recipe.toml", "--out", "out", "--device", "cpu")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: another training is using the run folder out; ")


def _on_cpu(arguments: list[str]) -> list[str]:
    return [] if "--device" in arguments else ["--device", "cpu"]


def test_a_loss_that_is_not_finite_is_a_failure(run: Callable[..., Any], work: Path) -> None:
    done = run("train", "recipe.toml", "--out", "out", "--device", "cpu", "--quiet",
               "schedule.learning_rate=1e30", "schedule.warm_up_steps=0", "schedule.clip_norm=0",
               "schedule.steps=5")  # fmt: skip
    assert done.exit_code == 1
    assert not (work / "out" / "tiny.safetensors").exists()
    assert "in batch" in done.stderr
    assert "train.tif at" in done.stderr


def test_chips(run: Callable[..., Any], work: Path) -> None:
    done = run("chips", "labels.csv", "--images", "images", "-o", "cut", "--chip", 64)
    assert done.exit_code == 0, done.stderr
    assert "written  cut/train.json\nwritten  cut/val.json\n" in done.stdout
    assert "cut      12 chips, 0 of them empty" in done.stdout
    assert len(list((work / "cut" / "chips").glob("*.tif"))) == 12
    divided = run("chips", "labels.csv", "--images", "images", "-o", "by", "--chip", 32,
                  "--divide-by", "ground", "--block-m", 5, "--guard-m", 0.5,
                  "--shares", 0.5, 0.25, 0.25, "--suffix", "png")  # fmt: skip
    assert divided.exit_code == 0, divided.stderr
    assert "nearest test and train" in divided.stdout
    for case, said in (
        (["--divide-by", "ground"], "--divide-by ground: state --block-m and --guard-m, metres"),
        (["--divide-by", "ground", "--block-m", 5], "--divide-by ground: state --guard-m, metres"),
        (["--divide-by", "file", "--block-m", 5], "--block-m: no effect with --divide-by file"),
        (["--divide-by", "file", "--shares", -1, 1, 1], "must be 0 or more and add up to 1"),
        (["--overlap", 512], "overlap_px"),
        (["--only", "none.txt"], "none.txt"),
        (["--block-m", 5, "--seed", 3], "--block-m, --seed: for --divide-by"),
    ):
        bad = run("chips", "labels.csv", "--images", "images", "-o", "bad", *case)
        assert bad.exit_code == 2
        assert said in bad.stderr


def test_anchors(run: Callable[..., Any], work: Path) -> None:
    done = run("anchors", "labels.csv", "--images", "images", "--gsd", 0.05, "--sizes", 1,
               "--ratios", 1, "--picture", "audit.png")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "[network.anchors]\nsizes = [[24.0]]" in done.stdout
    assert "# the paper's: " in done.stdout
    assert (work / "audit.png").stat().st_size > 1000
    (work / "empty.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\ntrain.tif,,,,,\n")
    empty = run("anchors", "empty.csv", "--images", "images")
    assert empty.exit_code == 2
    assert "anchors need objects" in empty.stderr


def test_the_whole_chain(run: Callable[..., Any], work: Path) -> None:
    """Train, detect with the result, evaluate what was detected and the model itself alike."""
    learns = ["schedule.steps=60", "schedule.epoch_steps=60", "schedule.ema_decay=0",
              "schedule.learning_rate=3e-3", "schedule.warm_up_steps=5"]  # fmt: skip
    done = run("train", "recipe.toml", *learns, "--device", "cpu", "--out", "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    model = "out/tiny.safetensors"
    found = run("detect", "images/val.tif", "--model", model, "-o", "val.gpkg", "--score", 0.05,
                "--device", "cpu")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    judged = []
    for way in (["--model", model, "--device", "cpu"], ["--detections", "val.gpkg"]):
        done = run("evaluate", "--labels", "labels.csv", "--images", "images", "--split", "val",
                   *way, "--json", "e.json")  # fmt: skip
        assert done.exit_code == 0, done.stderr
        judged.append(json.loads((work / "e.json").read_text())["quality"])
    by_model, by_file = judged
    assert by_model["ap"] > 0.5, "it has learned nothing, so the two would agree about nothing"
    assert by_model["detections"] == by_file["detections"]
    assert by_model["ap"] == pytest.approx(by_file["ap"], abs=1e-9)


@pytest.mark.slow
def test_two_processes_learn_as_one_does(run: Callable[..., Any], work: Path) -> None:
    frozen = RECIPE.replace("frozen_batch_norm = false", "frozen_batch_norm = true")
    (work / "recipe.toml").write_text(frozen + VAL)
    program = Path(sys.executable).with_name("geo-retina")
    options = ["schedule.optimiser=sgd", "--device", "cpu", "--devices", "2", "--out", "out"]
    done = subprocess.run(
        [program, "train", "recipe.toml", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "written  out/tiny.safetensors\n"
    assert len(re.findall(r"step \d+: val AP", done.stderr)) == 2
    assert not (work / "out" / LOCK_NAME).exists()
    assert len((work / "out" / "metrics.csv").read_text().splitlines()) == 1 + 2
    options = ["schedule.optimiser=sgd", "schedule.batch=4", "--device", "cpu", "--out", "one"]
    assert run("train", "recipe.toml", *options).exit_code == 0
    together, alone = (load_file(work / name / "tiny.safetensors") for name in ("out", "one"))
    for name, weights in alone.items():  # of a batch that has all the chips
        torch.testing.assert_close(together[name], weights, rtol=0, atol=1e-7, msg=name)
