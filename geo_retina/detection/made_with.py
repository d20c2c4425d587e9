"""What outputs say of the run that made them: a later one does not take them for its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from geo_retina.detection.fingerprints import LedgerHeader
from geo_retina.detection.formats import (
    COCO,
    FLATGEOBUF,
    GEOJSON,
    GEOPACKAGE,
    GEOPARQUET,
    split_extension,
)
from geo_retina.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def refuse_other_run(
    outputs: Sequence[Path], *, model_hash: str, options: Mapping[str, Any]
) -> None:
    """Check that files which are there are those that a run would make, as far as they tell.

    Shapefile, CSV and GeoJSON sequences have no room for it, and a file may be of another origin.

    Args:
        outputs: Files of one raster.
        model_hash: Of the weights and the card.
        options: Of the run, as plain data.

    Raises:
        OutputError: Another model or other options made them.
    """
    for path in outputs:
        stated = _stated(path)
        if stated is None or not {"model_hash", "options"} <= stated.keys():
            continue
        then = LedgerHeader({"hash": stated["model_hash"]}, stated["options"], {})
        differing = then.differences(LedgerHeader({"hash": model_hash}, options, {}))
        if differing:
            raise OutputError(
                f"{path} is of another run: {'; '.join(differing)}. Run with what it was made "
                "with, leave --resume out to make all anew, or choose other outputs"
            )


def _stated(path: Path) -> dict[str, Any] | None:
    """The metadata of an output; None where it has none."""
    import pyarrow.parquet as pq
    import pyogrio

    _, kind = split_extension(path)
    try:
        if kind in (GEOPACKAGE, FLATGEOBUF):
            found = pyogrio.read_info(path)["layer_metadata"] or {}
            return {**found, "options": json.loads(found["options"])}
        if kind is GEOPARQUET:
            return dict(json.loads((pq.read_metadata(path).metadata or {})[b"geo_retina"]))
        if kind in (GEOJSON, COCO):
            with path.open(encoding="utf-8") as file:
                head = json.loads(file.readline() + "]}")  # all before the first object
            return dict(head["info" if kind is COCO else "geo_retina"])
    except (OSError, ValueError, KeyError, TypeError, pyogrio.errors.DataSourceError):
        return None
    return None
