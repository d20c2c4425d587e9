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
        ([checkpoint, "--out", checkpoint / "folder"], "cannot make the folder"),
        ([tmp_path / "none.safetensors"], "none.safetensors does not exist"),
        ([checkpoint, "--to", "openvino-int8"], "needs --data FOLDER"),
        ([checkpoint, "--data", tmp_path], "--data: for --to openvino-int8 alone"),
        (
            [checkpoint, "--to", "openvino-int8", "--data", tmp_path, "--calibrate", tmp_path],
            "--calibrate: the recipe in the checkpoint says so",
        ),
        (
            [checkpoint, "--to", "openvino-int8", "--data", tmp_path],
            "does not carry the recipe of its training",
        ),
        (
            [
                checkpoint,
                "--to",
                "openvino-int8",
                "--calibrate",
                tmp_path,
                "--labels",
                tmp_path / "none.csv",
            ],
            "none.csv",
        ),
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
    done = run(checkpoint, "--to", "onnx", "--to", "openvino-int8", "--calibrate", tmp_path)
    assert done.exit_code == 2
    assert "this export needs nncf" in done.stderr, "before the other graphs are made"
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


@pytest.fixture
def bundled(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled model `small`; graphs of it are one byte. Gives the folder it is installed in."""
    weights = tmp_path / "installed" / "geo_retina" / "model" / "weights"
    weights.mkdir(parents=True)
    path = checkpoint.rename(weights / checkpoint.name)
    monkeypatch.setattr("geo_retina.model.checkpoint.bundled_models", lambda: {"small": path})
    monkeypatch.setattr(graphs, "export_onnx", lambda _info, path: path.write_bytes(b"x"))
    monkeypatch.setattr(graphs, "export_openvino", lambda _info: None)
    monkeypatch.setattr(
        graphs, "write_openvino", lambda _graph, artifact: artifact.path.write_bytes(b"x")
    )
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return weights


def test_a_bundled_model_is_exported_to_the_current_folder(
    run: Callable[..., Any], bundled: Path
) -> None:
    done = run("small", "--to", "onnx", "--to", "openvino-fp32")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in Path().iterdir()) == [
        "small.onnx",
        "small.openvino-fp32.xml",
    ]
    assert [path.name for path in bundled.iterdir()] == ["small.safetensors"]
    assert f"written  {Path.cwd() / 'small.onnx'} (" in done.stdout
    assert f"or export with --out {bundled}" in done.stdout


def test_graphs_of_a_bundled_model_lie_beside_it_in_a_source_checkout(
    run: Callable[..., Any], bundled: Path
) -> None:
    (bundled.parents[2] / "pyproject.toml").touch()
    done = run("small", "--to", "onnx", "--to", "openvino-fp32")
    assert done.exit_code == 0, done.output
    assert [path.name for path in Path().iterdir()] == ["small.onnx"]
    assert sorted(path.name for path in bundled.iterdir()) == [
        "small.openvino-fp32.xml",
        "small.safetensors",
    ]
    assert "note " not in done.stdout
