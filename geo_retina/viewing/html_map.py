"""A page to look at a raster and its objects: zoom, choose the least score, ask what a box is.

The page is one file that needs no network: the raster as a picture, the boxes as numbers, and
Leaflet (BSD-2-Clause, see `leaflet/LICENSE`) to move about. It lies flat in the raster's own
pixels, so nothing is warped and a raster without georeference is shown too.
"""

import base64
import io
import json
import logging
import os
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from math import floor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geo_retina.detection.paths import raster_name
from geo_retina.imagery.quicklook import read_small
from geo_retina.labels.files import read_grid
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid
from geo_retina.viewing.colours import colour_of
from geo_retina.whole_files import check_place, write_whole

_log = logging.getLogger(__name__)

LARGEST_SIDE_PX = 4096
"""A larger raster is shown smaller."""
MOST_OBJECTS = 500_000
"""Of more the surest are shown, and the page says so: a browser holds them all."""

_JPEG_QUALITY = 85


class MapWriter:
    """An HTML map that gets detections as any other output does, for `detect_to_files`."""

    def __init__(
        self,
        path: str | Path,
        raster: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        model: str,
        bands: Sequence[int] | None = None,
        raster_crs: str | None = None,
        skip_errors: bool = False,
    ) -> None:
        """Prepare a map; the raster is read when the `with` statement is entered.

        Args:
            path: Page to write, `.html`.
            raster: What to show.
            class_names: By class id.
            model: Its name, for the page.
            bands: Three band numbers, from 1, or one; None = `shown_bands`.
            raster_crs: CRS of a raster that has none.
            skip_errors: Leave parts of the raster black that cannot be read.

        Raises:
            OutputError: The file cannot be written.
        """
        self._path = Path(path)
        self._raster = os.fspath(raster)
        self._class_names = tuple(class_names)
        self._model = model
        self._bands = bands
        self._raster_crs = raster_crs
        self._skip_errors = skip_errors
        self._kept: list[Detections] = []
        self._found = 0
        check_place(self._path, ending=".html")

    def __enter__(self) -> Self:
        self._grid = read_grid(self._raster, crs=self._raster_crs, pixel_coordinates=True)
        pixels, _ = read_small(
            self._raster, bands=self._bands, most_px=LARGEST_SIDE_PX, skip_errors=self._skip_errors
        )
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="JPEG", quality=_JPEG_QUALITY)
        self._picture = file.getvalue()
        self._kept, self._found = [], 0
        return self

    def write(self, detections: Detections) -> None:
        """Take boxes (raster pixel frame)."""
        self._found += len(detections)
        self._kept.append(detections)
        if sum(map(len, self._kept)) > 2 * MOST_OBJECTS:
            self._kept = [_surest(self._kept)]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        shown = _surest(self._kept)
        if len(shown) < self._found:
            _log.warning(
                "the map %s shows the %d surest of %d objects", self._path, len(shown), self._found
            )
        write_whole(self._path, self._page(shown))

    def _page(self, shown: Detections) -> str:
        """The template with what it shows: marks that no part of it holds are replaced in turn."""
        parts = {
            "title": escape(f"{raster_name(self._raster)}: {self._model}", quote=False),
            "about": _as_json(self._about(shown)),
            "boxes": _as_text(shown.boxes, "<f4"),
            "scores": _as_text(shown.scores, "<f4"),
            "classes": _as_text(shown.class_ids, "<u2"),
            "picture": f"data:image/jpeg;base64,{base64.b64encode(self._picture).decode()}",
            "leaflet.css": _part("leaflet/leaflet.css"),
            "leaflet.js": _part("leaflet/leaflet.js"),
        }
        before, *rest = _part("map.html").split("[[")
        pieces = [before]
        for piece in rest:
            mark, closed, after = piece.partition("]]")
            known = closed and mark in parts
            pieces.append(parts[mark] + after if known else f"[[{piece}")
        return "".join(pieces)

    def _about(self, shown: Detections) -> dict[str, Any]:
        grid = self._grid
        return {
            "software": f"geo_retina {version('geo-retina')}",
            "raster": raster_name(self._raster),
            "model": self._model,
            "width": grid.width,
            "height": grid.height,
            "found": self._found,
            "lowest_score": floor(100 * float(shown.scores.min(initial=1))) / 100,
            "classes": [
                {"name": name, "colour": colour_of(number)}
                for number, name in enumerate(self._class_names)
            ],
            **_ground(grid),
        }


def _ground(grid: Grid) -> dict[str, Any]:
    """What the page needs to tell places and sizes; null where the raster does not tell."""
    if grid.crs is None:
        return {"transform": None, "crs": None, "degrees": False, "metres_per_px": None}
    return {
        "transform": [float(value) for value in grid.transform[:6]],
        "crs": ":".join(grid.crs.to_authority() or ()) or grid.crs.name,
        "degrees": grid.crs.is_geographic,
        "metres_per_px": grid.known_gsd_m(),
    }


def _surest(parts: Sequence[Detections]) -> Detections:
    """The `MOST_OBJECTS` of the highest score, in the order in which they came."""
    joined = Detections.concat(list(parts))
    if len(joined) <= MOST_OBJECTS:
        return joined
    surest = np.argsort(-joined.scores, kind="stable")[:MOST_OBJECTS]
    return joined.select(np.sort(surest))


def _part(name: str) -> str:
    return files("geo_retina.viewing").joinpath(name).read_text(encoding="utf-8")


def _as_text(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def _as_json(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
