"""The worst misses and false alarms, as pictures."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import GeoRetinaError
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.maps import FALSE_ALARM, FOUND, MISSED, as_data_address
from geo_retina.evaluation.match import Matches
from geo_retina.evaluation.pairs import Pair, detection_boxes, label_boxes
from geo_retina.imagery.raster import open_raster
from geo_retina.labels.pictures import (
    Outline,
    draw_outlines,
    read_picture,
    window_around,
)
from geo_retina.space import boxes as box_arrays

_log = logging.getLogger(__name__)

_LEAST_WINDOW_PX = 64
_WINDOW_PER_SIDE = 3.0
_PICTURE_PX = 180


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One object that was missed or one detection that found none."""

    pair: Pair
    box: NDArray[np.float64]
    """(4,) pixel edges."""
    caption: str


def false_alarms(pairs: Sequence[Pair], matches: Matches, *, cut: Cut, most: int) -> list[Example]:
    """Detections without object, highest score first."""
    boxes = detection_boxes(pairs)
    rows = np.flatnonzero(matches.false_alarms(cut))
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")][:most]
    return [
        Example(
            pairs[int(matches.raster_ids[row])],
            boxes[row],
            f"{matches.class_names[int(matches.class_ids[row])]} {matches.scores[row]:.2f}",
        )
        for row in rows.tolist()
    ]


def misses(pairs: Sequence[Pair], matches: Matches, *, cut: Cut, most: int) -> list[Example]:
    """Objects that were not found, largest first."""
    boxes = label_boxes(pairs)
    rows = np.flatnonzero(matches.missed_labels(cut))
    rows = rows[np.argsort(-box_arrays.area(boxes[rows]), kind="stable")][:most]
    return [
        Example(
            pairs[int(matches.label_raster_ids[row])],
            boxes[row],
            matches.class_names[int(matches.label_class_ids[row])],
        )
        for row in rows.tolist()
    ]


def example_picture(example: Example, *, cut: Cut) -> str | None:
    """Picture as a `data:` address; None, with a warning, where the raster cannot be read.

    Labels are blue, detections that `cut` keeps orange, the example itself magenta.
    """
    try:
        with open_raster(example.pair.name, pixel_coordinates=True) as raster:
            x_min, y_min, x_max, y_max = example.box.tolist()
            side = max(x_max - x_min, y_max - y_min) * _WINDOW_PER_SIDE
            window = window_around(
                (x_min + x_max) / 2,
                (y_min + y_max) / 2,
                size_px=max(round(side), _LEAST_WINDOW_PX),
                raster=raster,
            )
            picture = read_picture(raster, window)
    except GeoRetinaError as error:
        _log.warning("no picture of %s: %s", example.pair.name, error)
        return None
    found = example.pair.detections
    outlines = [
        Outline(example.pair.labels.boxes, FOUND),
        Outline(found.boxes[cut.keeps(found.scores, found.class_ids)], FALSE_ALARM),
        Outline(example.box[None], MISSED),
    ]
    zoom = _PICTURE_PX / max(window.width, window.height)
    return as_data_address(draw_outlines(picture, outlines, window=window, zoom=zoom))
