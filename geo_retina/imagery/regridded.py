"""A raster at another GSD, still with all its bands and its data type."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import GeoreferenceError, GsdError
from geo_retina.imagery.raster import Raster
from geo_retina.imagery.resampling import Taps, find_taps, resample, window_of
from geo_retina.imagery.working_grid import working_grid
from geo_retina.space.windows import Window


class RegriddedRaster:
    """Reads windows of a raster as if its pixels had another size.

    Where pixels grow, each is the average over its area; where they shrink, it is interpolated: as
    detection resamples (`imagery.resampling`), so that overlapping windows hold equal values.

    Attributes:
        path: Of the raster.
        grid: The same ground in the other pixels.
        band_count: Bands.
        dtypes: Data type of each band.
        colours: Colour interpretation of each band.
        descriptions: Name of each band; empty where it has none.
        nodata: Nodata value of each band, None where there is none.
    """

    def __init__(self, raster: Raster, gsd_m: float) -> None:
        """Plan the grid; nothing is read.

        Args:
            raster: Open as long as this is read from.
            gsd_m: Metres per pixel, along both axes.

        Raises:
            GsdError: `gsd_m` is not positive.
            GeoreferenceError: The raster has no georeference: its own GSD is unknown.
        """
        if not gsd_m > 0:
            raise GsdError(f"a GSD must be over 0 metres per pixel, got {gsd_m}")
        if raster.grid.crs is None:
            raise GeoreferenceError(
                f"{raster.path} has no georeference, so it cannot be brought to {gsd_m:g} m: leave "
                "the GSD out, or georeference it"
            )
        self._raster = raster
        self.path = raster.path
        self.grid = working_grid(raster.grid, raster.grid.gsd_m(), model_gsd_m=gsd_m)
        self.band_count = raster.band_count
        self.dtypes = raster.dtypes
        self.colours = raster.colours
        self.descriptions = raster.descriptions
        self.nodata = raster.nodata

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of this grid per pixel of the raster, along x and y."""
        own = self._raster.grid
        return self.grid.width / own.width, self.grid.height / own.height

    def read(self, window: Window, *, bands: Sequence[int]) -> NDArray[Any]:
        """Samples (bands, height, width) of the bands' data type; nodata, or 0, where invalid.

        Each band is resampled by its own mask: where one ends before the others, its nodata value
        is mixed into nothing. Only of unsigned values, where nodata may be the black of a shadow in
        one band, all bands of a pixel must be invalid.

        Args:
            window: Pixels of `grid`.
            bands: Band numbers, from 1.

        Raises:
            RasterReadError: The file cannot be read.
        """
        source, rows, cols = self._footprint(window)
        samples = self._raster.read(source, bands=bands)
        masks = np.stack([self._raster.read_mask(source, band=band) for band in bands])
        if samples.dtype.kind == "u":
            masks[:] = masks.any(axis=0)
        masks &= np.isfinite(samples)
        resampled = np.empty((len(bands), window.height, window.width), samples.dtype)
        for band, target, values, valid in zip(bands, resampled, samples, masks, strict=True):
            sums, kept = resample(values[None], valid, rows=rows, cols=cols)
            if target.dtype.kind in "iu":
                limits = np.iinfo(target.dtype)
                sums = np.clip(np.rint(sums), limits.min, limits.max)
            target[:] = np.where(kept, sums[0], self.nodata[band - 1] or 0)
        return resampled

    def read_mask(self, window: Window, *, band: int) -> NDArray[np.bool_]:
        """Mask of one band: (height, width), True = valid, and finite.

        Raises:
            RasterReadError: The file cannot be read.
        """
        source, rows, cols = self._footprint(window)
        valid = self._raster.read_mask(source, band=band)
        if np.dtype(self.dtypes[band - 1]).kind == "f":
            valid &= np.isfinite(self._raster.read(source, bands=[band])[0])
        nothing = np.zeros((1, *valid.shape), np.float32)
        return resample(nothing, valid, rows=rows, cols=cols)[1]

    def _footprint(self, window: Window) -> tuple[Window, Taps, Taps]:
        """Window of the raster that feeds a window of `grid`, and how its pixels are weighed."""
        own = self._raster.grid
        scale_x, scale_y = self.scale
        rows = find_taps(
            window.row_off, window.row_end, step=1 / scale_y, origin=0, length=own.height
        )
        cols = find_taps(
            window.col_off, window.col_end, step=1 / scale_x, origin=0, length=own.width
        )
        return window_of(rows, cols), rows, cols
