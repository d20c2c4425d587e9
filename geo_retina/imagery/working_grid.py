"""The grid a model works on: a raster's ground at the model's GSD, if its GSD can be used."""

import logging
import math

from geo_retina.card import ModelCard
from geo_retina.errors import GeoreferenceError, GsdError
from geo_retina.imagery.raster import Raster
from geo_retina.space.grid import Grid
from geo_retina.space.windows import Window

GSD_TOLERANCE = 0.05
"""Share by which a raster's GSD may differ from the model's before it is resampled, and from the
coarsest one allowed before it is refused: objects vary far more, and a projection's own scale error
is well inside."""

LARGEST_SHRINK = 256
"""Most raster pixels along one working pixel; more means that the CRS or its unit is wrong."""

_log = logging.getLogger(__name__)


def raster_gsd(
    raster: Raster, card: ModelCard, *, gsd_m: float | None, pixel_coordinates: bool
) -> tuple[float, float]:
    """GSD along x and y: measured, else stated, else (only without georeference) the model's.

    Args:
        raster: The raster.
        card: The model.
        gsd_m: GSD of a raster that does not tell its own.
        pixel_coordinates: Allow a raster without georeference.

    Raises:
        GeoreferenceError: There is no georeference, which was not allowed, or a local CRS and no
            `gsd_m`, or the raster lies outside the area of its CRS.
        GsdError: `gsd_m` is not positive, or the raster tells its own GSD.
    """
    crs = raster.grid.crs
    if gsd_m is not None and not (math.isfinite(gsd_m) and gsd_m > 0):
        raise GsdError(f"--gsd needs a positive number of metres per pixel, got {gsd_m}")
    if crs is None:
        if not pixel_coordinates:
            raise GeoreferenceError(
                f"{raster.georeference_gap}; without one, --pixel-coordinates gives detections in "
                "pixels"
            )
        return (gsd_m or card.gsd_m,) * 2
    if crs.is_engineering:
        if gsd_m is None:
            raise GeoreferenceError(
                f"{raster.path} has a local CRS ({crs.name}), which is not tied to the Earth; "
                "state its metres per pixel with --gsd"
            )
        return (gsd_m, gsd_m)
    if gsd_m is not None:
        found = max(raster.grid.gsd_m())
        raise GsdError(
            f"--gsd {gsd_m:g} is for rasters that do not tell their own GSD; {raster.path} has "
            f"{found:.3g} m per pixel: leave --gsd out, or mend the file's georeference"
        )
    return raster.grid.gsd_m()


def check_gsd(raster: Raster, card: ModelCard, gsd: tuple[float, float], *, any_gsd: bool) -> None:
    """Refuse rasters that are too coarse for the model; warn of a GSD that varies.

    Args:
        raster: The raster.
        card: The model.
        gsd: The raster's GSD along x and y.
        any_gsd: Warn of too coarse a raster instead of refusing it.

    Raises:
        GsdError: The raster is too coarse, or so fine or so coarse that its CRS must be wrong.
    """
    coarsest, finest = max(gsd), min(gsd)
    if finest * LARGEST_SHRINK < card.gsd_m:
        raise GsdError(
            f"{raster.path} has {finest:.3g} m per pixel, the model {card.name} works at "
            f"{card.gsd_m:g} m, over {LARGEST_SHRINK} times coarser; check the raster's CRS, "
            "its unit and its transform with `gdalinfo`"
        )
    if coarsest > card.gsd_m * LARGEST_SHRINK:
        raise GsdError(
            f"{raster.path} has {coarsest:.3g} m per pixel, over {LARGEST_SHRINK} times as much as "
            f"the {card.gsd_m:g} m of the model {card.name}: no object of it can be seen; use a "
            "sharper raster, or check this one's CRS, its unit and its transform with `gdalinfo`"
        )
    if coarsest > card.coarsest_gsd_m * (1 + GSD_TOLERANCE):
        text = (
            f"{raster.path} has {coarsest:.3g} m per pixel, the model {card.name} works at "
            f"{card.gsd_m:g} m and takes up to {card.coarsest_gsd_m:g} m"
        )
        if not any_gsd:
            raise GsdError(f"{text}; use a sharper raster, or pass --any-gsd to try nevertheless")
        _log.warning("%s; objects may be missed", text)
    if raster.has_georeference and (varied := _gsd_spread(raster.grid, gsd)) > 1 + GSD_TOLERANCE:
        _log.warning(
            "the GSD of %s varies by a factor of %.2f from its centre to its corners; warp it to a "
            "projected CRS, such as its UTM zone, to have it even",
            raster.path,
            varied,
        )


def _gsd_spread(grid: Grid, centre: tuple[float, float]) -> float:
    """Largest ratio between the GSD at the centre and at a corner; 1 where none can be told."""
    spread = 1.0
    for col in (0, grid.width - 1):
        for row in (0, grid.height - 1):
            try:
                corner = grid.crop(Window(col, row, 1, 1)).gsd_m()
            except GeoreferenceError:  # a corner beyond the CRS's area, such as past a pole
                continue
            for here, middle in zip(corner, centre, strict=True):
                spread = max(spread, here / middle, middle / here)
    return spread


def working_grid(grid: Grid, gsd: tuple[float, float], *, model_gsd_m: float) -> Grid:
    """The same ground at the model's GSD, to the nearest whole pixel; `grid` itself if it fits."""
    ratios = [own / model_gsd_m for own in gsd]
    if all(abs(ratio - 1) <= GSD_TOLERANCE for ratio in ratios):
        return grid
    width = max(1, round(grid.width * ratios[0]))
    height = max(1, round(grid.height * ratios[1]))
    return grid.resample(width=width, height=height)
