"""What labelled rasters are like: whether they are of one kind, and show anything at all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_high

import numpy as np
from numpy.typing import NDArray

from geo_retina.imagery.raster import Raster
from geo_retina.labels.pictures import window_around
from geo_retina.space import boxes as box_arrays
from geo_retina.space.spread import evenly_spread
from geo_retina.wording import counted, listed

_SAME_GSD = 1.05
_PLACES = 16
_LEAST_PX, _MOST_PX, _AROUND_PX = 32, 512, 16
_ALPHA = "alpha"


@dataclass(frozen=True, slots=True)
class RasterKind:
    """What the rasters of one source have in common."""

    bands: int
    dtypes: str
    """Data types of the bands, each once."""
    gsd_m: float | None
    """Metres per pixel; None without a CRS that is tied to the Earth."""

    @classmethod
    def of(cls, raster: Raster) -> "RasterKind":
        """The kind of an opened raster."""
        gsd = raster.grid.known_gsd_m()
        dtypes = ", ".join(sorted(set(raster.dtypes)))
        return cls(raster.band_count, dtypes, None if gsd is None else float(np.mean(gsd)))


def unlike_rasters(kinds: Mapping[str, RasterKind]) -> tuple[str, ...]:
    """Say which rasters have other bands or another data type than most, a line each way."""
    bands = {raster: counted(kind.bands, "band") for raster, kind in kinds.items()}
    dtypes = {raster: kind.dtypes for raster, kind in kinds.items()}
    return tuple(filter(None, (_unlike(bands), _unlike(dtypes))))


def unlike_gsd(kinds: Mapping[str, RasterKind]) -> str:
    """Say which rasters differ in GSD by over 5 % from the median; empty where none does."""
    known = {raster: kind.gsd_m for raster, kind in kinds.items() if kind.gsd_m is not None}
    if not known:
        return ""
    middle = median_high(known.values())
    return _unlike(
        {
            raster: f"{middle if max(gsd / middle, middle / gsd) <= _SAME_GSD else gsd:.3g} m/px"
            for raster, gsd in known.items()
        }
    )


def _unlike(values: Mapping[str, str]) -> str:
    """Such as `3 bands on 97 rasters, 4 bands on a.tif, b.tif`; empty where all are alike."""
    if len(set(values.values())) <= 1:
        return ""
    (usual, number), *others = Counter(values.values()).most_common()
    named = [
        f"{value} on {listed(Path(raster).name for raster, own in values.items() if own == value)}"
        for value, _ in others
    ]
    return "; ".join([f"{usual} on {counted(number, 'raster')}", *named])


def blank_note(raster: Raster, boxes: NDArray[np.float64]) -> str:
    """Say that there is nothing to see under the labels of a raster; empty where there is.

    Args:
        raster: Opened.
        boxes: (N, 4) of its labels, pixel edges; those of up to sixteen are looked at.

    Raises:
        RasterReadError: Pixels cannot be read.
    """
    bands = [band for band, colour in enumerate(raster.colours, start=1) if colour != _ALPHA]
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    any_valid = False
    for box in boxes[evenly_spread(len(boxes), _PLACES)]:
        side = float(np.abs(box[2:] - box[:2]).max()) + _AROUND_PX
        x, y = box_arrays.centres(box[None])[0].tolist()
        size = int(np.clip(side, _LEAST_PX, _MOST_PX))
        window = window_around(x, y, size_px=size, raster=raster)
        pixels = raster.read(window, bands=bands)
        for band, values in zip(bands, pixels, strict=True):
            shown = values[raster.read_mask(window, band=band) & np.isfinite(values)]
            if shown.size and shown.min() < shown.max():
                return ""
            any_valid |= bool(shown.size)
    if not len(boxes):
        return ""
    return (
        "the pixels under its labels are all alike"
        if any_valid
        else "no valid pixel under its labels"
    )
