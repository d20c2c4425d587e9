from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
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
