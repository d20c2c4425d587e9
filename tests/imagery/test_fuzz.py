import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from fixture_types import Noise, WriteRaster
from rasterio.control import GroundControlPoint

DAMAGED = 500


def fill(folder: Path, write: Callable[..., Path], noise: Noise) -> None:
    """Whole files of several layouts, whose headers are then damaged."""
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    mask = np.ones((150, 170), bool)
    mask[20:40, 30:60] = False
    pixels = noise(3, 150, 170)
    rotated = Affine.translation(5e5, 5e6) @ Affine.rotation(20) @ Affine.scale(0.1, -0.1)
    points = [
        GroundControlPoint(col=col, row=row, x=x, y=y)
        for col, row in [(0, 0), (170, 0), (170, 150), (0, 150)]
        for x, y in [rotated @ (col, row)]
    ]
    write(folder / "a.tif", pixels, mask=mask, compress="DEFLATE", **tiles)
    write(folder / "b.tif", pixels, gsd=0.03, overviews=[2, 4], compress="LZW", nodata=3, **tiles)
    write(folder / "c.tif", pixels.astype(np.float32), nodata=-1, predictor=3, compress="ZSTD")
    write(folder / "d.tif", pixels, gcps=points)
    write(folder / "e.tif", pixels, BIGTIFF="YES", compress="JPEG", photometric="YCBCR", **tiles)
    write(folder / "f.tif", noise(4, 150, 170, dtype="uint16"), interleave="band")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_damaged_files_are_refused_or_read(
    tmp_path: Path, write_raster_at: WriteRaster, noise: Noise
) -> None:
    fill(tmp_path, write_raster_at, noise)
    script = Path(__file__).with_name("fuzz_rasters.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(DAMAGED)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    *wrong, last = result.stdout.strip().splitlines()
    assert wrong == []
    _, count, read = last.split()
    assert int(count) == DAMAGED
    assert 20 < int(read) < DAMAGED - 20  # some damage is harmless, some is not
