"""What the .prj of a Shapefile can say of a CRS: less than all other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyproj

from geo_retina.errors import GeoreferenceError, OutputError
from geo_retina.space.grid import WGS84, reproject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geo_retina.detection.placement import Placement

MOST_OFF_PX = 0.1
"""How far from its place the .prj may let a box appear, in pixels of the raster."""

_REMEDY = "write .gpkg, .fgb or .parquet, or state another CRS with --crs"


def refuse_what_prj_lacks(name: str, placement: Placement) -> None:
    """Raise where a Shapefile's .prj would tell another place than the coordinates mean, or none.

    Its dialect has no word for the datum shift that a CRS brings along (`TOWGS84`), nor for some
    projections. GDAL then leaves out the one, writes no .prj at all, or one of a projection that is
    nearly the same.

    Args:
        name: The file, for messages.
        placement: Where its coordinates lie.

    Raises:
        OutputError: It would.
    """
    crs = placement.crs
    if crs is None:
        return
    grid = placement.grid
    middle = placement.centres(np.array([[grid.width, grid.height] * 2]) / 2)
    try:
        said = pyproj.CRS.from_wkt(crs.to_wkt("WKT1_ESRI"))
        off_m = _metres_apart(middle, crs, said)
    except (pyproj.exceptions.CRSError, GeoreferenceError) as error:
        raise OutputError(
            f"{name} cannot say where it lies: a .prj has no words for the CRS {crs.name}; "
            f"{_REMEDY}"
        ) from error
    gsd_m = grid.known_gsd_m()
    if off_m is not None and gsd_m is not None and off_m > MOST_OFF_PX * min(gsd_m):
        what = "datum shift" if crs.is_bound else "projection"
        raise OutputError(
            f"{name} would lie {off_m:.3g} m off its place: a .prj cannot hold the {what} of the "
            f"CRS {crs.name}; {_REMEDY}"
        )


def _metres_apart(point: NDArray[np.float64], crs: pyproj.CRS, said: pyproj.CRS) -> float | None:
    """How far apart two CRSs place a (1, 2) point; None where `crs` gives it no place on the Earth.

    Of a datum without a shift of its own both mean the same: only the projections are compared,
    because PROJ may choose among several shifts, and not the same ones.

    Raises:
        GeoreferenceError: `said` gives it none.
    """
    targets = [WGS84 if crs.is_bound else one.geodetic_crs or WGS84 for one in (crs, said)]
    try:
        (true,) = reproject(point, source=crs, target=targets[0])
    except GeoreferenceError:
        return None
    (told,) = reproject(point, source=said, target=targets[1])
    scale = [one.axis_info[0].unit_conversion_factor * 180 / np.pi for one in targets]
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(*true * scale[0], *told * scale[1])
    return float(metres)
