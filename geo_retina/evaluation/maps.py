"""Maps of whole rasters: what was found, missed, and seen where nothing is."""

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geo_retina.errors import GeoRetinaError
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import Matches
from geo_retina.evaluation.pairs import Pair
from geo_retina.imagery.quicklook import read_small
from geo_retina.labels.pictures import Outline, draw_outlines
from geo_retina.space.windows import Window
from geo_retina.wording import counted

FOUND, MISSED, FALSE_ALARM = (100, 143, 255), (220, 38, 127), (255, 176, 0)
"""Blue, magenta and orange: three of IBM's colours that stay apart for the colour-blind."""

_log = logging.getLogger(__name__)

_JPEG_QUALITY = 80
_FULL_COLOUR = 0  # of every pixel: shared by four, it would fade on outlines one pixel wide


@dataclass(frozen=True, slots=True, eq=False)
class MistakeMap:
    """Where on one raster the mistakes are; boxes in its pixels."""

    pair: Pair
    found: NDArray[np.float64]
    """(N, 4) labels that were found."""
    missed: NDArray[np.float64]
    """(N, 4) labels that were not."""
    false_alarms: NDArray[np.float64]
    """(N, 4) detections that found nothing."""

    @property
    def mistakes(self) -> int:
        """How many there are."""
        return len(self.missed) + len(self.false_alarms)

    @property
    def caption(self) -> str:
        """Counts, for people."""
        return (
            f"{len(self.found)} found, {len(self.missed)} missed, "
            f"{counted(len(self.false_alarms), 'false alarm')}"
        )


def mistake_maps(
    pairs: Sequence[Pair], matches: Matches, *, cut: Cut, most: int
) -> list[MistakeMap]:
    """Maps of the rasters with most mistakes, those first.

    Args:
        pairs: The rasters of `matches`, in the same order.
        matches: All classes.
        cut: Detections that it does not keep are left out.
        most: How many maps.
    """
    maps = []
    for pair, own in zip(pairs, matches.by_raster(len(pairs)), strict=True):
        maps.append(
            MistakeMap(
                pair,
                pair.labels.boxes[own.found_labels(cut)],
                pair.labels.boxes[own.missed_labels(cut)],
                pair.detections.boxes[own.false_alarms(cut)],
            )
        )
    return sorted(maps, key=lambda item: -item.mistakes)[:most]


def draw_map(item: MistakeMap, *, most_px: int = 640) -> Image.Image:
    """Draw a raster with found labels blue, missed ones magenta, false alarms orange.

    Args:
        item: What to draw.
        most_px: Longer side of the picture; larger rasters are read from their overviews.

    Raises:
        RasterReadError: The raster cannot be read.
    """
    pixels, zoom = read_small(item.pair.name, most_px=most_px, least_px=most_px)
    picture = Image.fromarray(pixels)
    window = Window(0, 0, round(picture.width / zoom), round(picture.height / zoom))
    outlines = [
        Outline(item.found, FOUND),
        Outline(item.false_alarms, FALSE_ALARM),
        Outline(item.missed, MISSED),
    ]
    return draw_outlines(picture, outlines, window=window, zoom=zoom)


def map_picture(item: MistakeMap) -> str | None:
    """The map as a `data:` address; None, with a warning, where the raster cannot be read."""
    try:
        return as_data_address(draw_map(item))
    except GeoRetinaError as error:
        _log.warning("no map of %s: %s", item.pair.name, error)
        return None


def as_data_address(picture: Image.Image) -> str:
    """A picture as a JPEG inside an address, so that a page needs no other file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=_FULL_COLOUR)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
