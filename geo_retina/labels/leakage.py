"""Does a split leak? Ground or pixels that train and val share make a measurement worthless."""

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.labels.ground import distances_m, in_metres, known_footprint
from geo_retina.labels.labels import LabelledRaster
from geo_retina.space.grid import Grid
from geo_retina.space.windows import Window
from geo_retina.wording import counted

_ROWS_AT_ONCE = 512
_PAIRS_AT_ONCE = 1024
_TOUCHING_M = 0.01
"""Places that are this near to each other are as near as can be."""
_SEAM_PX = 0.5
"""Pixels, of the finer raster, that places share where there can be none that is a pixel wide."""
_MOST_LINES = 20
"""Leaks of a kind that are told in text."""
_POINTS_PER_SIDE = 64
_BOUND_SLACK = 0.99
"""Distances on the sphere are off from those on the ellipsoid by at most 0.6 %."""


@dataclass(frozen=True, slots=True)
class SamePixels:
    """Two rasters of different splits hold the same pixels, if in files of different kinds."""

    raster: str
    split: str
    other: str
    other_split: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two rasters of different splits show the same ground."""

    raster: str
    split: str
    other: str
    other_split: str
    square_m: float


@dataclass(frozen=True, slots=True)
class Nearest:
    """The two rasters of two splits that lie nearest to each other."""

    split: str
    other_split: str
    metres: float
    """Between the edges of their labelled areas; 0 where they overlap."""
    raster: str
    other: str


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """The outcome of `audit_splits`."""

    per_split: tuple[tuple[str, int, int], ...]
    """Name, rasters, labels."""
    same_pixels: tuple[SamePixels, ...]
    overlaps: tuple[Overlap, ...]
    nearest: tuple[Nearest, ...]
    shared_sites: tuple[str, ...]
    """Sites in more than one split: no fault, but then val says nothing about new sites."""
    unplaced: int
    """Rasters without georeference or with a local CRS, around a pole, or outside the area of their
    CRS: only their pixels could be compared."""

    @property
    def leaks(self) -> bool:
        """True where splits share pixels or ground."""
        return bool(self.same_pixels or self.overlaps)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"leaks": self.leaks}

    def to_text(self) -> str:
        """Describe the outcome in some lines of plain text."""
        lines = [
            f"{name}: {counted(rasters, 'raster')}, {counted(labels, 'label')}"
            for name, rasters, labels in self.per_split
        ]
        lines += _some(
            [
                f"LEAK: {item.raster} ({item.split}) and {item.other} ({item.other_split}) hold "
                "the same pixels"
                for item in self.same_pixels
            ]
        )
        lines += _some(
            [
                f"LEAK: {item.raster} ({item.split}) and {item.other} ({item.other_split}) share "
                f"{item.square_m:,.0f} square metres"
                for item in self.overlaps
            ]
        )
        lines += [
            f"nearest {item.split} and {item.other_split}: {item.metres:,.0f} m ({item.raster}, "
            f"{item.other})"
            for item in self.nearest
        ]
        if self.shared_sites:
            lines.append(f"in several splits: the sites {', '.join(self.shared_sites)}")
        if self.unplaced:
            unplaced = counted(self.unplaced, "raster")
            lines.append(f"{unplaced} without a place on the Earth: only pixels compared")
        return "\n".join(lines)


def _some(lines: list[str]) -> list[str]:
    """The first of many lines, and how many there are more."""
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"LEAK: and {more:,} more of this kind"]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A georeferenced raster's ground."""

    item: LabelledRaster
    shape: BaseGeometry
    """Longitude and latitude."""
    centre: NDArray[np.float64]
    """(2,) longitude, latitude."""
    radius_m: float
    pixels: float
    """Area in pixels of the raster."""


def audit_splits(labelled: Sequence[LabelledRaster]) -> LeakageReport:
    """Look for pixels and ground that splits share.

    Every raster is read once, strip by strip, to compare its pixels.

    Args:
        labelled: Rasters with their split; of a raster that is divided by `area`, only the areas
            are compared.

    Raises:
        RasterError: A raster cannot be opened.
        RasterReadError: Pixels cannot be read.
    """
    digests: dict[str, str] = {}
    places = []
    unplaced = 0
    for item in labelled:
        with open_raster(item.raster, pixel_coordinates=True) as raster:
            if item.raster not in digests:
                digests[item.raster] = _digest(raster)
            if item.area is not None and item.area.is_empty and raster.has_georeference:
                continue
            place = _place(item, raster.grid) if raster.has_georeference else None
            places += [place] if place is not None else []
            unplaced += place is None
    splits = sorted({item.split for item in labelled})
    overlaps, nearest = _compare(places, splits)
    return LeakageReport(
        per_split=tuple(
            (name, len(part), sum(len(item.labels) for item in part))
            for name in splits
            for part in [[item for item in labelled if item.split == name]]
        ),
        same_pixels=_same_pixels(labelled, digests),
        overlaps=tuple(sorted(overlaps, key=lambda item: -item.square_m)),
        nearest=tuple(nearest),
        shared_sites=_shared_sites(labelled),
        unplaced=unplaced,
    )


def _digest(raster: Raster) -> str:
    """What tells a raster's samples from those of others, whatever the file.

    A hash of all samples and of the shape; of a raster whose bands hold but one value each, which
    may be NaN, it is the path: two empty tiles give nothing away.
    """
    grid = raster.grid
    digest = hashlib.blake2b(f"{raster.band_count} {grid.width} {grid.height}".encode())
    bands = range(1, raster.band_count + 1)
    blank, first = True, None
    for row in range(0, grid.height, _ROWS_AT_ONCE):
        window = Window(0, row, grid.width, min(_ROWS_AT_ONCE, grid.height - row))
        samples = np.ascontiguousarray(raster.read(window, bands=bands))
        digest.update(samples.tobytes())
        if blank:
            first = samples[:, :1, :1].copy() if first is None else first
            blank = bool(((samples == first) | (np.isnan(samples) & np.isnan(first))).all())
    return f"blank {raster.path}" if blank else digest.hexdigest()


def _same_pixels(
    labelled: Sequence[LabelledRaster], digests: dict[str, str]
) -> tuple[SamePixels, ...]:
    """Each raster with the first one before it, of another split, that holds its pixels."""
    groups: dict[str, list[LabelledRaster]] = {}
    for item in labelled:
        groups.setdefault(digests[item.raster], []).append(item)
    found = []
    for group in groups.values():
        for place, item in enumerate(group):
            before = (one for one in group[:place] if one.split != item.split)
            one = next((one for one in before if not _divided(one, item)), None)
            if one is not None:
                found.append(SamePixels(one.raster, one.split, item.raster, item.split))
    return tuple(found)


def _divided(one: LabelledRaster, other: LabelledRaster) -> bool:
    """True for two parts of one raster that share no ground."""
    if one.raster != other.raster or one.area is None or other.area is None:
        return False
    return bool(shapely.intersection(one.area, other.area).area == 0)


def _place(item: LabelledRaster, grid: Grid) -> _Place | None:
    """Where a raster lies; None where nothing tells, see `known_footprint`."""
    whole = shapely.box(0, 0, grid.width, grid.height)
    area = whole if item.area is None else shapely.make_valid(item.area)
    # Straight edges in pixels are bent in another projection: four corners alone would cut them
    # short, and neighbours of different lengths that only touch would seem to overlap.
    edge_px = max(grid.width, grid.height) / _POINTS_PER_SIDE
    shape = known_footprint(grid, shapely.segmentize(area, edge_px))
    if shape is None:
        return None
    corners = shapely.get_coordinates(shape)
    centre = corners.mean(axis=0)
    radius_m = float(distances_m(centre, corners).max()) / _BOUND_SLACK
    return _Place(item, shape, centre, radius_m, float(area.area))


def _compare(
    places: Sequence[_Place], splits: Sequence[str]
) -> tuple[list[Overlap], list[Nearest]]:
    overlaps, nearest = [], []
    for split, other_split in itertools.combinations(splits, 2):
        ones = [place for place in places if place.item.split == split]
        others = [place for place in places if place.item.split == other_split]
        best: Nearest | None = None
        for one, other in _crossing(ones, others):
            metres, shared = _measure(one, other)
            if shared > 0:
                rasters = one.item.raster, other.item.raster
                overlaps.append(Overlap(rasters[0], split, rasters[1], other_split, shared))
                if best is None or metres < best.metres:
                    best = Nearest(split, other_split, metres, *rasters)
        for one, other, bound in _by_least_distance(ones, others):
            if best is not None and max(bound, _TOUCHING_M) > best.metres:
                break
            metres, _ = _measure(one, other)
            if best is None or metres < best.metres:
                best = Nearest(split, other_split, metres, one.item.raster, other.item.raster)
        nearest += [best] if best is not None else []
    return overlaps, nearest


def _crossing(ones: Sequence[_Place], others: Sequence[_Place]) -> list[tuple[_Place, _Place]]:
    """Pairs whose footprints share more than a seam; a turn around the Earth further, too."""
    tree = shapely.STRtree([place.shape for place in others])
    found = []
    for turn in (0, 360, -360):
        shapes = np.array([translate(place.shape, turn) for place in ones], dtype=object)
        first, second = tree.query(shapes, predicate="intersects")
        shared = np.zeros(len(first))
        for start in range(0, len(first), _PAIRS_AT_ONCE):  # intersections take much memory
            part = slice(start, start + _PAIRS_AT_ONCE)
            cut = shapely.intersection(shapes[first[part]], tree.geometries[second[part]])
            shared[part] = shapely.area(cut)
        for i, j, area in zip(first.tolist(), second.tolist(), shared.tolist(), strict=True):
            one, other = ones[i], others[j]
            pixel = min(one.shape.area / one.pixels, other.shape.area / other.pixels)
            if area > _SEAM_PX * pixel:
                found.append((one, other))
    return found


def _by_least_distance(
    ones: Sequence[_Place], others: Sequence[_Place]
) -> list[tuple[_Place, _Place, float]]:
    """Pairs with a distance that theirs cannot be under, rising; far pairs of `ones` left out.

    Of each of `ones`, only those pairs that may be its nearest are kept.
    """
    if not others:
        return []
    centres = np.array([place.centre for place in others])
    radii = np.array([place.radius_m for place in others])
    found = []
    for one in ones:
        middle = distances_m(one.centre, centres) * _BOUND_SLACK
        least = np.maximum(middle - one.radius_m - radii, 0)
        most = (middle + one.radius_m + radii).min() / _BOUND_SLACK**2
        near = np.flatnonzero(least <= most).tolist()
        found += [(one, others[index], float(least[index])) for index in near]
    return sorted(found, key=lambda row: row[2])


def _measure(one: _Place, other: _Place) -> tuple[float, float]:
    """Metres between two places, and square metres that they share.

    A shared strip up to one pixel wide, of the finer raster, comes from rounded georeferences of
    neighbours that touch; it counts as nothing.
    """
    lon, lat = one.centre.tolist()
    first = shapely.make_valid(in_metres(one.shape, centre=(lon, lat)))
    second = shapely.make_valid(in_metres(other.shape, centre=(lon, lat)))
    shared = shapely.intersection(first, second)
    pixel_m = math.sqrt(min(first.area / one.pixels, second.area / other.pixels))
    wide = not shapely.buffer(shared, -pixel_m / 2, join_style="mitre").is_empty
    return float(shapely.distance(first, second)), float(shared.area) if wide else 0.0


def _shared_sites(labelled: Sequence[LabelledRaster]) -> tuple[str, ...]:
    splits_of: dict[str, set[str]] = {}
    for item in labelled:
        if item.site:
            splits_of.setdefault(item.site, set()).add(item.split)
    return tuple(sorted(site for site, splits in splits_of.items() if len(splits) > 1))
