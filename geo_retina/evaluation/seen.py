"""Was a model evaluated on rasters that it learned from?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from geo_retina.errors import GeoRetinaError
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.files import read_grid
from geo_retina.labels.ground import known_footprint
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.wording import counted

_LEAST_SHARED = 0.01
"""Share of the smaller ground from which two rasters of one name are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownRaster:
    """A raster, or the part of one, that a training used."""

    raster: str
    """Path as the training had it; the file need not be there."""
    side: str
    """`TRAIN`, `VAL`, or another that the recipe divides off."""
    ground: BaseGeometry | None = None
    """Longitude and latitude; None where that is not known."""
    sure: bool = True
    """False where the path was only guessed from the recipe's names."""


def known_raster(labelled: LabelledRaster, side: str, *, sure: bool) -> KnownRaster:
    """A raster whose labels were read again; its ground is left out where it cannot be told."""
    try:
        grid = read_grid(labelled.raster, pixel_coordinates=True)
        ground = known_footprint(grid, labelled.area)
    except (GeoRetinaError, OSError):
        ground = None
    return KnownRaster(labelled.raster, side, ground, sure)


def read_split_map(path: Path) -> list[KnownRaster]:
    """Rasters of a run folder's `split.geojson`; none where the file cannot be read."""
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        return [
            KnownRaster(
                str(item["properties"]["raster"]),
                str(item["properties"]["split"]),
                None if item["geometry"] is None else shapely.geometry.shape(item["geometry"]),
            )
            for item in features
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ShapelyError):
        return []


def cautions(pairs: Sequence[Pair], known: Sequence[KnownRaster]) -> list[str]:
    """Say how many of the evaluated rasters a training used.

    A raster is taken for one of the training's if it has the same file name, unless they lie on
    different ground or, without georeference, are files of different size.

    Args:
        pairs: What is evaluated.
        known: What the training used.

    Returns:
        A sentence for each side that any were of.
    """
    by_name: dict[str, list[KnownRaster]] = {}
    for item in known:
        by_name.setdefault(Path(item.raster).name, []).append(item)
    seen: dict[str, list[Pair]] = {TRAIN: [], VAL: []}
    sure = True
    for pair in pairs:
        same = [item for item in by_name.get(Path(pair.name).name, ()) if _is_same(pair, item)]
        sides = {item.side for item in same}
        side = next((side for side in seen if side in sides), None)  # part train is train
        if side is not None:
            seen[side].append(pair)
            sure &= any(item.sure for item in same)
    return [_sentence(seen[side], pairs, side, sure=sure) for side in (TRAIN, VAL) if seen[side]]


def _is_same(pair: Pair, known: KnownRaster) -> bool:
    """Whether rasters of the same file name may be the same."""
    own = None if pair.grid is None else known_footprint(pair.grid, pair.area)
    if own is not None and known.ground is not None:
        mine, theirs = own.buffer(0), known.ground.buffer(0)
        shared = mine.intersection(theirs).area  # neighbours touch, and differ by rounding
        return bool(shared > _LEAST_SHARED * min(mine.area, theirs.area))
    try:
        here, there = Path(pair.name), Path(known.raster)
        return here.samefile(there) or here.stat().st_size == there.stat().st_size
    except OSError:  # one of them is not there: the names are all there is
        return True


def _sentence(seen: Sequence[Pair], pairs: Sequence[Pair], side: str, *, sure: bool) -> str:
    labels, of_labels = _labels(seen), _labels(pairs)
    have = "has the name of a raster" if len(seen) == 1 else "have the names of rasters"
    what = {
        TRAIN: "that this model learned from",
        VAL: "that chose this model's score and weights",
    }[side]
    doubt = "" if sure else " if they are the same"
    return (
        f"{len(seen)} of {counted(len(pairs), 'raster')} ({labels} of {of_labels} labels) {have} "
        f"{what}: the numbers are optimistic{doubt}."
    )


def _labels(pairs: Sequence[Pair]) -> int:
    """Labels that count."""
    return sum(int(pair.inside_area().labels.counted.sum()) for pair in pairs)
