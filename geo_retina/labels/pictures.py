"""Pictures of labels for the human eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geo_retina.errors import OutputError
from geo_retina.imagery.quicklook import shown_bands
from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.labels.labels import LabelledRaster
from geo_retina.space import boxes as box_arrays
from geo_retina.space.spread import evenly_spread
from geo_retina.space.windows import Window
from geo_retina.whole_files import whole_file

_STRETCH_PERCENTILES = (2.0, 98.0)
_COLUMNS, _MOST_CELLS = 4, 16
_CELL_PX, _TITLE_PX = 320, 16
_SHOWN_PX = 512
"""Side of what a cell shows of a large raster, around its middle label, raster pixels."""
_YELLOW, _DARK = (250, 210, 50), (24, 24, 24)


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Boxes to draw in one colour."""

    boxes: NDArray[np.float64]
    """(N, 4) pixel edges in the raster's frame."""
    colour: tuple[int, int, int]
    """Red, green, blue, 0..255."""


def read_picture(raster: Raster, window: Window) -> Image.Image:
    """Pixels of a window as a colour picture.

    Red, green and blue are found by the bands' colour tags, otherwise the first three bands are
    shown, or the first alone. Data other than uint8 is stretched between its percentiles 2 and 98
    in this window: this is to be looked at, not to be measured.

    Args:
        raster: An open raster.
        window: Within the raster.

    Raises:
        RasterReadError: The pixels cannot be read.
    """
    bands = shown_bands(raster.colours)
    samples = raster.read(window, bands=bands).astype(np.float64)
    # Any band: where 255 stands for nodata, a bright pixel is often 255 in one band alone.
    valid = np.any([raster.read_mask(window, band=band) for band in bands], axis=0)
    valid &= np.isfinite(samples).all(axis=0)
    if set(raster.dtypes) != {"uint8"} and valid.any():
        low, high = np.percentile(samples[:, valid], _STRETCH_PERCENTILES, axis=1)[..., None, None]
        samples = (samples - low) / np.maximum(high - low, 1e-9) * 255
    samples = np.where(valid, np.clip(samples, 0, 255), 0)
    pixels = np.moveaxis(np.broadcast_to(samples, (3, *samples.shape[1:])), 0, -1)
    return Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))


def draw_outlines(
    picture: Image.Image, outlines: Sequence[Outline], *, window: Window, zoom: float
) -> Image.Image:
    """Enlarge a picture and draw boxes onto it.

    Args:
        picture: The pixels of `window`.
        outlines: In the raster's frame; later ones lie on top.
        window: What the picture shows.
        zoom: Picture pixels per raster pixel.
    """
    size = max(round(window.width * zoom), 1), max(round(window.height * zoom), 1)
    method = Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.BOX
    shown = picture.resize(size, method)
    pen = ImageDraw.Draw(shown)
    for outline in outlines:
        moved = box_arrays.shift(outline.boxes, x=-window.col_off, y=-window.row_off) * zoom
        seen = (moved[:, 2:] > 0).all(axis=1) & (moved[:, :2] < size).all(axis=1)
        for x_min, y_min, x_max, y_max in moved[seen].tolist():
            if x_max > x_min and y_max > y_min:
                far = max(x_max - 1, x_min), max(y_max - 1, y_min)  # zoomed out, under a pixel
                pen.rectangle((x_min, y_min, *far), outline=outline.colour)
    return shown


def window_around(x: float, y: float, *, size_px: int, raster: Raster) -> Window:
    """Square window around a pixel, moved and cut so that it lies in the raster."""
    width, height = min(size_px, raster.grid.width), min(size_px, raster.grid.height)
    column = min(max(round(x - width / 2), 0), raster.grid.width - width)
    row = min(max(round(y - height / 2), 0), raster.grid.height - height)
    return Window(column, row, width, height)


def contact_sheet(labelled: Sequence[LabelledRaster], path: str | PathLike[str]) -> Path:
    """Save a picture with the labels drawn on some of the rasters: one look shows most mistakes.

    Args:
        labelled: Rasters and labels; of many, sixteen are shown, spread evenly over the list.
        path: Picture to write, `.png` or `.jpg`.

    Returns:
        `path`.

    Raises:
        RasterError: A raster cannot be opened.
        OutputError: The picture cannot be written.
    """
    chosen = evenly_spread(len(labelled), _MOST_CELLS)
    rows, height = max(-(-len(chosen) // _COLUMNS), 1), _CELL_PX + _TITLE_PX
    sheet = Image.new("RGB", (_COLUMNS * _CELL_PX, rows * height), _DARK)
    for position, index in enumerate(chosen.tolist()):
        row, column = divmod(position, _COLUMNS)
        sheet.paste(_cell(labelled[index]), (column * _CELL_PX, row * height))
    path = Path(path)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    with whole_file(path, error=OutputError) as file:
        sheet.save(file, format=kind)
    return path


def _cell(labelled: LabelledRaster) -> Image.Image:
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX + _TITLE_PX), _DARK)
    boxes = labelled.labels.boxes
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    with open_raster(labelled.raster, pixel_coordinates=True) as raster:
        middle = np.array([raster.grid.width, raster.grid.height]) / 2
        if len(boxes):
            centres = box_arrays.centres(boxes)
            off = np.abs(centres - np.median(centres, axis=0)).sum(axis=1)
            middle = centres[np.argmin(off)]
        window = window_around(*middle.tolist(), size_px=_SHOWN_PX, raster=raster)
        picture = read_picture(raster, window)
        title = f"{raster.name}  {len(boxes)} labels"
    zoom = _CELL_PX / max(window.width, window.height)
    cell.paste(
        draw_outlines(picture, [Outline(boxes, _YELLOW)], window=window, zoom=zoom), (0, _TITLE_PX)
    )
    ImageDraw.Draw(cell).text((3, 2), title, fill=(255, 255, 255))
    return cell
