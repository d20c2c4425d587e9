"""Read damaged copies of GeoTIFFs; prints one line for each that ends in an unexpected error.

Usage: python fuzz_rasters.py FOLDER COUNT, where FOLDER holds whole `*.tif` files. Its own process,
so that a crash or a wild allocation inside GDAL fails a test instead of ending the tests.
"""

import resource
import sys
import traceback
from pathlib import Path

import numpy as np

from geo_retina.card import ModelCard
from geo_retina.errors import GeoRetinaError
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.space.windows import Window

MEMORY_BYTES = 6 * 2**30
CARD = ModelCard(
    name="fuzz",
    summary="",
    licence="CC0-1.0",
    class_names=("thing",),
    bands=("red", "green", "blue"),
    dtype="uint8",
    value_range=(0, 255),
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    gsd_m=0.1,
    coarsest_gsd_m=0.3,
    chip_px=64,
    overlap_px=8,
    score=0.3,
    nms_iou=0.5,
    candidates_per_level=100,
    detections_per_chip=100,
)


def damage(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut `data` short, or change a few bytes, mostly in its first kilobyte."""
    if generator.random() < 0.2:
        return data[: int(generator.integers(0, len(data)))]
    changed = bytearray(data)
    reach = len(data) if generator.random() < 0.2 else min(1024, len(data))
    for at in generator.integers(0, reach, generator.integers(1, 12)).tolist():
        changed[at] = int(generator.integers(0, 256))
    return bytes(changed)


def read_some(path: Path) -> bool:
    """Read a few chips as a model does; False where the file was refused."""
    try:
        with open_raster(path) as raster:
            options = ReadOptions(
                bands=(1, 1, 1), scale=(0, 255), any_gsd=True, pixel_coordinates=True
            )
            source = open_chip_source(raster, CARD, options)
            grid = source.grid
            width, height = min(64, grid.width), min(64, grid.height)
            for share in (0.0, 0.5, 1.0):
                col, row = int(share * (grid.width - width)), int(share * (grid.height - height))
                window = Window(col, row, width, height)
                chip = source.read(window)
                if chip.pixels.shape != (3, height, width) or chip.pixels.dtype != np.uint8:
                    raise AssertionError(f"wrong chip: {chip.pixels.shape}")
                if chip.valid.any() and source.valid_share(window) == 0:
                    raise AssertionError("a valid pixel where none might be")
    except GeoRetinaError:
        return False
    return True


def main(folder: Path, count: int) -> None:
    """Try `count` damaged files; the first line printed that starts with `done` sums up."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    whole = [path.read_bytes() for path in sorted(folder.glob("*.tif"))]
    damaged = folder / "damaged" / "a.tif"
    damaged.parent.mkdir()
    read = 0
    for seed in range(count):
        generator = np.random.default_rng(seed)
        damaged.write_bytes(damage(whole[seed % len(whole)], generator))
        try:
            read += read_some(damaged)
        except BaseException:  # noqa: BLE001  any other end is what is looked for
            print(f"seed {seed}: {traceback.format_exc()}")  # noqa: T201
    print(f"done {count} {read}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
