"""Promises about the package as a whole."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "niwot_ridge.tif"

HEAVY = ("torch", "albumentations", "geopandas", "numba", "pandas", "rasterio")


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import geo_retina", "import geo_retina.cli.main"])
def test_heavy_libraries_load_late(statement: str) -> None:
    assert not _loaded_after(statement) & set(HEAVY)


@pytest.mark.parametrize("moment", ["geo_retina.cli.main", "commands"])
def test_ctrl_c_while_the_program_loads_leaves_one_line(moment: str) -> None:
    code = f"""
import sys
import typer.main
class Stop:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            raise KeyboardInterrupt
def interrupt(*_, **__):
    raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
if {moment!r} == "commands":
    typer.main.get_command = interrupt
from geo_retina.__main__ import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_console_lacks_letters_for_are_printed(
    tmp_path: Path, encoding: str
) -> None:
    raster = shutil.copy(EXAMPLE, tmp_path / "\u6728.tif")
    done = subprocess.run(
        [sys.executable, "-m", "geo_retina", "info", str(raster)],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u6728.tif" in done.stdout


def test_every_public_name_is_there() -> None:
    import geo_retina

    for name in geo_retina.__all__:
        assert getattr(geo_retina, name) is not None


def test_the_version_is_the_installed_one() -> None:
    import geo_retina

    assert geo_retina.__version__ == version("geo-retina")


def test_unknown_name_is_an_attribute_error() -> None:
    import geo_retina

    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        geo_retina.detekt  # noqa: B018


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use cannot be removed")
def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); "
        "from geo_retina.__main__ import run; run()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "gone")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "no longer exists" in ended.stderr
