"""A detection run before it starts: everything that can be wrong is found here.

Opening a job reads headers, masks at most, and the model's card; no weights are loaded.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import shapely
from shapely import MultiPolygon, Polygon
from shapely.affinity import scale

from geo_retina.card import ModelCard
from geo_retina.detection.aoi import Aoi, read_aoi
from geo_retina.detection.aoi_file import only_polygons
from geo_retina.detection.backends import Model
from geo_retina.detection.chip_size import fitting_chip_px
from geo_retina.detection.options import DetectOptions, expect_kind
from geo_retina.detection.reading import ReadingOrder
from geo_retina.errors import AoiError
from geo_retina.imagery.gdal import block_cache, session
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.model.checkpoint import read_info
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.windows import CUT_MARGIN_PX, WindowPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One raster, one model, and how the one is cut into chips for the other."""

    source: ChipSource
    card: ModelCard
    model_file: Path | None
    """The checkpoint; None where the detector is the caller's own."""
    options: DetectOptions
    plan: WindowPlan
    """Windows of the source's grid."""
    aoi: Aoi | None
    """In the frame of the source's grid."""

    @property
    def raster_path(self) -> str:
        """What is read."""
        return self.source.raster.path

    def within(self, area: Polygon | MultiPolygon) -> Self:
        """The same job, where only the objects of an area matter.

        What is within an overlap of it is searched too: that may suppress what lies inside.

        Args:
            area: In pixels of the raster.
        """
        source = self.source
        own = scale(area, 1 / source.scale_x, 1 / source.scale_y, origin=(0, 0))
        near = shapely.buffer(own, self.plan.overlap_px, join_style="mitre")
        frame = shapely.box(0, 0, self.plan.width, self.plan.height)
        asked = frame if self.aoi is None else self.aoi.geometry
        return replace(self, aoi=Aoi(only_polygons(shapely.intersection(near, asked))))

    @property
    def thresholds(self) -> Thresholds:
        """Scores and limits of one chip; limits grow with its area, beyond that of the model's."""
        area = (self.plan.chip_px / self.card.chip_px) ** 2
        return self.options.thresholds(self.card).with_limits_times(area)


@contextmanager
def open_job(
    raster: str | os.PathLike[str],
    model: str | Path | Model,
    options: DetectOptions,
    *,
    tell: bool = True,
) -> Iterator[Job]:
    """Open a raster for a model.

    Args:
        raster: File, URL or GDAL path.
        model: Name of a bundled model, path of a checkpoint, or what `load_model` gave.
        options: What is asked for.
        tell: Log what was read, and what is doubtful though not wrong.

    Raises:
        UsageError: One of its kinds, for whatever is wrong with the raster, the model, the AOI or
            an option.
    """
    expect_kind("options", options, DetectOptions)
    card, file, grows = _described(model)
    chip_px, overlap_px = options.windows(card)
    options.merging(card)  # an unknown method fails here
    with (
        session(),
        open_raster(
            raster, crs=options.raster_crs, pixel_coordinates=options.pixel_coordinates
        ) as opened,
    ):
        source = open_chip_source(opened, card, options)
        width, height = source.grid.width, source.grid.height
        if grows and options.chip_px is None:
            chip_px = fitting_chip_px(width, height, model_chip_px=chip_px, overlap_px=overlap_px)
        plan = WindowPlan(width, height, chip_px, overlap_px)
        aoi = None if options.aoi is None else _read_aoi(options.aoi, source, options.aoi_layer)
        if tell:
            _warn_of_empty_aoi(aoi, options, source)
            _warn_of_small_overlap(plan, card)
            _log_job(source, plan)
        order = ReadingOrder.of(source, plan)
        with block_cache(order.block_cache_bytes(source, plan)):
            yield Job(source, card, file, options, plan, aoi)


def _described(model: str | Path | Model) -> tuple[ModelCard, Path | None, bool]:
    """Card and checkpoint of a model, and whether its chips may grow."""
    if isinstance(model, Model):
        return model.card, model.file, model.chips_grow
    info = read_info(model)
    return info.card, info.path, True


def _read_aoi(path: str, source: ChipSource, layer: str | None) -> Aoi:
    if not path:
        raise AoiError("expected the path of an AOI file, got an empty text")
    return read_aoi(path, source.grid, layer=layer)


def _warn_of_empty_aoi(aoi: Aoi | None, options: DetectOptions, source: ChipSource) -> None:
    if aoi is not None and aoi.is_empty:
        _log.warning(
            "the AOI %s lies outside %s: nothing will be found", options.aoi, source.raster.path
        )


def _warn_of_small_overlap(plan: WindowPlan, card: ModelCard) -> None:
    needed = card.overlap_px
    several = plan.width > plan.chip_px or plan.height > plan.chip_px
    if several and plan.overlap_px < needed:
        _log.warning(
            "an overlap of %d px is less than the %d px that the model's largest objects need: "
            "objects over %d px may be found in pieces",
            plan.overlap_px,
            needed,
            max(plan.overlap_px - 2 * CUT_MARGIN_PX, 0),
        )


def _log_job(source: ChipSource, plan: WindowPlan) -> None:
    native = source.raster.grid
    _log.info("raster %s: %d x %d px", source.raster.path, native.width, native.height)
    if source.is_resampled:
        grid = source.grid
        _log.info("resampled to the model's GSD: %d x %d px", grid.width, grid.height)
    if len(plan) == 1:
        _log.info("1 window of %d px", plan.chip_px)
    else:
        _log.info(
            "%d windows of %d px, overlapping by %d px", len(plan), plan.chip_px, plan.overlap_px
        )
