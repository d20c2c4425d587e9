"""Labelled rasters made ready for training: checked, cleaned, in pixels of the model's GSD."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geo_retina.card import ModelCard
from geo_retina.errors import (
    BandError,
    GeoreferenceError,
    GsdError,
    LabelError,
    RadiometryError,
)
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.source import ChipSource, open_chip_source
from geo_retina.labels.check_report import doubt_about_empty
from geo_retina.labels.cleaning import Changes, clean_labels, look_like_sizes
from geo_retina.labels.labelled_part import doubt_about_part, labelled_share
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space import boxes as box_arrays
from geo_retina.training.sources import Reading
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

_READING_ERRORS = (BandError, GeoreferenceError, GsdError, RadiometryError)
_MOST_OUTSIDE = 0.5
"""Share of a source's labels off their rasters above which they belong to other rasters."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRaster:
    """A raster to cut chips from, and its objects in the working grid of `card.gsd_m`."""

    path: str
    reading: Reading
    width: int
    """Columns of the working grid."""
    height: int
    """Rows of the working grid."""
    boxes: NDArray[np.float64]
    """(N, 4) pixel edges in the working grid."""
    class_ids: NDArray[np.int64]
    """(N,) in 0..K-1."""
    ignored: NDArray[np.bool_]
    """(N,) True where an object is neither to be found nor background."""
    area: Polygon | MultiPolygon | None
    """The part to learn from, in pixels of the working grid; None = all of it."""
    weight: float
    """How often it is drawn, relative to its size."""

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.boxes)

    @property
    def pixels(self) -> float:
        """Working pixels that can be learned from."""
        return float(self.width * self.height if self.area is None else self.area.area)


def prepare_rasters(
    labelled: Sequence[LabelledRaster],
    reading: Reading,
    card: ModelCard,
    *,
    source: str,
    weight: float = 1,
) -> list[TrainingRaster]:
    """Check that the model can read every raster, and clean and scale its labels.

    Headers are read, no pixels (but those that percentiles are taken of).

    Args:
        labelled: Rasters of one source.
        reading: How to read them.
        card: What the model is shown.
        source: Name of the source, for messages.
        weight: Of the source.

    Raises:
        LabelError: Most labels lie off their rasters, or are widths and heights for corners.
        UsageError: One of its kinds, for a raster that does not fit the card.
    """
    prepared, changes = [], Changes()
    shares: dict[str, float] = {}
    extents: list[NDArray[np.float64]] = []
    for item in labelled:
        with open_source(item.raster, reading, card) as chips:
            native, grid = chips.raster.grid, chips.grid
            clean = clean_labels(item.labels, width=native.width, height=native.height)
            labels = _in_area(clean.labels, item.area)
            known = replace(item, labels=clean.labels)
            share = labelled_share(known, width=native.width, height=native.height)
            if share is not None:
                shares[item.raster] = share
            scale = np.array([chips.scale_x, chips.scale_y])
        changes += clean.changes
        extents.append(np.full((len(item.labels), 2), [native.width, native.height], np.float64))
        prepared.append(
            TrainingRaster(
                path=item.raster,
                reading=reading,
                width=grid.width,
                height=grid.height,
                boxes=box_arrays.scale(labels.boxes, x=1 / scale[0], y=1 / scale[1]),
                class_ids=labels.class_ids,
                ignored=~labels.counted,
                area=_scaled(item.area, scale),
                weight=weight,
            )
        )
    boxes = [item.labels.boxes for item in labelled]
    _refuse_labels_off(sum(map(len, boxes)), changes, source)
    if boxes and look_like_sizes(np.concatenate(boxes), np.concatenate(extents)):
        raise LabelError(
            f"{source}: expected two corners of each box, found x, y, width, height: most second "
            "corners lie before the first; write xmax = x + width and ymax = y + height"
        )
    count = sum(len(item) for item in prepared)
    mended = f" (mended: {changes})" if changes else ""
    _log.info(
        "%s: %s, %s%s", source, counted(len(prepared), "raster"), counted(count, "object"), mended
    )
    unsearched = sum(not len(item.labels) and item.area is None for item in labelled)
    doubt = doubt_about_empty(unsearched, len(labelled))
    if count and doubt:  # a source of nothing but background is one on purpose
        _log.warning("%s: %s", source, doubt)
    part = doubt_about_part(shares)
    if part:
        _log.warning("%s: %s", source, part)
    return prepared


def open_source(path: str, reading: Reading, card: ModelCard) -> ChipSource:
    """Open a raster as the model sees it; the caller closes it.

    Raises:
        RasterError: It cannot be opened.
        GeoreferenceError: It has no georeference, and `reading` does not state its GSD.
        UsageError: Another of its kinds, where the raster does not fit the card.
    """
    raster = open_raster(path, pixel_coordinates=True)
    if raster.georeference_gap is not None and reading.gsd_m is None:
        raster.close()
        raise GeoreferenceError(
            f"{raster.georeference_gap}; so nothing tells how large its pixels are on the ground: "
            f"georeference it, or state it in the recipe's source: reading = {{ gsd_m = "
            f"{card.gsd_m:g} }} (here the card's; on the command line "
            f"train.0.reading.gsd_m={card.gsd_m:g})"
        )
    try:
        return open_chip_source(raster, card, reading.options)
    except _READING_ERRORS as error:
        raster.close()
        raise type(error)(
            f"{error} (in a recipe these are keys of the source, such as reading.bands, "
            "reading.scale, reading.stretch, reading.any_gsd)"
        ) from error
    except BaseException:
        raster.close()
        raise


def _in_area(labels: Labels, area: Polygon | MultiPolygon | None) -> Labels:
    """The labels that touch the annotated ground: nothing is known of the others' surroundings."""
    if area is None or not len(labels):
        return labels
    shapely.prepare(area)
    touching = shapely.intersects(area, shapely.box(*labels.boxes.T))
    return labels.select(np.asarray(touching))


def _scaled(
    area: Polygon | MultiPolygon | None, scale: NDArray[np.float64]
) -> Polygon | MultiPolygon | None:
    if area is None:
        return None
    moved: Polygon | MultiPolygon = shapely.transform(area, lambda points: points / scale)
    return moved


def _refuse_labels_off(count: int, changes: Changes, source: str) -> None:
    if changes.outside > _MOST_OUTSIDE * count:
        raise LabelError(
            f"{source}: {changes.outside} of {count} labels lie off their rasters: they belong to "
            "other rasters, another resolution or another CRS; look with `geo-retina labels check`"
        )
