"""The parts of the benchmarks that decide whether their numbers mean anything."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from benchmarking.agreement import agreement, interior
from benchmarking.gpu import gpu_name, gpu_use
from benchmarking.measuring import run_child, spread, store
from benchmarking.mosaic import find_plots, write_mosaic
from benchmarking.tables import fill, tables_of

from geo_retina.space.windows import WindowPlan

PLAN = WindowPlan(180, 100, 100, 20)  # windows at columns 0 and 80


def test_a_mosaic_is_mirrored_whole_and_in_place(write_raster: Any, noise: Any) -> None:
    plot = write_raster("plot.tif", noise(3, 40, 50), gsd=0.2)
    path = plot.with_name("mosaic.tif")
    write_mosaic(path, [plot], width=100, height=90)
    with rasterio.open(plot) as one, rasterio.open(path) as many:
        tile, pixels = one.read()[:, :40, :40], many.read()
        assert (many.crs, many.res) == (one.crs, (0.2, 0.2))
        assert many.profile["compress"] == "deflate"
        assert many.profile["tiled"]
    assert pixels.shape == (3, 90, 100)
    np.testing.assert_array_equal(pixels[:, :40, :40], tile)
    np.testing.assert_array_equal(pixels[:, :40, 40:80], tile[:, :, ::-1])
    np.testing.assert_array_equal(pixels[:, 40:80, :40], tile[:, ::-1])
    np.testing.assert_array_equal(pixels[:, 80:, 80:], tile[:, :10, :20])


def test_a_mosaic_needs_rgb(write_raster: Any, noise: Any) -> None:
    grey = write_raster("grey.tif", noise(1, 40, 40))
    with pytest.raises(SystemExit, match="8-bit red, green and blue"):
        write_mosaic(grey.with_name("out.tif"), [grey], width=50, height=50)
    with pytest.raises(SystemExit, match="at least one"):
        write_mosaic(grey.with_name("out.tif"), [], width=50, height=50)


def test_plots_are_found_in_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.tif", "a.tif", "notes.txt"):
        (tmp_path / name).touch()
    found = find_plots([tmp_path / "notes.txt", tmp_path])
    assert [path.name for path in found] == ["notes.txt", "a.tif", "b.tif"]


def test_interior_boxes_touch_no_overlap() -> None:
    boxes = np.array(
        [
            [10, 10, 30, 30, 0.9],
            [60, 10, 71, 30, 0.9],  # ends 9 px before the overlap
            [60, 10, 73, 30, 0.9],  # within the margin of 8 px
            [105, 10, 120, 30, 0.9],  # within the margin on the other side
            [109, 10, 120, 30, 0.9],
            [70, 10, 120, 30, 0.9],  # across
        ]
    )
    np.testing.assert_array_equal(interior(boxes, PLAN), boxes[[0, 1, 4]])


def test_agreement_counts_counterparts_of_either_side() -> None:
    ours = np.array([[10, 10, 30, 30, 0.9], [40, 40, 60, 60, 0.5], [5, 50, 25, 70, 0.7]])
    theirs = ours.copy()
    theirs[0, :4] = np.floor(theirs[0, :4] + 0.4)
    theirs[1, 4] = 0.6  # another score: another find
    theirs = np.vstack([theirs, [120, 10, 140, 30, 0.8]])
    found = agreement(ours, theirs, PLAN)
    assert found == {"ours": 3, "theirs": 4, "share_of_ours": 0.6667, "share_of_theirs": 0.5}


def test_nothing_agrees_with_nothing() -> None:
    nothing = np.zeros((0, 5))
    assert agreement(nothing, nothing, PLAN)["share_of_ours"] == 1


def test_a_child_that_fails_is_told_with_its_words() -> None:
    with pytest.raises(SystemExit, match="run_nothing"):
        run_child(sys.executable, "run_nothing", {}, threads=1)


def test_sections_are_stored_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    store(path, "start", {"raster": "a.tif", "seconds": spread([2.0, 1.0, 3.0])})
    store(path, "other", {})
    store(path, "other", {"new": 1})
    assert '"new": 1' in path.read_text()
    assert '"start"' in path.read_text()


def test_tables_go_between_their_marks() -> None:
    results = {"start": {"raster": "a.tif", "seconds": spread([2.0, 1.0, 3.0])}}
    document = "Before\n<!-- table start -->\nold\n<!-- end -->\nafter"
    filled = fill(document, tables_of(results))
    assert "| a.tif | 2.00 (1.00 to 3.00) | 3 |" in filled
    assert "old" not in filled
    assert filled.startswith("Before\n")
    assert filled.endswith("\nafter")
    assert fill(filled, tables_of(results)) == filled


def test_a_table_without_results_is_an_error() -> None:
    with pytest.raises(SystemExit, match="'nms-spread'"):
        fill("<!-- table nms-spread -->\n<!-- end -->", {"start": ""})


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
def test_a_gpu_is_watched_by_the_drivers_own_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_name() is None
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *=name*) echo "NVIDIA Play"; exit;; esac\n'
        "echo 100; echo 50; echo '[N/A]'; exec /bin/sleep 60\n"
    )
    program.chmod(0o755)
    assert gpu_name() == "NVIDIA Play"
    shares: list[float] = []
    with gpu_use(shares):
        time.sleep(0.5)
    assert shares == [1.0, 0.5]
