"""Bounded memory, measured as the peak resident size of a process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "measure_memory.py"
EXAMPLE = ROOT / "examples" / "niwot_ridge.tif"

MOST_GROWTH_MIB = 40
"""Block cache, one strip's detections and buffers follow the raster's width; all else may not."""


def told(*command: object) -> str:
    """Output of a Python program."""
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_peak_memory_does_not_follow_the_area(tmp_path: Path) -> None:
    """Five times the area and the objects; what runs hold must not show it.

    Of smaller rasters as many windows do not wait at a time, and their strips are shorter.
    """
    command = (TOOL, "--folder", tmp_path, "--extension", "csv", "--gigapixels", "0.2", "1")
    small, large = map(json.loads, told(*command).splitlines())
    assert (small["objects"], large["objects"]) == (122_500, 640_000)
    assert large["seams"]["merged"] > small["seams"]["merged"] > 0
    assert large["peak_mib"] - small["peak_mib"] < MOST_GROWTH_MIB


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 10])
def test_a_plan_foretells_the_memory_of_a_run(
    repeats: int, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    with rasterio.open(EXAMPLE) as example:
        pixels = np.tile(example.read(), (1, repeats, repeats))
        raster = write_raster("many.tif", pixels, transform=example.transform, crs=example.crs)
    held = np.ones(1 << 30, np.uint8)  # by the caller, which is none of the plan's
    plan: dict[str, Any] = json.loads(told("-m", "geo_retina", "plan", raster, "--json"))
    del held
    measuring = ("--raster", raster, "--model", "tree-crowns", "--extension", "gpkg")
    run: dict[str, Any] = json.loads(told(TOOL, *measuring, "--folder", tmp_path))
    assert 0.85 < plan["memory_mib"] / run["peak_mib"] < 1.4
