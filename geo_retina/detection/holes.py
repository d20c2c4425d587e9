"""Windows that could not be read, as features: a side file of the first output."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from geo_retina.detection.formats import output_files, split_extension
from geo_retina.detection.job import Job
from geo_retina.detection.vector import open_writer
from geo_retina.space.detections import Detections
from geo_retina.space.windows import Window

CLASS_NAME = "failed_window"
"""Class of the features."""


def holes_path(output: str | Path) -> Path:
    """Where the holes of an output are written: `trees.gpkg` has `trees.failed_windows.gpkg`."""
    output = Path(output)
    stem, _ = split_extension(output)
    return output.with_name(f"{stem}.{CLASS_NAME}s{output.name[len(stem) :]}")


def write_holes(
    job: Job, output: str | Path, strips: Iterable[Iterable[Window]], *, crs: str | None
) -> Path:
    """Write the outlines of unreadable windows.

    Args:
        job: What was done.
        output: The output that has the holes.
        strips: Unreadable windows of each strip, in the source's grid.
        crs: CRS of the coordinates; None = the raster's, WGS 84 for GeoJSON.

    Raises:
        WriteError: The disk is full or lost.
    """
    path, source = holes_path(output), job.source
    grid = source.raster.grid
    with open_writer(path, grid=grid, class_names=(CLASS_NAME,), crs=crs) as opened:
        for windows in strips:
            boxes = np.array([window.box for window in windows], dtype=np.float64).reshape(-1, 4)
            holes = Detections.of(boxes, np.zeros(len(boxes)), np.zeros(len(boxes)))
            opened.write(holes.scale(x=source.scale_x, y=source.scale_y))
    return path


def remove_holes(output: str | Path) -> None:
    """Remove what an earlier run told of its holes."""
    for file in output_files(holes_path(output)):
        file.unlink(missing_ok=True)
