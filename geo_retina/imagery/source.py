"""A raster as a model sees it: its bands, its values, its pixel size, chip by chip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.imagery.bands import BandChoice, choose_bands
from geo_retina.imagery.masks import MaskPlan, plan_masks
from geo_retina.imagery.overviews import placed
from geo_retina.imagery.radiometry import Radiometry, choose_radiometry
from geo_retina.imagery.raster import Level, Raster
from geo_retina.imagery.read_options import READ_AS_STATED, ReadOptions
from geo_retina.imagery.resampling import Taps, find_taps, resample, window_of
from geo_retina.imagery.working_grid import check_gsd, raster_gsd, working_grid
from geo_retina.space.grid import Grid
from geo_retina.space.windows import Window

LARGEST_READ_SAMPLES = 2**25
"""Most raster samples read at once; a window that needs more is read in parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """The pixels of a window, ready for the model."""

    pixels: NDArray[Any]
    """(bands, height, width) of the card's data type; a neutral value where not `valid`."""
    valid: NDArray[np.bool_]
    """(height, width), True = valid."""
    window: Window
    """Where it lies on the source's grid."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """All that is decided before the first pixel is read; shared by clones."""

    grid: Grid
    choice: BandChoice
    masks: MaskPlan
    radiometry: Radiometry
    level: Level | None
    """Where pixels are read; None = from the raster itself, without resampling."""
    step_x: float
    """Pixels of `level` per working pixel along x."""
    step_y: float
    """Pixels of `level` per working pixel along y."""


class ChipSource:
    """Chips of one raster, read through windows of its working grid.

    A pixel's value depends on where it lies, never on the window it was read through. `read` may be
    called from several threads, which then wait for each other; give each thread its own `clone`
    to read at the same time.

    Attributes:
        raster: The raster read.
        grid: Working grid: the raster's own, or the same ground at the model's GSD.
        scale_x: Raster pixels per working pixel along x.
        scale_y: Raster pixels per working pixel along y.
    """

    def __init__(self, raster: Raster, recipe: _Recipe) -> None:
        self._recipe = recipe
        self.raster = raster
        self.grid = recipe.grid
        self.scale_x = raster.grid.width / recipe.grid.width
        self.scale_y = raster.grid.height / recipe.grid.height

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands read, from 1, in the model's order."""
        return self._recipe.choice.numbers

    @property
    def radiometry(self) -> Radiometry:
        """How raster values become chip values."""
        return self._recipe.radiometry

    @property
    def is_resampled(self) -> bool:
        """True where the working grid is not the raster's own."""
        return self._recipe.level is not None

    @property
    def all_valid(self) -> bool:
        """True where no mask, alpha band or nodata value can make a pixel invalid."""
        return self._recipe.masks.is_trivial

    def read(self, window: Window) -> Chip:
        """Read the chip of a window of `grid`. Pixels are not read where the mask is empty.

        Raises:
            ValueError: The window is not inside the grid.
            RasterReadError: The file is damaged or truncated, or the connection was lost.
        """
        self._check_inside(window)
        halves = self._halves(window)
        if halves is None:
            return self._read_at_once(window)
        first, second = (self.read(half) for half in halves)
        axis = 1 if first.window.width == window.width else 2
        return Chip(
            np.concatenate([first.pixels, second.pixels], axis=axis),
            np.concatenate([first.valid, second.valid], axis=axis - 1),
            window,
        )

    def valid_share(self, window: Window) -> float:
        """Share of a window of `grid`, 0 to 1, that its masks call valid; reads no pixels.

        0 is certain. More is certain too, unless values turn out not to be finite.

        Raises:
            ValueError: The window is not inside the grid.
            RasterReadError: See `read`.
        """
        self._check_inside(window)
        if self.all_valid:
            return 1.0
        halves = self._halves(window)
        if halves is not None:
            areas = [half.width * half.height for half in halves]
            shares = [self.valid_share(half) for half in halves]
            return float(np.average(shares, weights=areas))
        footprint, _ = self._footprint(window)
        return float(self._recipe.masks.read(self.raster, footprint, self._recipe.level).mean())

    def block_cache_bytes(self, strip_px: int) -> int:
        """Memory that keeps every block decoded once while strips are read from top to bottom.

        All blocks that one row of windows touches, and a fifth to spare: an evicted block of a
        striped file would be decoded again for every window of the row. For `block_cache`.

        Args:
            strip_px: Height of a window, in working pixels.
        """
        rows, cols = self.raster.block_shape
        level = self._recipe.level
        width = self.raster.grid.width if level is None else level.width
        source_rows = strip_px if level is None else math.ceil(strip_px * self._recipe.step_y) + 2
        touched = (math.ceil(source_rows / rows) + 1) * math.ceil(width / cols)
        return touched * self.raster.block_bytes() * 6 // 5

    def clone(self) -> "ChipSource":
        """The same source through a file handle of its own, for another thread; close it.

        Raises:
            RasterError: The file is gone.
        """
        return ChipSource(self.raster.reopen(), self._recipe)

    def close(self) -> None:
        """Close the raster."""
        self.raster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_at_once(self, window: Window) -> Chip:
        recipe = self._recipe
        footprint, taps = self._footprint(window)
        valid = recipe.masks.read(self.raster, footprint, recipe.level)
        if not valid.any():
            return self._empty(window)
        samples = self.raster.read(footprint, bands=self.bands, level=recipe.level)
        if samples.dtype.kind == "f":
            finite = np.isfinite(samples)
            valid &= finite.all(axis=0)
            samples = np.where(finite, samples, 0)
        if taps is not None:
            samples, valid = resample(samples, valid, rows=taps[0], cols=taps[1])
        return Chip(recipe.radiometry.apply(samples, valid), valid, window)

    def _empty(self, window: Window) -> Chip:
        shape = window.height, window.width
        fill = np.array(self.radiometry.fill, self.radiometry.dtype)[:, None, None]
        pixels = np.broadcast_to(fill, (len(fill), *shape)).copy()
        return Chip(pixels, np.zeros(shape, np.bool_), window)

    def _footprint(self, window: Window) -> tuple[Window, tuple[Taps, Taps] | None]:
        """Window of the level that feeds a working window, kernel included, and the taps."""
        recipe = self._recipe
        level = recipe.level
        if level is None:
            return window, None
        rows = find_taps(
            window.row_off,
            window.row_end,
            step=recipe.step_y,
            origin=level.origin(level.factor_y),
            length=level.height,
        )
        cols = find_taps(
            window.col_off,
            window.col_end,
            step=recipe.step_x,
            origin=level.origin(level.factor_x),
            length=level.width,
        )
        return window_of(rows, cols), (rows, cols)

    def _halves(self, window: Window) -> tuple[Window, Window] | None:
        """The window in two parts; None where it is small enough to be read at once."""
        wide = window.width * self._recipe.step_x
        tall = window.height * self._recipe.step_y
        small = wide * tall * len(self.bands) <= LARGEST_READ_SAMPLES
        col, row, width, height = window.col_off, window.row_off, window.width, window.height
        if small or width == height == 1:
            return None
        if height == 1 or (wide > tall and width > 1):
            left = width // 2
            return Window(col, row, left, height), Window(col + left, row, width - left, height)
        top = height // 2
        return Window(col, row, width, top), Window(col, row + top, width, height - top)

    def _check_inside(self, window: Window) -> None:
        x_min, y_min, x_max, y_max = window.box
        if min(x_min, y_min) < 0 or x_max > self.grid.width or y_max > self.grid.height:
            raise ValueError(
                f"expected a window inside the grid of {self.grid.width} x {self.grid.height} "
                f"pixels, got {window}"
            )


def open_chip_source(
    raster: Raster, card: ModelCard, options: ReadOptions = READ_AS_STATED
) -> ChipSource:
    """Prepare a raster for a model; everything that can be wrong is found here.

    Args:
        raster: An open raster, which closing the source closes.
        card: What the model needs.
        options: How to read it; the default is as its file says.

    Raises:
        BandError: The model's bands cannot be told among the raster's.
        RadiometryError: The data types differ and no mapping is stated.
        GeoreferenceError: The raster has no usable georeference, which was not allowed.
        GsdError: The raster is too coarse, or contradicts `gsd_m`.
        RasterReadError: The raster cannot be read for its percentiles.
    """
    choice = choose_bands(raster, card.bands, numbers=options.bands)
    gsd = raster_gsd(raster, card, gsd_m=options.gsd_m, pixel_coordinates=options.pixel_coordinates)
    check_gsd(raster, card, gsd, any_gsd=options.any_gsd)
    radiometry = choose_radiometry(
        raster, card, choice, scale=options.scale, stretch=options.stretch
    )
    masks = plan_masks(raster, choice, shown=radiometry.shown)
    grid = working_grid(raster.grid, gsd, model_gsd_m=card.gsd_m)
    scale_x, scale_y = raster.grid.width / grid.width, raster.grid.height / grid.height
    if grid is raster.grid:
        recipe = _Recipe(grid, choice, masks, radiometry, None, 1.0, 1.0)
    else:
        level = _fitting_level(raster.levels, scale_x, scale_y)
        level = placed(level, raster, band=choice.numbers[0])
        step_x, step_y = scale_x / level.factor_x, scale_y / level.factor_y
        recipe = _Recipe(grid, choice, masks, radiometry, level, step_x, step_y)
    return ChipSource(raster, recipe)


def _fitting_level(levels: Sequence[Level], scale_x: float, scale_y: float) -> Level:
    """The coarsest level that is not coarser than the working grid."""
    slack = 1 + 1e-9
    fine = [
        level
        for level in levels
        if level.factor_x <= scale_x * slack and level.factor_y <= scale_y * slack
    ]
    return fine[-1] if fine else levels[0]
