"""What can be said of a raster that its file leaves open."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a raster is made what a model needs; None stands for what its file says."""

    bands: tuple[int, ...] | None = None
    """Band numbers, from 1, in the order that the model needs."""
    scale: tuple[float, float] | None = None
    """Raster values that become the ends of the model's value range."""
    stretch: tuple[float, float] | None = None
    """Percentiles of each band that become these ends."""
    gsd_m: float | None = None
    """Metres per pixel of a raster that does not tell (no CRS, or a local one)."""
    any_gsd: bool = False
    """Allow rasters coarser than the model was made for."""
    pixel_coordinates: bool = False
    """Allow rasters without georeference; coordinates are then pixels, and the model's own GSD is
    assumed unless `gsd_m` is given."""


READ_AS_STATED = ReadOptions()
"""Everything as the raster's file and the model's card say."""
