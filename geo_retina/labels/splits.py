"""Divide labelled rasters into train, val and test so that neighbours stay together.

Neighbouring ground looks alike: a random split of chips measures memory, not skill. Rasters are
divided by file, by site or by block of ground; one large raster is divided into blocks of ground
with a guard distance between the parts. Where something goes is a hash of its own name or place:
data added later moves nothing, unless so few rasters were there that chance left a split empty.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.labels.files import read_grid
from geo_retina.labels.ground import (
    Block,
    block_at,
    blocks_over,
    footprint,
    pixel_to_ground,
    to_lon_lat,
)
from geo_retina.labels.labels import LabelledRaster
from geo_retina.space.grid import WGS84, Grid, reproject

TRAIN, VAL = "train", "val"
"""The splits that a training learns from and is measured on."""

_SEAM_PX = 0.01
_POINTS_PER_BLOCK = 64
_ROBOFLOW_COPY = re.compile(r"\.rf\.\w+(?=\.\w+$)")

KeyOf = Callable[[LabelledRaster], str]
"""Names the group of a raster; rasters of one group stay together."""


def by_file(item: LabelledRaster) -> str:
    """Each raster is a group of its own, by its file name: right for plots that lie far apart.

    Roboflow adds changed copies of an image, `plot_jpg.rf.HASH.jpg` with another hash each: all
    copies are one group, or train would hold what val shows.
    """
    return f"file {_ROBOFLOW_COPY.sub('', Path(item.raster).name)}"


def by_site(item: LabelledRaster) -> str:
    """Rasters of a site stay together: measures how well a model does where it never was.

    Raises:
        LabelError: The raster has no site.
    """
    if not item.site:
        raise LabelError(f"{item.raster}: has no site; split by file or by block instead")
    return f"site {item.site}"


def by_block(block_m: float) -> KeyOf:
    """Rasters whose centre lies in the same square of ground stay together.

    Args:
        block_m: Side of the square, metres; well over the size of a raster.
    """

    def key_of(item: LabelledRaster) -> str:
        grid = _placed(item)
        lon, lat = to_lon_lat(grid, np.array([grid.width / 2, grid.height / 2])).tolist()
        return block_at(lon, lat, size_m=block_m).key

    return key_of


def fold_shares(folds: int) -> dict[str, float]:
    """Shares of a k-fold division: `fold0` ... of equal size."""
    if folds < 2:  # noqa: PLR2004
        raise LabelError(f"a k-fold division needs at least 2 folds, got {folds}")
    return {f"fold{number}": 1 / folds for number in range(folds)}


def split_of(key: str, *, shares: Mapping[str, float], seed: int = 0) -> str:
    """Split of a group: depends on nothing but its key, the shares and the seed.

    Raises:
        LabelError: The shares do not add up to 1.
    """
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:  # noqa: PLR2004
        raise LabelError(
            f"the shares of the splits must be 0 or more and add up to 1, got {dict(shares)}"
        )
    position = hash_share(f"{seed} {key}")
    reached = 0.0
    for name, share in shares.items():
        reached += share
        if position < reached:
            return name
    return list(shares)[-1]


def hash_share(text: str) -> float:
    """A number in [0, 1) that depends on a text alone, evenly spread over texts."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_rasters(
    labelled: Sequence[LabelledRaster],
    *,
    key_of: KeyOf,
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[LabelledRaster]:
    """Give each raster a split.

    Args:
        labelled: Rasters; what split they say so far is replaced.
        key_of: `by_file`, `by_site` or `by_block(...)`.
        shares: Of the groups; with few groups the true shares are off by chance. A split that gets
            none with an object so is given one.
        seed: Another seed gives another division.

    Raises:
        LabelError: A raster has no site, or the shares do not add up to 1.
        GeoreferenceError: `by_block` of a raster without CRS.
    """
    keys = [key_of(item) for item in labelled]
    splits = {key: split_of(key, shares=shares, seed=seed) for key in keys}
    shown = {key for key, item in zip(keys, labelled, strict=True) if len(item.labels)}
    splits |= _moved_to_empty({key: splits[key] for key in sorted(shown)}, shares, seed)
    return [replace(item, split=splits[key]) for item, key in zip(labelled, keys, strict=True)]


def _moved_to_empty(
    splits: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The new splits of groups that go to a split that chance left without one.

    A group comes from the split that has most, and is the one whose hash is nearest to what the
    empty split takes: what else there is hardly changes which one that is.
    """
    moved: dict[str, str] = {}
    reached = 0.0
    for name, share in shares.items():
        middle = reached + share / 2
        reached += share
        now = {**splits, **moved}
        counts = Counter(now.values())
        fullest, most = counts.most_common(1)[0] if counts else ("", 0)
        if share > 0 and counts[name] == 0 and most > 1:
            donors = [key for key, split in now.items() if split == fullest]
            nearest = min(donors, key=lambda key: abs(hash_share(f"{seed} {key}") - middle))
            moved[nearest] = name
    return moved


def split_ground(
    labelled: Sequence[LabelledRaster],
    *,
    block_m: float,
    guard_m: float,
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[LabelledRaster]:
    """Divide the ground of large rasters into squares and give each square a split.

    Ground within half of `guard_m` of another split belongs to none, so that the splits lie at
    least `guard_m` apart, also across rasters. Blocks divide the whole Earth and do not depend on
    the data.

    Args:
        labelled: Georeferenced rasters.
        block_m: Side of a square, metres.
        guard_m: Least distance between ground of two splits: at least the size of a chip.
        shares: Of the squares.
        seed: Another seed gives another division.

    Returns:
        One entry for each raster and split that has ground there, with `area` set. Its labels are
        all that touch the area: evaluation counts those whose centre lies in it.

    Raises:
        GeoreferenceError: A raster has no CRS.
        LabelError: The guard leaves nothing of a block, or the shares do not add up to 1.
    """
    if not 0 <= guard_m < block_m:
        raise LabelError(
            f"guard_m must be at least 0 and under block_m {block_m:g}, or nothing is left of a "
            f"block; got {guard_m:g}"
        )
    division = _Division(block_m, guard_m, shares, seed)
    parts = []
    for item in labelled:
        grid = _placed(item)
        for name, area in _areas(item, grid, division).items():
            touching = shapely.intersects(area, shapely.box(*item.labels.boxes.T))
            labels = item.labels.select(np.atleast_1d(touching))
            parts.append(replace(item, labels=labels, split=name, area=area))
    return parts


@dataclass(frozen=True, slots=True, eq=False)
class _Division:
    """How the ground is divided; as in `split_ground`."""

    block_m: float
    guard_m: float
    shares: Mapping[str, float]
    seed: int


def _areas(item: LabelledRaster, grid: Grid, division: _Division) -> dict[str, MultiPolygon]:
    """Ground of each split on a raster, in its pixels."""
    whole = footprint(grid, None)
    ring = shapely.get_coordinates(whole)
    of_split: dict[str, list[BaseGeometry]] = {}
    for block in blocks_over(ring, size_m=division.block_m, margin_m=division.guard_m):
        name = split_of(block.key, shares=division.shares, seed=division.seed)
        of_split.setdefault(name, []).append(_in_pixels(block, grid))
    shown: BaseGeometry = shapely.box(0, 0, grid.width, grid.height)
    if item.area is not None:
        shown = shapely.intersection(shown, item.area)
    areas = {}
    for name in (name for name in division.shares if name in of_split):
        ground = _shrunk(shapely.union_all(of_split[name]), grid, division.guard_m / 2)
        inside = shapely.intersection(ground, shown)
        polygons = [part for part in shapely.get_parts(inside) if isinstance(part, Polygon)]
        if polygons:
            areas[name] = MultiPolygon(polygons)
    return areas


def _in_pixels(block: Block, grid: Grid) -> BaseGeometry:
    assert grid.crs is not None  # noqa: S101  # checked by `_placed`
    ring = Polygon(block.ring())
    # Parallels are curved on most grids, and blocks of different rows share no corners.
    dense = shapely.get_coordinates(shapely.segmentize(ring, ring.length / _POINTS_PER_BLOCK))
    outline = Polygon(grid.world_to_pixel(reproject(dense, source=WGS84, target=grid.crs)))
    # Grown a little, so that neighbours of one split grow together.
    grown: BaseGeometry = shapely.buffer(outline, _SEAM_PX, join_style="mitre")
    return grown


def _shrunk(shape: BaseGeometry, grid: Grid, metres: float) -> BaseGeometry:
    """Take away a rim of some metres on the ground."""
    to_ground = pixel_to_ground(grid)
    to_pixels = np.linalg.inv(to_ground)
    on_ground = shapely.transform(shape, lambda points: points @ to_ground.T)
    rim = metres + 2 * _SEAM_PX * float(np.linalg.norm(to_ground, 2))  # a pixel's longest stretch
    smaller = shapely.buffer(on_ground, -rim, join_style="mitre")
    moved: BaseGeometry = shapely.transform(smaller, lambda points: points @ to_pixels.T)
    return moved


def _placed(item: LabelledRaster) -> Grid:
    grid = read_grid(item.raster)
    if grid.known_gsd_m() is None:
        raise GeoreferenceError(
            f"{item.raster}: has no CRS that is valid there and tied to the Earth, so that its "
            "place is unknown; split by file or by site (in a recipe: kind under [divide])"
        )
    return grid
