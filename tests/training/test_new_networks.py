"""Backbones, band counts and level sets that nothing was written for, from a TOML file alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from geo_retina.cli.main import app
from geo_retina.detection.run import detect
from geo_retina.model.checkpoint import load_network, read_info

CARD = """
[card]
name = "new"
summary = "For tests."
licence = "CC0-1.0"
class_names = ["car", "tree"]
bands = ["red", "green", "blue", "nir", "height"]
dtype = "uint16"
value_range = [0, 4095]
mean = [0.1, 0.2, 0.3, 0.4, 0.5]
std = [0.2, 0.2, 0.2, 0.2, 0.2]
gsd_m = 0.5
coarsest_gsd_m = 0.5
chip_px = 96
overlap_px = 32
score = 0.3
nms_iou = 0.5
candidates_per_level = 1000
detections_per_chip = 500

[schedule]
steps = 1
epoch_steps = 1
batch = 2

[augment]
crop_px = 96

[[train]]
kind = "labels"
labels = "labels.csv"

[network]
num_classes = 2
in_bands = 5
pyramid_width = 24
"""

NETWORKS = {
    "fine levels, a mobile backbone": (
        """
levels = [2, 3, 4]
p6_from = "p5"
backbone = { name = "timm:mobilenetv3_small_050", frozen_batch_norm = false }
head = { depth = 1, width = 32, norm = "group" }
anchors = { sizes = [[10], [20], [40]], ratios = [1.0] }

[loss]
classes = { kind = "focal_star", gamma = 4, beta = 0 }
assignment = { kind = "atss" }
""",
        (2, 3, 4),
    ),
    "the paper's levels, a small residual backbone": (
        """
levels = [3, 4, 5, 6, 7]
backbone = { name = "timm:resnet10t", frozen_batch_norm = false }
head = { depth = 0, objectness = true }

[loss]
classes = { kind = "hard_negatives" }
""",
        (3, 4, 5, 6, 7),
    ),
    "one level, fitted nowhere": (
        """
levels = [5]
backbone = { name = "resnet18" }
head = { depth = 2, width = 16 }
anchors = { sizes = [[24, 48]], ratios = [0.5, 2.0] }
""",
        (5,),
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_a_toml_file_alone_builds_trains_and_detects(
    case: str, tmp_path: Path, write_raster_at: Callable[..., Path], noise: Callable[..., Any]
) -> None:
    text, levels = NETWORKS[case]
    (tmp_path / "recipe.toml").write_text(CARD + text)
    raster = write_raster_at(
        tmp_path / "a.tif", noise(5, 120, 130, dtype="uint16", high=4000), gsd=0.5
    )
    (tmp_path / "labels.csv").write_text(
        "image_path,xmin,ymin,xmax,ymax,label\na.tif,20,30,50,60,tree\na.tif,70,20,95,40,car\n"
    )
    done = CliRunner().invoke(
        app,
        ["train", str(tmp_path / "recipe.toml"), "--data", str(tmp_path), "--device", "cpu",
         "--out", str(tmp_path / "out"), "--quiet"],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    info = read_info(tmp_path / "out" / "new.safetensors")
    assert info.network.levels == levels
    assert info.network.in_bands == 5
    network = load_network(info)
    assert network.backbone.architecture == info.network.backbone.name.removeprefix("timm:")
    found = detect(raster, model=info.path, score=0.0)
    assert set(found["class"]) <= {"car", "tree"}
    assert np.isfinite(found["score"]).all()
