"""A disk that is full when a file is closed: GDAL does not say so, and the file must not appear."""

import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="file sizes are limited by POSIX")

PROGRAM = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import pyproj
from affine import Affine
from geo_retina.detection.vector import open_writer
from geo_retina.errors import WriteError
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
corners = np.random.default_rng(0).uniform(0, 9000, (3000, 2))
boxes = np.concatenate([corners, corners + 20], axis=1)
found = Detections.of(boxes, np.full(3000, 0.5, np.float32), np.zeros(3000))
grid = Grid(10_000, 10_000, Affine(0.1, 0, 4.5e5, 0, -0.1, 4.4e6), pyproj.CRS.from_epsg(32613))
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)

def write(path, limit):
    with open_writer(path, grid=grid, class_names=("Tree",)) as writer:
        writer.write(found)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))  # while it is closed
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

whole = Path(sys.argv[1])
write(whole, most)
for part in sorted(whole.parent.glob(whole.stem + ".*")):
    if part.suffix in (".prj", ".cpg"):
        continue
    for missing in (1, part.stat().st_size // 20, part.stat().st_size // 5):
        path = whole.with_name("broken" + whole.suffix)
        try:
            write(path, part.stat().st_size - missing)
        except WriteError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            if list(whole.parent.glob("*broken*")):
                sys.exit(f"something was left: {list(whole.parent.glob('*broken*'))}")
            print("refused")
        else:
            sys.exit(f"{part.name} less {missing} bytes was called whole")
"""


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb", "a.shp", "a.parquet", "a.geojson", "a.csv"])
def test_what_could_not_be_written_whole_does_not_appear(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") >= 3
