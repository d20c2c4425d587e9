"""How the overviews of a raster were made, told by their pixels: files do not say it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import RasterReadError
from geo_retina.imagery.raster import Level, Raster
from geo_retina.imagery.resampling import find_taps, resample, window_of
from geo_retina.space.windows import Window

_PROBE_PX = 64
_WHOLE = 0.999  # shares are sums of float32
_NOISE = 1e-4  # and so are means, which flat ground meets only nearly
_PROBES = (0.5, 0.25, 0.75)  # places, as shares of both the width and the height


def placed(level: Level, raster: Raster, *, band: int) -> Level:
    """A level whose `centred` holds for the way in which its pixels were made.

    `gdaladdo` keeps the first raster pixel of each block unless it is told to average. Taken for
    averages, such pixels would move all objects by up to half a pixel of the level.

    Args:
        level: One of `raster.levels`.
        raster: An open raster.
        band: Number of the band to look at, from 1.
    """
    native, *overviews = raster.levels
    if level is native or level.centred:
        return level
    try:
        off = sum(_off(raster, overviews[0], share, band) for share in _PROBES)
    except RasterReadError:  # where it matters, it is read and told again
        return level
    from_first, from_mean = np.asarray(off).tolist()
    return replace(level, centred=from_first + _NOISE < from_mean)


def _off(raster: Raster, level: Level, share: float, band: int) -> NDArray[np.float64]:
    """How far some pixels are from the first and from the mean of what they stand for.

    Args:
        raster: An open raster.
        level: Its finest overview: the others are made in the same way.
        share: Where to look.
        band: Band number.

    Returns:
        (2,) sums of differences, as shares of the sum of the pixels.
    """
    width, height = min(_PROBE_PX, level.width), min(_PROBE_PX, level.height)
    col, row = int(share * (level.width - width)), int(share * (level.height - height))
    x, y = np.arange(col, col + width), np.arange(row, row + height)
    cols, rows = (
        find_taps(int(run[0]), int(run[-1]) + 1, step=factor, origin=0, length=length)
        for run, factor, length in (
            (x, level.factor_x, raster.grid.width),
            (y, level.factor_y, raster.grid.height),
        )
    )
    source = window_of(rows, cols)
    samples = raster.read(source, bands=[band])[0]
    valid = raster.read_mask(source, band=band) & np.isfinite(samples)
    (mean, known), _ = resample(
        np.stack([np.where(valid, samples, 0), valid]), np.ones_like(valid), rows=rows, cols=cols
    )
    kept_rows = np.floor(y * level.factor_y + 0.5).astype(np.intp) - rows.start
    kept_cols = np.floor(x * level.factor_x + 0.5).astype(np.intp) - cols.start
    first = samples[np.ix_(kept_rows, kept_cols)]
    found = raster.read(Window(col, row, width, height), bands=[band], level=level)[0]
    whole = (known > _WHOLE) & np.isfinite(found)
    off = [np.abs(found - one.astype(np.float64))[whole].sum() for one in (first, mean)]
    return np.array(off) / max(float(np.abs(found[whole].astype(np.float64)).sum()), 1.0)
