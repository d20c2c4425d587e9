"""Bounded memory, measured as the peak resident size of a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "measure_memory.py"

MOST_GROWTH_MIB = 40
"""Block cache, one strip's detections and buffers follow the raster's width; all else may not."""


@pytest.mark.slow
def test_peak_memory_does_not_follow_the_area(tmp_path: Path) -> None:
    """Five times the area and the objects; what runs hold must not show it.

    Of smaller rasters as many windows do not wait at a time, and their strips are shorter.
    """
    command = [sys.executable, TOOL, "--folder", tmp_path, "--extension", "csv"]
    done = subprocess.run(
        [*command, "--gigapixels", "0.1", "0.5"], check=True, capture_output=True, text=True
    )
    small, large = map(json.loads, done.stdout.splitlines())
    assert (small["objects"], large["objects"]) == (62_500, 302_500)
    assert large["seams"]["merged"] > small["seams"]["merged"] > 0
    assert large["peak_mib"] - small["peak_mib"] < MOST_GROWTH_MIB
