"""Labels as points in pixels: one CSV an image, with the columns x and y."""

from os import PathLike
from pathlib import Path

import numpy as np

from geo_retina.errors import LabelError
from geo_retina.labels.csv_table import refuse_row
from geo_retina.labels.files import (
    files_ending,
    list_images,
    read_grid,
    refuse_strays,
    refuse_twins,
)
from geo_retina.labels.labels import ANY_CLASS, LabelledRaster, Labels
from geo_retina.space.grid import Grid


def read_point_csvs(
    folder: str | PathLike[str],
    image_folder: str | PathLike[str],
    *,
    size_m: float,
    class_name: str = ANY_CLASS,
) -> list[LabelledRaster]:
    """Read CSV files of pixel points named like the images; an image without CSV has no objects.

    Args:
        folder: Holds `.csv` files with the columns `x` and `y`, pixel edges in the image's frame.
        image_folder: Holds the images, which must be georeferenced.
        size_m: Side of the square box that each point becomes the centre of, metres.
        class_name: Of all points.

    Returns:
        One entry an image, in alphabetical order.

    Raises:
        LabelError: `folder` is a file, there is no CSV, one has no image or several or cannot
            be read, or `size_m` is not positive.
        GeoreferenceError: An image with points has no CRS, so that metres mean nothing.
    """
    if Path(folder).is_file():
        raise LabelError(
            f"{folder}: expected a folder with one CSV of points a raster, of the raster's name "
            "and with the columns x and y, got a file; pass the folder"
        )
    images = list_images(image_folder)
    files = {file.stem: file for file in files_ending(Path(folder), ".csv")}
    if not files:
        raise LabelError(f"{folder}: expected .csv files in the folder, found none")
    refuse_strays(files.values(), images, image_folder)
    claims = ((image, files.get(Path(image).stem)) for image in images)
    refuse_twins(claims, image_folder=image_folder)
    labelled = []
    for image in images:
        csv = files.get(Path(image).stem)
        labels = Labels.empty([class_name])
        if csv is not None:
            boxes = boxes_around(_read_points(csv), read_grid(image), size_m=size_m)
            labels = Labels.of(boxes, np.zeros(len(boxes)), [class_name])
        labelled.append(LabelledRaster(image, labels))
    return labelled


def boxes_around(points: np.ndarray, grid: Grid, *, size_m: float) -> np.ndarray:
    """Boxes of `size_m` x `size_m` metres around (N, 2) pixel points of `grid`: (N, 4) pixels.

    Raises:
        LabelError: `size_m` is not positive.
        GeoreferenceError: The grid has no CRS.
    """
    if not size_m > 0:
        raise LabelError(f"the size of a point must be over 0 metres, got {size_m}")
    half = size_m / 2 / np.array(grid.gsd_m())
    return np.concatenate([points - half, points + half], axis=1)


def _read_points(csv: Path) -> np.ndarray:
    import pandas as pd

    try:
        table = pd.read_csv(csv, skipinitialspace=True)
        points: np.ndarray = table[["x", "y"]].to_numpy(dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise LabelError(f"{csv}: expected a CSV with numbers in columns x and y") from error
    refuse_row(csv, ~np.isfinite(points).all(axis=1), "no number in the columns x and y")
    return points
