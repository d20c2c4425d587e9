"""What a raster's header says, as plain data for people and programs: no model, no pixels."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import pyproj

from geo_retina.imagery.raster import Raster
from geo_retina.space.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterFacts:
    """What a raster is."""

    path: str
    driver: str
    width: int
    height: int
    megapixels: float
    bands: tuple[str, ...]
    """Description or else colour interpretation of each band."""
    colours: tuple[str, ...]
    """Colour interpretation of each band."""
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    block_shape: tuple[int, int]
    """Rows and columns that are stored together."""
    overview_factors: tuple[int, ...]
    crs: str | None
    """Name of the CRS."""
    crs_code: str | None
    """Authority and code, such as `EPSG:32633`; None where the CRS has none."""
    georeference_gap: str | None
    """Why the raster has no place on the ground; None where it has one."""
    transform: tuple[float, ...] | None
    """Pixel edges to world, a to f: x = a col + b row + c, y = d col + e row + f."""
    bounds: tuple[float, float, float, float] | None
    """left, bottom, right, top in CRS units, of all four corners."""
    gsd_m: tuple[float, float] | None
    """Metres on the ground per pixel along x and y; None without a CRS that tells."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; nodata values that are no numbers there as text: nan, inf, -inf."""
        nodata = [one if one is None or math.isfinite(one) else str(one) for one in self.nodata]
        return {**asdict(self), "nodata": nodata}


def facts_of(raster: Raster) -> RasterFacts:
    """Say what an open raster is."""
    grid = raster.grid
    names = zip(raster.descriptions, raster.colours, strict=True)
    authority = None if grid.crs is None else grid.crs.to_authority()
    return RasterFacts(
        path=raster.path,
        driver=raster.driver,
        width=grid.width,
        height=grid.height,
        megapixels=grid.megapixels,
        bands=tuple(description or colour for description, colour in names),
        colours=raster.colours,
        dtypes=raster.dtypes,
        nodata=raster.nodata,
        block_shape=raster.block_shape,
        overview_factors=raster.overview_factors,
        crs=None if grid.crs is None else _crs_name(grid.crs),
        crs_code=None if authority is None else ":".join(authority),
        georeference_gap=raster.georeference_gap,
        transform=None if grid.crs is None else tuple(map(float, grid.transform[:6])),
        bounds=None if grid.crs is None else _bounds(grid),
        gsd_m=grid.known_gsd_m(),
    )


def _crs_name(crs: pyproj.CRS) -> str:
    """Name of a CRS; what kind it is where it has none, which PROJ calls `unknown`."""
    if crs.name not in ("unknown", "unnamed"):
        return crs.name
    base = crs.source_crs if crs.is_bound and crs.source_crs else crs  # without its datum's shift
    operation, unit = base.coordinate_operation, base.axis_info[0].unit_name
    kind = base.type_name if operation is None else operation.method_name
    return f"without a name: {kind}, {unit}"


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    corners = grid.corners
    (left, bottom), (right, top) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return left, bottom, right, top
