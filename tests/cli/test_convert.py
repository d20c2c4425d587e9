from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import retinanet_resnet50_fpn
from typer.testing import CliRunner

from geo_retina.cli.main import app
from geo_retina.detection.backends import load_model
from geo_retina.model.checkpoint import load_network, read_info

CONFIG = Path(__file__).parents[2] / "configs" / "cards" / "deepforest.toml"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_a_checkpoint_of_deepforest_becomes_a_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=1).eval()
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "deepforest.pt")
    out = tmp_path / "mine.safetensors"
    done = run(tmp_path / "deepforest.pt", "--as", CONFIG, "-o", out)
    assert done.exit_code == 0, done.output
    assert f"written  {out}" in done.stdout
    info = read_info(out)
    assert (info.card.name, info.card.gsd_m) == ("deepforest", 0.05)
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        features = list(theirs.backbone(image).values())
        expected = theirs.head.classification_head(features)
        found = load_network(info)(image).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    chip = np.random.default_rng(0).integers(0, 255, (3, 96, 96), np.uint8)
    assert len(load_model(out, device="cpu").detect_chip(chip, score=0.0)) > 0


@pytest.mark.parametrize(
    ("weights", "described", "out", "said"),
    [
        ("none.pt", CONFIG, "a.safetensors", "none.pt"),
        ("none.pt", CONFIG, "a.pt", "ends in .safetensors"),
        ("none.pt", "none.toml", "a.safetensors", "none.toml"),
        ("a.safetensors", CONFIG, "a.safetensors", "would be overwritten"),
        ("none.pt", CONFIG, "missing/a.safetensors", "does not exist"),
    ],
)
def test_bad_input_is_told_in_one_line(
    tmp_path: Path, weights: str, described: Path | str, out: str, said: str
) -> None:
    done = run(tmp_path / weights, "--as", tmp_path / described, "-o", tmp_path / out)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
