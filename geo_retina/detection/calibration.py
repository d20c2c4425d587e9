"""Chips of real rasters, by which the rounding of an int8 graph is set."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.detector import pad_chips
from geo_retina.errors import RasterError
from geo_retina.imagery.gdal import session
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import READ_AS_STATED, ReadOptions
from geo_retina.imagery.source import open_chip_source
from geo_retina.labels.files import RASTER_SUFFIXES
from geo_retina.space.spread import evenly_spread
from geo_retina.space.windows import WindowPlan


def read_calibration_chips(
    paths: Sequence[Path], card: ModelCard, *, most: int, options: ReadOptions = READ_AS_STATED
) -> list[NDArray[Any]]:
    """Read chips as detection would, evenly spread over the rasters.

    Args:
        paths: Rasters, or folders of which every raster is taken. Without georeference the model's
            own GSD is assumed.
        card: What the model needs.
        most: How many chips at most; of more rasters so many are read, evenly spread.
        options: How rasters are read.

    Returns:
        (1, bands, H, W) chips with at least some valid pixels, padded for the network.

    Raises:
        RasterError: There are no rasters, or nothing in them is valid.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    rasters = [raster for path in paths for raster in _rasters_at(path)]
    if not rasters:
        raise RasterError(
            f"no rasters to calibrate with in {', '.join(map(str, paths)) or 'nothing'}; expected "
            f"files or folders with {' '.join(RASTER_SUFFIXES)}"
        )
    return chips_of_rasters([(raster, options) for raster in rasters], card, most=most)


def chips_of_rasters(
    rasters: Sequence[tuple[str | Path, ReadOptions]], card: ModelCard, *, most: int
) -> list[NDArray[Any]]:
    """Read chips of rasters that are not all read alike; else as `read_calibration_chips`.

    Raises:
        RasterError: Nothing in the rasters is valid.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    each = max(most // len(rasters), 1)
    taken = [rasters[number] for number in evenly_spread(len(rasters), most).tolist()]
    chips = [
        chip
        for path, options in taken
        for chip in _chips_of(path, card, replace(options, pixel_coordinates=True), most=each)
    ]
    if not chips:
        raise RasterError(f"{len(rasters)} rasters to calibrate with have no valid pixels")
    return chips


def _rasters_at(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in RASTER_SUFFIXES)


def _chips_of(
    path: str | Path, card: ModelCard, options: ReadOptions, *, most: int
) -> Iterator[NDArray[Any]]:
    with session(), open_raster(path, pixel_coordinates=True) as raster:
        source = open_chip_source(raster, card, options)
        plan = WindowPlan(source.grid.width, source.grid.height, card.chip_px, card.overlap_px)
        for number in evenly_spread(len(plan), most).tolist():
            chip = source.read(plan.window(number))
            if chip.valid.any():
                yield pad_chips(chip.pixels[None], card)
