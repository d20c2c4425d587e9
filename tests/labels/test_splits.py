from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.labels import splits
from geo_retina.labels.files import read_grid
from geo_retina.labels.ground import Block, block_at, blocks_over, footprint, in_metres
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.splits import (
    by_block,
    by_file,
    by_site,
    fold_shares,
    split_ground,
    split_of,
    split_rasters,
)

Writer = Callable[..., Path]
NONE = Labels.empty(["tree"])
HALVES = {"train": 0.5, "val": 0.5}
split_files = partial(split_rasters, key_of=by_file)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def files(count: int) -> list[LabelledRaster]:
    return [LabelledRaster(f"plots/{number}.tif", NONE) for number in range(count)]


def test_shares_are_met_and_data_added_later_moves_nothing() -> None:
    many = split_files(files(2000), shares=SHARES)
    counts = {name: sum(item.split == name for item in many) for name in ("train", "val", "test")}
    assert abs(counts["train"] - 1400) < 80
    assert abs(counts["val"] - 300) < 60
    few = split_files(files(50), shares=SHARES)
    assert [item.split for item in few] == [item.split for item in many[:50]]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("count", [2, 3, 8])
def test_few_rasters_leave_no_split_empty(count: int, seed: int) -> None:
    shares = {"train": 0.8, "val": 0.2, "unused": 0.0}
    one = Labels.of(np.array([[0.0, 0, 5, 5]]), [0], ("tree",))
    shown = [LabelledRaster(f"plots/{number}.tif", one) for number in range(count)]
    found = split_files(shown, shares=shares, seed=seed)
    assert {item.split for item in found} == {"train", "val"}
    by_hash = [split_of(by_file(item), shares=shares, seed=seed) for item in shown]
    moved = sum(item.split != name for item, name in zip(found, by_hash, strict=True))
    assert moved == (len(set(by_hash)) < 2)
    empty = [LabelledRaster(f"empty/{number}e.tif", NONE) for number in range(3)]
    beside = split_files([*empty, *shown], shares=shares, seed=seed)
    assert [item.split for item in beside[3:]] == [item.split for item in found]


def test_a_single_raster_is_in_one_split() -> None:
    one = Labels.of(np.array([[0.0, 0, 5, 5]]), [0], ("tree",))
    (found,) = split_files([LabelledRaster("a.tif", one)], shares=HALVES)
    assert found.split == split_of(by_file(found), shares=HALVES)


def test_the_folder_does_not_matter_but_the_seed_does() -> None:
    moved = [LabelledRaster(item.raster.replace("plots", "elsewhere"), NONE) for item in files(50)]
    splits = [item.split for item in split_files(files(50), shares=SHARES)]
    assert [item.split for item in split_files(moved, shares=SHARES)] == splits
    assert [item.split for item in split_files(files(50), shares=SHARES, seed=1)] != splits


def test_sites_stay_together() -> None:
    items = [LabelledRaster(f"{n}.tif", NONE, site=f"site{n % 9}") for n in range(90)]
    found = split_rasters(items, key_of=by_site, shares=HALVES)
    assert len({(item.site, item.split) for item in found}) == 9
    assert {item.split for item in found} == {"train", "val"}
    with pytest.raises(LabelError, match="has no site"):
        split_rasters(files(1), key_of=by_site, shares=HALVES)


def test_copies_that_roboflow_adds_stay_together() -> None:
    names = [f"train/{plot}_jpg.rf.{letter * 32}.jpg" for plot in range(200) for letter in "0bF"]
    divided = split_files([LabelledRaster(name, NONE) for name in names], shares=HALVES)
    sides = [{item.split for item in divided[start : start + 3]} for start in range(0, 600, 3)]
    assert {len(side) for side in sides} == {1}
    assert len(set.union(*sides)) == 2
    others = {by_file(LabelledRaster(name, NONE)) for name in ("a.rf.tif", "a.rf.1.2.tif", "a.tif")}
    assert len(others) == 3


def test_folds() -> None:
    shares = fold_shares(5)
    folds = [split_of(by_file(item), shares=shares) for item in files(1000)]
    assert sorted(set(folds)) == ["fold0", "fold1", "fold2", "fold3", "fold4"]
    assert all(abs(folds.count(name) - 200) < 60 for name in shares)
    with pytest.raises(LabelError, match="at least 2"):
        fold_shares(1)


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "val": -0.5}])
def test_shares_must_add_up(shares: dict[str, float]) -> None:
    with pytest.raises(LabelError, match="add up to 1"):
        split_of("x", shares=shares)


def test_shares_that_rounding_leaves_under_one_still_cover_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = {"train": 0.7, "val": 0.2, "test": 0.1}
    assert 0.7 + 0.2 + 0.1 < 1  # sum() is exact from Python 3.12 on
    monkeypatch.setattr(splits, "hash_share", lambda _: 1 - 2**-53)  # as near 1 as there is
    assert split_of("x", shares=shares) == "test"


@pytest.mark.parametrize("lat", [0.0, 37.1, -64.0, 80.0])
def test_blocks_are_squares_that_hold_their_points(lat: float) -> None:
    block = block_at(11.5, lat, size_m=500)
    ring = block.ring()
    assert ring[0, 0] <= 11.5 < ring[1, 0]
    assert ring[0, 1] <= lat < ring[2, 1]
    sides = shapely.get_coordinates(
        in_metres(shapely.Polygon(ring), centre=tuple(ring.mean(axis=0)))
    )
    lengths = np.hypot(*np.diff(sides, axis=0).T)
    np.testing.assert_allclose(lengths, 500, rtol=0.01)


def test_blocks_are_the_same_on_both_sides_of_the_antimeridian() -> None:
    east, west = block_at(180.001, 10, size_m=1000), block_at(-179.999, 10, size_m=1000)
    assert east.key == west.key
    assert block_at(179.9, 10, size_m=1000).key != east.key


def test_blocks_over_a_footprint_cover_it() -> None:
    ring = np.array([[11.0, 48.0], [11.02, 48.0], [11.02, 48.01], [11.0, 48.01]])
    blocks = blocks_over(ring, size_m=300, margin_m=50)
    ground = shapely.union_all([shapely.Polygon(block.ring()).buffer(1e-9) for block in blocks])
    assert shapely.covers(ground, shapely.Polygon(ring))
    assert Block(blocks[0].row - 1, blocks[0].column, 300) not in blocks


def test_neighbours_share_a_block(tmp_path: Path, write_raster_at: Writer) -> None:
    items = []
    for number in range(6):
        place = Affine.translation(500_000 + 20 * number, 5_400_000) @ Affine.scale(0.5, -0.5)
        path = tmp_path / f"{number}.tif"
        write_raster_at(path, np.zeros((1, 20, 20), np.uint8), transform=place)
        items.append(LabelledRaster(str(path), NONE))
    found = split_rasters(items, key_of=by_block(50_000), shares=HALVES)
    assert len({item.split for item in found}) == 1
    apart = {by_block(20)(item) for item in items}
    assert len(apart) > 3


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_ground_is_needed_for_blocks(
    tmp_path: Path, write_raster_at: Writer, crs: str | None
) -> None:
    path = write_raster_at(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint8), crs=crs)
    items = [LabelledRaster(str(path), NONE)]
    with pytest.raises(GeoreferenceError, match=r"split by file or by site \(in a recipe: kind"):
        split_rasters(items, key_of=by_block(100), shares=HALVES)
    with pytest.raises(GeoreferenceError):
        split_ground(items, block_m=100, guard_m=10, shares=HALVES)


@pytest.mark.parametrize("angle", [0.0, 33.0])
def test_ground_is_divided_with_a_guard(
    tmp_path: Path, write_raster_at: Writer, angle: float
) -> None:
    place = (
        Affine.translation(500_000, 5_400_000) @ Affine.rotation(angle) @ Affine.scale(0.5, -0.5)
    )
    path = write_raster_at(tmp_path / "a.tif", np.zeros((1, 1000, 1600), np.uint8), transform=place)
    xs, ys = np.meshgrid(np.arange(0, 1600, 20.0), np.arange(0, 1000, 20.0))
    corner = np.stack([xs.ravel(), ys.ravel()], axis=1)
    boxes = np.concatenate([corner, corner + 8], axis=1)
    item = LabelledRaster(str(path), Labels.of(boxes, np.zeros(len(boxes)), ["tree"]))
    parts = split_ground([item], block_m=100, guard_m=20, shares=HALVES)
    assert [part.split for part in parts] == ["train", "val"]
    train, val = parts
    assert train.area is not None
    assert val.area is not None
    apart_m = train.area.distance(val.area) * read_grid(path).gsd_m()[0]
    assert 20 - 1e-6 <= apart_m < 20.1
    covered = (train.area.area + val.area.area) / (1000 * 1600)
    assert 0.5 < covered < 0.95  # the guard takes the rest
    for part in parts:
        assert shapely.intersects(part.area, shapely.box(*part.labels.boxes.T)).all()
    assert 0.2 < train.area.area / (train.area.area + val.area.area) < 0.8


def test_two_rasters_of_the_same_ground_are_divided_alike(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    north_up = Affine.translation(500_000, 5_400_000) @ Affine.scale(0.5, -0.5)
    turned = Affine.translation(500_020, 5_399_900) @ Affine.rotation(70) @ Affine.scale(0.4, -0.4)
    parts: list[list[LabelledRaster]] = []
    for number, place in enumerate((north_up, turned)):
        path = tmp_path / f"{number}.tif"
        write_raster_at(path, np.zeros((1, 600, 600), np.uint8), transform=place)
        parts.append(
            split_ground([LabelledRaster(str(path), NONE)], block_m=60, guard_m=10, shares=HALVES)
        )
    for one in parts[0]:
        for other in parts[1]:
            shapes = [
                in_metres(footprint(read_grid(item.raster), item.area), centre=(15.0, 48.75))
                for item in (one, other)
            ]
            if one.split != other.split:
                assert shapely.distance(*shapes) >= 10 - 0.1
            else:
                assert shapely.intersection(*shapes).area > 100


def test_an_impossible_guard_is_refused() -> None:
    with pytest.raises(LabelError, match="under block_m 100"):
        split_ground([], block_m=100, guard_m=100, shares=HALVES)


def test_unlabelled_ground_belongs_to_no_split(
    tmp_path: Path, write_raster_at: Callable[..., Path]
) -> None:
    path = write_raster_at(tmp_path / "a.tif", np.zeros((1, 400, 400), np.uint8), gsd=0.5)
    known = shapely.box(0, 0, 200, 400)
    raster = LabelledRaster(str(path), NONE, area=known)
    parts = split_ground([raster], block_m=40, guard_m=4, shares=HALVES)
    assert parts
    assert all(shapely.covers(known.buffer(1e-6), part.area) for part in parts)


def test_the_centre_decides_the_block(tmp_path: Path, write_raster_at: Callable[..., Path]) -> None:
    place = Affine.translation(500_000, 5_400_000) @ Affine.scale(0.5, -0.5)
    pixels = np.zeros((1, 2000, 3000), np.uint8)
    big = write_raster_at(tmp_path / "big.tif", pixels, transform=place)
    small_place = place @ Affine.translation(1490, 990)
    small = write_raster_at(tmp_path / "small.tif", pixels[:, :20, :20], transform=small_place)
    keys = {by_block(100)(LabelledRaster(str(path), NONE)) for path in (big, small)}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("shear", "scale"), [(30.0, (0.5, -0.5)), (0.0, (0.5, -0.2)), (-20.0, (0.3, 0.5))]
)
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_the_guard_is_kept_on_any_grid(
    tmp_path: Path, write_raster_at: Writer, shear: float, scale: tuple[float, float], crs: str
) -> None:
    """Sheared pixels, oblong ones, and degrees, which are shorter to the east."""
    unit, corner = (1, (500_000, 5_400_000)) if crs == "EPSG:32633" else (1e-5, (15.0, 60.0))
    place = (
        Affine.translation(*corner)
        @ Affine.scale(unit)
        @ Affine.shear(shear, 0)
        @ Affine.rotation(25)
        @ Affine.scale(*scale)
    )
    path = write_raster_at(
        tmp_path / "a.tif", np.zeros((1, 1000, 1600), np.uint8), transform=place, crs=crs
    )
    parts = split_ground([LabelledRaster(str(path), NONE)], block_m=80, guard_m=20, shares=HALVES)
    grid = read_grid(path)
    centre = footprint(grid, None).centroid
    shapes = [in_metres(footprint(grid, part.area), centre=(centre.x, centre.y)) for part in parts]
    assert 20 - 0.02 <= shapely.distance(*shapes) < 20.3
