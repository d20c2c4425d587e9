"""The HTML map: what its page holds, that it needs no network, and what it refuses."""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Noise, WriteRaster
from PIL import Image

from geo_retina.errors import OutputError
from geo_retina.space.detections import Detections
from geo_retina.viewing import html_map
from geo_retina.viewing.html_map import MapWriter

FOUND = Detections.of(
    np.array([[1.25, 2, 11, 9.5], [20, 5, 31, 16], [3, 20, 8, 28]]),
    np.array([0.31, 0.987, 0.5], np.float32),
    np.array([0, 1, 0]),
)


@pytest.fixture
def raster(write_raster: WriteRaster, noise: Noise) -> Path:
    return write_raster("plot.tif", noise(3, 30, 40))


def _write(
    path: Path,
    raster: Path,
    found: Detections = FOUND,
    class_names: tuple[str, ...] = ("tree", "palm"),
) -> None:
    with MapWriter(path, raster, class_names=class_names, model="trees") as writer:
        writer.write(found.select(np.arange(len(found)) < 2))
        writer.write(found.select(np.arange(len(found)) >= 2))


def _element(page: str, name: str) -> str:
    (content,) = re.findall(rf'<script type="[^"]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    return str(content)


def _numbers(page: str, name: str, dtype: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(_element(page, name)), dtype)


def test_holds_the_boxes_the_raster_and_where_it_lies(raster: Path, tmp_path: Path) -> None:
    _write(tmp_path / "a.html", raster)
    page = (tmp_path / "a.html").read_text()
    assert _numbers(page, "boxes", "<f4").reshape(-1, 4).tolist() == FOUND.boxes.tolist()
    assert _numbers(page, "scores", "<f4").tolist() == FOUND.scores.astype(np.float32).tolist()
    assert _numbers(page, "classes", "<u2").tolist() == FOUND.class_ids.tolist()
    about = json.loads(_element(page, "about"))
    assert (about["width"], about["height"], about["found"]) == (40, 30, 3)
    assert 0.3 <= about["lowest_score"] <= FOUND.scores.min()
    assert [item["name"] for item in about["classes"]] == ["tree", "palm"]
    assert len({item["colour"] for item in about["classes"]}) == 2
    assert about["crs"].startswith("EPSG:")
    assert about["metres_per_px"] == pytest.approx([0.1, 0.1], rel=2e-3)
    kind, _, code = _element(page, "picture").partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(code))) as picture:
        assert picture.size == (40, 30)


def test_needs_no_network(raster: Path, tmp_path: Path) -> None:
    _write(tmp_path / "a.html", raster)
    page = (tmp_path / "a.html").read_text()
    assert "default-src 'none'" in page, "the browser itself keeps it from asking for more"
    markup = re.sub(r"<(script|style)\b[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)\s*=", markup)
    assert "[[title]]" not in page
    assert "BSD" in (Path(html_map.__file__).parent / "leaflet/LICENSE").read_text()


def test_names_cannot_become_markup(
    write_raster: WriteRaster, noise: Noise, tmp_path: Path
) -> None:
    plain = write_raster("plain.tif", noise(3, 9, 9))
    raster = tmp_path / "a&[[boxes]].tif"
    plain.rename(raster)
    hostile = "</script><script>alert(1)</script>"
    _write(tmp_path / "a.html", raster, class_names=(hostile, "palm"))
    page = (tmp_path / "a.html").read_text()
    assert hostile not in page
    about = json.loads(_element(page, "about"))
    assert about["classes"][0]["name"] == hostile
    assert about["raster"] == "a&[[boxes]].tif"
    assert "<title>a&amp;[[boxes]].tif: trees</title>" in page


def test_of_too_many_the_surest_are_shown_and_the_page_says_so(
    raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(html_map, "MOST_OBJECTS", 10)
    random = np.random.default_rng(2)
    scores = random.permutation(np.linspace(0.1, 0.9, 60)).astype(np.float32)
    with MapWriter(tmp_path / "a.html", raster, class_names=["tree"], model="trees") as writer:
        for score in scores:
            box = [[score, score, 5 + score, 5 + score]]
            writer.write(Detections.of(np.array(box), np.array([score]), np.zeros(1)))
            assert sum(map(len, writer._kept)) <= 20, "memory does not grow with the objects"
    page = (tmp_path / "a.html").read_text()
    shown = _numbers(page, "scores", "<f4")
    surest = np.sort(scores)[-10:]
    assert shown.tolist() == scores[np.isin(scores, surest)].tolist()
    assert _numbers(page, "boxes", "<f4")[::4] == pytest.approx(shown)
    assert json.loads(_element(page, "about"))["found"] == 60
    assert "shows the 10 surest of 60 objects" in caplog.text


def test_without_objects_and_without_georeference(
    write_raster: WriteRaster, noise: Noise, tmp_path: Path
) -> None:
    plain = write_raster("plain.tif", noise(1, 9, 9), crs=None)
    _write(tmp_path / "a.html", plain, Detections.empty())
    page = (tmp_path / "a.html").read_text()
    about = json.loads(_element(page, "about"))
    assert (about["crs"], about["transform"], about["metres_per_px"]) == (None, None, None)
    assert about["lowest_score"] == 1
    assert len(_numbers(page, "boxes", "<f4")) == 0


def test_a_run_that_fails_leaves_the_map_of_the_run_before(raster: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("before")
    with (
        contextlib.suppress(KeyboardInterrupt),
        MapWriter(path, raster, class_names=["tree"], model="trees") as writer,
    ):
        writer.write(FOUND.select(FOUND.class_ids == 0))
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize("name", ["a.htm", "none/a.html", "folder.html"])
def test_what_cannot_be_written_is_refused_at_once(raster: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError):
        MapWriter(tmp_path / name, raster, class_names=["tree"], model="trees")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to parse the page's program")
def test_the_program_of_the_page_is_valid(raster: Path, tmp_path: Path) -> None:
    _write(tmp_path / "a.html", raster)
    programs = re.findall(r"<script>(.*?)</script>", (tmp_path / "a.html").read_text(), re.DOTALL)
    assert len(programs) == 2
    for number, program in enumerate(programs):
        file = tmp_path / f"{number}.js"
        file.write_text(program)
        subprocess.run(["node", "--check", str(file)], check=True, timeout=60)


def test_many_classes_have_colours_of_their_own(raster: Path, tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(60))
    _write(tmp_path / "a.html", raster, class_names=names)
    about = json.loads(_element((tmp_path / "a.html").read_text(), "about"))
    assert len({item["colour"] for item in about["classes"]}) == 60
