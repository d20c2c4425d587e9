"""Which CRS would put label coordinates onto a raster: help in the text of an error."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_crs_info
from pyproj.enums import PJType

from geo_retina.errors import GeoreferenceError
from geo_retina.labels.ground import to_lon_lat
from geo_retina.space.grid import WGS84, Grid, reproject

_SAMPLE = 200
_GOOD_SHARE = 0.5
_POLAR_LATITUDE = 84.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How coordinates would have to be read to fall into a raster."""

    name: str
    """Such as `EPSG:32613 (WGS 84 / UTM zone 13N)`, or `pixels of the raster`."""
    remedy: str
    """What to do, in the imperative."""
    is_crs: bool = True
    """Whether stating a CRS is enough."""


def fitting_crs(points: NDArray[np.float64], grids: Sequence[Grid]) -> Fit | None:
    """Say in which reading of the coordinates they fall into rasters, if there is any.

    Tried are: the first raster's CRS, longitude and latitude in either order, pixels (only now, for
    degrees fit them too), Web Mercator, the UTM zones around, and every projected CRS that PROJ
    lists for that raster's place.

    Args:
        points: (N, 2) x, y as they stand in the label file.
        grids: The rasters' grids, each with a CRS; at least one.

    Returns:
        The first that over half of the points fit, or else the best; None where no point fits any.
    """
    sample = points[:: max(len(points) // _SAMPLE, 1)]
    best, best_share = None, 0.0
    for fit, crs, swapped in _candidates(grids[0]):
        if crs is None and best is not None:  # any number may be a pixel, few lie on the ground
            return best
        share = _share_on(sample[:, ::-1] if swapped else sample, crs, grids)
        if share > _GOOD_SHARE:
            return fit
        if share > best_share:
            best, best_share = fit, share
    return best


_PIXELS = Fit(
    "pixels of the raster",
    "no CRS can help. Write them as COCO, or as a CSV with the columns image_path, xmin, ymin, "
    "xmax, ymax, label; or read the file with a copy of the raster that has no georeference "
    "(`gdal_edit.py -a_srs '' -unsetgt COPY.tif`), on which coordinates are pixels, y down",
    is_crs=False,
)


def _candidates(grid: Grid) -> Iterator[tuple[Fit, pyproj.CRS | None, bool]]:
    """Reading, CRS (None: pixels) and whether x and y are swapped, likely ones first."""
    own = pyproj.CRS.from_user_input(grid.crs)
    yield _stated(own), own, False
    yield _stated(WGS84), WGS84, False
    yield _swapped(WGS84), WGS84, True
    yield _swapped(own), own, True
    yield _PIXELS, None, False
    try:
        lon, lat = to_lon_lat(grid, np.array([grid.width / 2, grid.height / 2])).tolist()
    except GeoreferenceError:  # a local CRS, from which nothing leads to the Earth
        return
    if abs(lat) < _POLAR_LATITUDE:
        zone = int((lon + 180) // 6) % 60
        base = 32601 if lat >= 0 else 32701
        codes = [3857, *(base + (zone + step) % 60 for step in (0, -1, 1))]
    else:
        codes = [3857]
    area = AreaOfInterest(lon, lat, lon, lat)
    local = query_crs_info(auth_name="EPSG", pj_types=PJType.PROJECTED_CRS, area_of_interest=area)
    for code in dict.fromkeys(chain(codes, (int(info.code) for info in local))):
        crs = pyproj.CRS.from_epsg(code)
        yield _stated(crs), crs, False


def _stated(crs: pyproj.CRS) -> Fit:
    code = crs.to_authority()
    text = "CODE" if code is None else ":".join(code)
    return Fit(
        _name(crs),
        f"pass it (--labels-crs {text}, of detections --detections-crs, crs in a recipe), or "
        "correct the file",
    )


def _swapped(crs: pyproj.CRS) -> Fit:
    return Fit(
        f"{_name(crs)} with x and y swapped",
        "x and y look swapped: exchange them in the file (QGIS: Swap X and Y coordinates) and "
        f"state {_name(crs)} there; no CRS exchanges them",
        is_crs=False,
    )


def _name(crs: pyproj.CRS) -> str:
    authority = crs.to_authority()
    return crs.name if authority is None else f"{':'.join(authority)} ({crs.name})"


def _share_on(points: NDArray[np.float64], crs: pyproj.CRS | None, grids: Sequence[Grid]) -> float:
    """Share of the points in `crs` (None: in pixels) that lie on at least one raster."""
    inside = np.zeros(len(points), dtype=bool)
    for grid in grids:
        with contextlib.suppress(GeoreferenceError):  # nothing leads from the one to the other
            pixels = points if crs is None else _pixels(points, crs, grid)
            inside |= (pixels >= 0).all(axis=1) & (pixels <= [grid.width, grid.height]).all(axis=1)
    return float(inside.mean()) if len(points) else 0.0


def _pixels(points: NDArray[np.float64], crs: pyproj.CRS, grid: Grid) -> NDArray[np.float64]:
    assert grid.crs is not None  # noqa: S101  # checked by the caller
    world = reproject(points, source=crs, target=grid.crs)
    return grid.world_to_pixel(np.where(np.isfinite(world), world, np.nan))
