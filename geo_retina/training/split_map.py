"""Where train and val lie, as a map that any GIS opens."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.polygon import orient

from geo_retina.errors import OutputError
from geo_retina.labels.files import read_grid
from geo_retina.labels.ground import known_footprint
from geo_retina.labels.labels import LabelledRaster
from geo_retina.whole_files import write_whole
from geo_retina.wording import listed

_log = logging.getLogger(__name__)

SPLIT_NAME = "split.geojson"
"""File in the run folder with the ground of each side, longitude and latitude (RFC 7946)."""

_DECIMALS = 8  # of a degree: a millimetre


def write_split_map(folder: Path, labelled: Sequence[LabelledRaster]) -> Path:
    """Write the ground of every raster, or of its part that was divided, with its split.

    A raster without georeference, or with a local CRS, has no geometry.

    Args:
        folder: Where `SPLIT_NAME` goes.
        labelled: Rasters with their split.

    Raises:
        OutputError: The file cannot be written.
    """
    collection = {
        "type": "FeatureCollection",
        "features": [_feature(item) for item in labelled],
    }
    path = folder / SPLIT_NAME
    write_whole(path, json.dumps(collection) + "\n", error=OutputError)
    return path


def warn_of_changes(folder: Path, labelled: Sequence[LabelledRaster]) -> None:
    """Warn where a run goes on with other data than its map of the split tells.

    Rasters are told apart by name, side and number of labels: their folder may have moved.

    Args:
        folder: With `SPLIT_NAME`; nothing is said where it cannot be read.
        labelled: Rasters with their split.
    """
    try:
        features = json.loads((folder / SPLIT_NAME).read_text(encoding="utf-8"))["features"]
        before = Counter(_key(feature["properties"]) for feature in features)
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = Counter(_key(_properties(item)) for item in labelled)
    changed = sorted({name for name, *_ in (before - now) + (now - before)})
    if changed:
        _log.warning(
            "rasters, sides or labels changed since the run began: %s; it goes on with the new "
            "ones, and its best weights so far were chosen by the old: to compare like with like, "
            "start a new run with another --out",
            listed(changed),
        )


def _key(properties: dict[str, Any]) -> tuple[str, str, int]:
    return Path(properties["raster"]).name, properties["split"], properties["labels"]


def _feature(item: LabelledRaster) -> dict[str, Any]:
    ground = known_footprint(read_grid(item.raster, pixel_coordinates=True), item.area)
    if ground is not None:
        rounded = shapely.get_parts(shapely.set_precision(ground, 10**-_DECIMALS))
        ground = MultiPolygon([orient(part) for part in rounded if isinstance(part, Polygon)])
    return {
        "type": "Feature",
        "properties": _properties(item),
        "geometry": None if ground is None else shapely.geometry.mapping(ground),
    }


def _properties(item: LabelledRaster) -> dict[str, Any]:
    return {
        "split": item.split,
        "raster": item.raster,
        "site": item.site,
        "labels": len(item.labels),
    }
