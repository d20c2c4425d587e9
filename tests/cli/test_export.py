from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from geo_retina.card import ModelCard
from geo_retina.cli.main import app
from geo_retina.model import export as graphs
from geo_retina.model.artifacts import read_artifact
from geo_retina.model.checkpoint import save_checkpoint
from geo_retina.model.retinanet import build_retinanet
from geo_retina.model.settings import (
    AnchorSettings,
    BackboneSettings,
    HeadSettings,
    NetworkSettings,
)


@pytest.fixture
def run() -> Callable[..., Any]:
    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["export", *[str(argument) for argument in arguments]])

    return invoke


@pytest.fixture
def checkpoint(tmp_path: Path, make_card: Callable[..., ModelCard]) -> Path:
    settings = NetworkSettings(
        num_classes=1,
        backbone=BackboneSettings(name="timm:test_efficientnet"),
        levels=(3,),
        pyramid_width=8,
        head=HeadSettings(depth=0, width=8),
        anchors=AnchorSettings(sizes=((16.0,),), ratios=(1.0,)),
    )
    save_checkpoint(tmp_path / "small.safetensors", build_retinanet(settings), make_card())
    return tmp_path / "small.safetensors"


def test_bad_input_is_one_line_and_exit_code_2(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (["birds"], "bundled models"),
        ([checkpoint, "--out", tmp_path / "none"], "does not exist"),
        ([checkpoint, "--to", "openvino-int8"], "no rasters to calibrate with"),
        ([checkpoint, "--to", "openvino-int8", "--labels", tmp_path / "none.csv"], "none.csv"),
        ([checkpoint, "--labels", tmp_path / "none.csv"], "--labels: for --to openvino-int8"),
    ]
    for arguments, said in cases:
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert said in done.stderr
    monkeypatch.setattr(graphs, "find_spec", lambda _name: None)
    done = run(checkpoint)
    assert done.exit_code == 2
    assert "this export needs onnx" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.safetensors"]


@pytest.mark.slow
def test_writes_what_was_asked_for(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    out = tmp_path / "graphs"
    out.mkdir()
    done = run(checkpoint, "--to", "onnx", "--to", "openvino-fp32", "--out", out)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "small.onnx",
        "small.openvino-fp32.bin",
        "small.openvino-fp32.xml",
    ]
    assert done.stdout.count("written  ") == 2
    assert read_artifact(out / "small.openvino-fp32.xml").is_faithful
