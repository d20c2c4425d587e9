import errno
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from typer.testing import CliRunner

from geo_retina.cli.main import app
from geo_retina.space.windows import WindowPlan

UTM = ("EPSG:32632", "EPSG:32633")
run = CliRunner().invoke
TRANSFORM = Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000)


def test_tiles_of_a_folder_give_what_the_whole_raster_gives(
    tmp_path: Path,
    write_raster: Callable[..., Path],
    blob_model: Callable[..., object],
    field_of_objects: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> None:
    blob_model()
    pixels, boxes = field_of_objects(300, 200)
    whole = write_raster("whole.tif", pixels, transform=TRANSFORM)
    (tmp_path / "tiles").mkdir()
    tiles = WindowPlan(300, 200, 96, 10)
    for number, window in enumerate(map(tiles.window, range(len(tiles)))):
        rows, cols = (
            slice(window.row_off, window.row_end),
            slice(window.col_off, window.col_end),
        )
        moved = TRANSFORM @ Affine.translation(window.col_off, window.row_off)
        write_raster(f"tiles/{number}.tif", pixels[:, rows, cols], transform=moved)
    mosaic, found = tmp_path / "all.vrt", tmp_path / "found.gpkg"

    made = run(app, ["mosaic", str(tmp_path / "tiles"), "-o", str(mosaic)])
    results = [
        run(app, ["detect", str(raster), "-o", str(found), "--quiet"]).exit_code
        or gpd.read_file(found).drop(columns="window")
        for raster in (whole, mosaic)
    ]

    assert made.exit_code == 0, made.output
    assert "300 x 200 px, WGS 84 / UTM zone 33N" in made.output
    assert "covered  100.0%" in made.output
    assert len(results[0]) == len(boxes)
    assert results[0].equals(results[1])


def test_what_does_not_fit_is_bad_input(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    pixels = np.full((3, 20, 20), 9, np.uint8)
    files = [str(write_raster(f"{crs[-5:]}.tif", pixels, crs=crs)) for crs in UTM]

    result = run(app, ["mosaic", *files, "-o", str(tmp_path / "all.vrt")])

    assert result.exit_code == 2
    assert "differ in their CRS" in result.stderr


def test_a_folder_that_is_missing_or_read_only_is_one_line(
    tmp_path: Path, write_raster: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = write_raster("tile.tif", np.full((3, 20, 20), 9, np.uint8))
    missing, locked = tmp_path / "none", tmp_path / "locked"
    locked.mkdir()

    result = run(app, ["mosaic", str(tile), "-o", str(missing / "x.vrt")])
    assert result.exit_code == 2
    assert result.stderr == f"error: the folder {missing} of x.vrt does not exist; make it first\n"

    monkeypatch.setattr("os.access", lambda path, _mode: path != locked)  # root may all
    result = run(app, ["mosaic", str(tile), "-o", str(locked / "x.vrt")])
    assert result.exit_code == 2
    assert f"no permission to write x.vrt in the folder {locked}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_turns_out_read_only_is_one_line(
    tmp_path: Path, write_raster: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "x")

    tile = write_raster("tile.tif", np.full((3, 20, 20), 9, np.uint8))
    monkeypatch.setattr("xml.etree.ElementTree.ElementTree.write", refused)
    monkeypatch.setattr("pathlib.Path.unlink", refused)

    result = run(app, ["mosaic", str(tile), "-o", str(tmp_path / "x.vrt"), "--quiet"])

    assert result.exit_code == 2
    assert "x.vrt: Read-only file system; choose another place" in result.stderr
    assert result.stderr.count("\n") == 1
