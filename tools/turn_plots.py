"""Turn or mirror labelled images, to see what a model makes of them that learned with north up.

    python tools/turn_plots.py NEON_TREES --view turned-180 --out TURNED/neon_trees
    python tools/cross_validate.py RECIPE --data TURNED --out runs/folds

writes `annotations.csv` (DeepForest's layout) and `images/` as they would be if the camera had been
turned. A cross-validation that was done before measures its checkpoints on them, and so does
`geo-retina evaluate --labels TURNED/neon_trees/annotations.csv --images TURNED/neon_trees/images`.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from deepforest_csv import write_deepforest_csv
from numpy.typing import NDArray

from geo_retina.labels.deepforest import read_deepforest_csv

Array = NDArray[np.generic]

VIEWS: dict[str, Callable[[Array], Array]] = {
    "mirrored": lambda pixels: pixels[:, :, ::-1],
    "turned-90": lambda pixels: np.rot90(pixels, 1, axes=(1, 2)),
    "turned-180": lambda pixels: np.rot90(pixels, 2, axes=(1, 2)),
    "turned-270": lambda pixels: np.rot90(pixels, 3, axes=(1, 2)),
}
"""What becomes of (bands, rows, columns); turned against the clock."""


def main() -> None:
    """Parse the command line, turn images and labels, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plots", type=Path, help="folder with annotations.csv and images/")
    parser.add_argument("--view", choices=VIEWS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()

    labelled = read_deepforest_csv(asked.plots / "annotations.csv", asked.plots / "images")
    (asked.out / "images").mkdir(parents=True, exist_ok=True)
    turned = []
    for item in labelled:
        path = Path(item.raster)
        width, height = write_view(path, asked.out / "images" / path.name, VIEWS[asked.view])
        boxes = turned_boxes(item.labels.boxes, asked.view, width=width, height=height)
        turned.append(replace(item, raster=path.name, labels=replace(item.labels, boxes=boxes)))
    write_deepforest_csv(turned, asked.out / "annotations.csv")
    print(f"{len(turned)} images, {asked.view}: {asked.out}")


def write_view(path: Path, out: Path, view: Callable[[Array], Array]) -> tuple[int, int]:
    """Write an image as it looks in a view; width and height of what it was made from.

    The view has the georeference of the image: its pixels are as large, but lie elsewhere.
    """
    with rasterio.open(path) as raster:
        pixels = view(raster.read())
        profile = raster.profile | {"height": pixels.shape[1], "width": pixels.shape[2]}
        size = (raster.width, raster.height)
    with rasterio.open(out, "w", **profile) as raster:
        raster.write(pixels)
    return size


def turned_boxes(
    boxes: NDArray[np.float64], view: str, *, width: int, height: int
) -> NDArray[np.float64]:
    """(N, 4) boxes of an image of a width and height, in the frame of its view."""
    x_min, y_min, x_max, y_max = boxes.T
    sides = {
        "mirrored": (width - x_max, y_min, width - x_min, y_max),
        "turned-90": (y_min, width - x_max, y_max, width - x_min),
        "turned-180": (width - x_max, height - y_max, width - x_min, height - y_min),
        "turned-270": (height - y_max, x_min, height - y_min, x_max),
    }
    return np.stack(sides[view], axis=1)


if __name__ == "__main__":
    main()
