"""What a run on a CPU does not load: each of these libraries takes longer than a small plot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "niwot_ridge.tif"
RUN = """
import sys
from geo_retina.cli.main import app
app(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""


def _loaded_by(*outputs: Path) -> set[str]:
    pytest.importorskip("openvino")
    options = [option for output in outputs for option in ("-o", str(output))]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "detect", str(EXAMPLE), "--backend", "openvino", *options],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(outputs[0].parent)},
    )
    assert all(output.stat().st_size > 0 for output in outputs)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_a_small_plot_needs_few_libraries(tmp_path: Path) -> None:
    loaded = _loaded_by(*(tmp_path / f"a.{kind}" for kind in ("geojson", "csv", "parquet")))
    assert "openvino" in loaded
    heavy = {"torch", "pandas", "numba", "geopandas", "scipy", "matplotlib", "PIL"}
    assert not loaded & heavy
    assert "openvino_telemetry" not in loaded, "nothing is reported to anybody"


def test_a_geopackage_needs_no_torch_and_no_compiler(tmp_path: Path) -> None:
    """Here GDAL writes, through pyogrio, which itself imports pandas."""
    assert not _loaded_by(tmp_path / "a.gpkg") & {"torch", "numba", "scipy"}


def test_openvino_keeps_its_converter() -> None:
    """It is left out of the import, not out of the library."""
    pytest.importorskip("openvino")
    code = """
import sys
from geo_retina.model.openvino_import import load_openvino
assert load_openvino() is load_openvino()
assert "openvino.tools.ovc" not in sys.modules
import openvino
try:
    openvino.convert_model("nothing-here.onnx")
except Exception as error:
    assert "openvino.tools.ovc" in sys.modules, error
else:
    raise AssertionError("converted nothing")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_does_not_wait_for_an_import_at_its_end(tmp_path: Path) -> None:
    """A Ctrl-C may leave Python's import lock taken, and the import beside it never ends."""
    code = """
import sys
from pathlib import Path
from threading import Event
from geo_retina.detection.writers import ogr
ogr.import_module = lambda _name: Event().wait()
ogr.OgrSink(Path(sys.argv[1]), layer=None, driver=ogr.GEOPACKAGE)
raise KeyboardInterrupt
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.gpkg")],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"KeyboardInterrupt" in done.stderr
