"""What the .prj of a Shapefile can say of a CRS: less than all other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyproj

from geo_retina.errors import GeoreferenceError, OutputError
from geo_retina.space.grid import WGS84, reproject

if TYPE_CHECKING:
    from geo_retina.detection.placement import Placement

MOST_OFF_PX = 0.1
"""How far from its place the .prj may let a box appear, in pixels of the raster."""

_REMEDY = "write .gpkg, .fgb or .parquet, or state another CRS with --crs"


def refuse_what_prj_lacks(name: str, placement: Placement) -> None:
    """Raise where a Shapefile's .prj would tell another place than the coordinates mean, or none.

    Its dialect has no word for the datum shift that a CRS brings along (`TOWGS84`), nor for some
    projections. GDAL then leaves out the one, or writes no .prj at all.

    Args:
        name: The file, for messages.
        placement: Where its coordinates lie.

    Raises:
        OutputError: It would.
    """
    crs = placement.crs
    if crs is None:
        return
    try:
        said = pyproj.CRS.from_wkt(crs.to_wkt("WKT1_ESRI"))
    except pyproj.exceptions.CRSError as error:
        raise OutputError(
            f"{name} cannot say where it lies: a .prj has no words for the CRS {crs.name}; "
            f"{_REMEDY}"
        ) from error
    if crs.is_bound and (off_m := _metres_apart(placement, crs, said)) is not None:
        raise OutputError(
            f"{name} would lie {off_m:.3g} m off its place: a .prj cannot hold the datum shift of "
            f"the CRS {crs.name}; {_REMEDY}"
        )


def _metres_apart(placement: Placement, crs: pyproj.CRS, said: pyproj.CRS) -> float | None:
    """How far apart two CRSs place the raster's centre; None where that is next to nothing."""
    grid = placement.grid
    middle = np.array([[grid.width, grid.height] * 2]) / 2
    point = placement.centres(middle)
    try:
        (true,), (told,) = (reproject(point, source=one, target=WGS84) for one in (crs, said))
        gsd_m = min(grid.gsd_m())
    except GeoreferenceError:
        return None
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(*true, *told)
    return None if metres <= MOST_OFF_PX * gsd_m else float(metres)
