"""Which CRS would put label coordinates onto a raster: help in the text of an error."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_crs_info
from pyproj.enums import PJType

from geo_retina.space.grid import WGS84, Grid

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


def fitting_crs(points: NDArray[np.float64], grid: Grid) -> Fit | None:
    """Say in which reading of the coordinates they fall into the raster, if there is any.

    Tried are: the raster's CRS, longitude and latitude in either order, pixels (only now, for
    degrees fit them too), Web Mercator, the UTM zones around, and every projected CRS that PROJ
    lists for the raster's place.

    Args:
        points: (N, 2) x, y as they stand in the label file.
        grid: The raster's grid, with a CRS.

    Returns:
        The first that most points fit, or None.
    """
    sample = points[:: max(len(points) // _SAMPLE, 1)]
    try:
        if grid.crs is not None:
            return _best_candidate(sample, grid)
    except pyproj.exceptions.ProjError:  # a local CRS, from which nothing leads to the Earth
        pass
    return _PIXELS if _share_inside(sample, grid) > _GOOD_SHARE else None


def _best_candidate(sample: NDArray[np.float64], grid: Grid) -> Fit | None:
    best, best_share = None, 0.0
    for fit, crs, swapped in _candidates(grid):
        points = sample[:, ::-1] if swapped else sample
        share = _share_inside(points if crs is None else _pixels(points, crs, grid), grid)
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
    lon, lat = _centre(grid)
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
    return Fit(_name(crs), f"pass it (--labels-crs {text}, crs in a recipe), or correct the file")


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


def _centre(grid: Grid) -> tuple[float, float]:
    """Longitude and latitude of the raster's centre."""
    x, y = grid.pixel_to_world(np.array([grid.width / 2, grid.height / 2]))
    lon, lat = pyproj.Transformer.from_crs(grid.crs, WGS84, always_xy=True).transform(x, y)
    return float(lon), float(lat)


def _pixels(points: NDArray[np.float64], crs: pyproj.CRS, grid: Grid) -> NDArray[np.float64]:
    transformer = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)
    x, y = transformer.transform(points[:, 0], points[:, 1])
    world = np.stack([x, y], axis=-1)
    return grid.world_to_pixel(np.where(np.isfinite(world), world, np.nan))


def _share_inside(points: NDArray[np.float64], grid: Grid) -> float:
    inside = (points >= 0).all(axis=1) & (points <= [grid.width, grid.height]).all(axis=1)
    return float(inside.mean()) if len(points) else 0.0
