"""A raster of any size to measure with, made of small ones: mirrored, so that no seam shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

BLOCK_PX = 256


def write_mosaic(
    path: Path, plots: Sequence[Path], *, width: int, height: int, seed: int = 0
) -> None:
    """Write a tiled, deflate-compressed GeoTIFF of 8-bit RGB in the first plot's CRS and GSD.

    Each place of a lattice gets one of the plots, drawn with a seed; every other column and row is
    mirrored, so that one plot over and over has no seams.

    Args:
        path: Where to.
        plots: GeoTIFFs whose first three bands are 8-bit red, green and blue; all are cut down to
            the size of the smallest.
        width: Columns of the raster.
        height: Rows of the raster.
        seed: Of the draw.

    Raises:
        SystemExit: There are no plots, or they are not 8-bit RGB.
    """
    if not plots:
        raise SystemExit("expected at least one GeoTIFF to make a mosaic of, got none")
    pictures = [_read(plot) for plot in plots]
    edge = min(min(picture.shape[1:]) for picture in pictures)
    with rasterio.open(plots[0]) as first:
        gsd, crs = first.transform.a, first.crs
        origin = first.transform.c, first.transform.f
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": 3,
        "dtype": "uint8",
        "width": width,
        "height": height,
        "crs": crs,
        "transform": Affine(gsd, 0, origin[0], 0, -gsd, origin[1]),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "deflate",
        "interleave": "pixel",
        "photometric": "rgb",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
    }
    with rasterio.open(path, "w", **profile) as file:
        for row, strip in _strips(pictures, edge=edge, width=width, height=height, seed=seed):
            file.write(strip, window=Window(0, row, width, strip.shape[1]))


def find_plots(folders: Sequence[Path]) -> list[Path]:
    """GeoTIFFs among the given files and under the given folders, in order of their names."""
    return [
        plot
        for folder in folders
        for plot in ([folder] if folder.is_file() else sorted(folder.rglob("*.tif")))
    ]


def _strips(
    pictures: Sequence[NDArray[np.uint8]], *, edge: int, width: int, height: int, seed: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and pixels of each row of the lattice."""
    random = np.random.default_rng(seed)
    columns = -(-width // edge)
    for number, row in enumerate(range(0, height, edge)):
        drawn = random.integers(len(pictures), size=columns).tolist()
        cells = [
            _mirrored(pictures[plot][:, :edge, :edge], down=number % 2, across=column % 2)
            for column, plot in enumerate(drawn)
        ]
        yield row, np.concatenate(cells, axis=2)[:, : height - row, :width]


def _mirrored(pixels: NDArray[np.uint8], *, down: int, across: int) -> NDArray[np.uint8]:
    """Pixels (bands, rows, columns) with their rows, columns or both in reverse, where 1."""
    return pixels[:, :: 1 - 2 * down, :: 1 - 2 * across]


def _read(plot: Path) -> NDArray[np.uint8]:
    with rasterio.open(plot) as file:
        if file.count < 3 or set(file.dtypes[:3]) != {"uint8"}:
            raise SystemExit(
                f"expected 8-bit red, green and blue in {plot}, got {file.count} bands of "
                f"{', '.join(file.dtypes)}"
            )
        pixels: NDArray[np.uint8] = file.read([1, 2, 3])
    return pixels
