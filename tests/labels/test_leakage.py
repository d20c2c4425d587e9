import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from geo_retina.labels import leakage
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.leakage import audit_splits
from geo_retina.labels.splits import split_ground

Writer = Callable[..., Path]
Planter = Callable[..., LabelledRaster]


@pytest.fixture
def plant(tmp_path: Path, write_raster_at: Writer) -> Planter:
    """`plant(name, split, east_m)`: a raster of 20 x 20 m with pixels of its own."""
    rng = np.random.default_rng(0)

    def make(name: str, split: str, east_m: float, **options: object) -> LabelledRaster:
        place = Affine.translation(500_000 + east_m, 5_400_000) @ Affine.scale(0.5, -0.5)
        pixels = options.pop("pixels", None)
        if pixels is None:
            pixels = rng.integers(0, 255, (3, 40, 40)).astype(np.uint8)
        path = write_raster_at(tmp_path / name, pixels, **({"transform": place} | options))
        site = str(options.get("site", ""))
        return LabelledRaster(str(path), Labels.empty(["tree"]), site=site, split=split)

    return make


def test_a_clean_split_says_how_far_apart_it_is(plant: Planter) -> None:
    report = audit_splits(
        [plant("a.tif", "train", 0), plant("b.tif", "train", 5000), plant("c.tif", "val", 120)]
    )
    assert not report.leaks
    (nearest,) = report.nearest
    assert nearest.metres == pytest.approx(100, rel=1e-3)  # edge to edge, UTM's 0.04 % aside
    assert Path(nearest.raster).name == "a.tif"
    assert report.per_split == (("train", 2, 0), ("val", 1, 0))
    json.dumps(report.to_dict())


def test_shared_ground_is_found_and_measured(plant: Planter) -> None:
    report = audit_splits([plant("a.tif", "train", 0), plant("b.tif", "val", 15)])
    assert report.leaks
    (overlap,) = report.overlaps
    assert overlap.square_m == pytest.approx(5 * 20, rel=1e-2)
    assert "share 100 square metres" in report.to_text()
    assert report.nearest[0].metres == 0


def test_every_overlap_is_found_not_only_the_nearest(plant: Planter) -> None:
    items = [plant(f"t{n}.tif", "train", 1000 * n) for n in range(4)]
    items += [plant(f"v{n}.tif", "val", 1000 * n + 10) for n in range(3)]
    assert len(audit_splits(items).overlaps) == 3


def test_overlap_inside_one_split_is_no_leak(plant: Planter) -> None:
    report = audit_splits([plant("a.tif", "train", 0), plant("b.tif", "train", 5)])
    assert not report.leaks
    assert report.nearest == ()


def test_the_same_pixels_in_another_file_are_found(plant: Planter) -> None:
    pixels = np.arange(1200, dtype=np.uint16).reshape(3, 20, 20)
    one = plant("a.tif", "train", 0, pixels=pixels, compress="deflate")
    other = plant("b.tif", "val", 9000, pixels=pixels, tiled=True, blockxsize=16, blockysize=16)
    report = audit_splits([one, other])
    assert report.leaks
    assert len(report.same_pixels) == 1
    assert "hold the same pixels" in report.to_text()


def test_without_georeference_only_pixels_are_compared(plant: Planter) -> None:
    items = [
        plant("a.tif", "train", 0, crs=None, transform=None),
        plant("b.tif", "val", 0, crs=None, transform=None),
    ]
    report = audit_splits(items)
    assert not report.leaks
    assert report.unplaced == 2


def test_a_raster_in_two_splits_leaks_unless_it_is_divided(plant: Planter) -> None:
    item = plant("a.tif", "train", 0)
    assert audit_splits([item, replace(item, split="val")]).leaks
    left = replace(item, area=shapely.box(0, 0, 10, 40))
    right = replace(item, split="val", area=shapely.box(30, 0, 40, 40))
    report = audit_splits([left, right])
    assert not report.leaks
    assert report.nearest[0].metres == pytest.approx(10, rel=1e-2)


def test_divided_ground_passes_the_audit(tmp_path: Path, write_raster_at: Writer) -> None:
    path = write_raster_at(tmp_path / "a.tif", np.zeros((1, 400, 400), np.uint8), gsd=0.5)
    parts = split_ground(
        [LabelledRaster(str(path), Labels.empty(["tree"]))],
        block_m=40,
        guard_m=8,
        shares={"train": 0.5, "val": 0.5},
    )
    report = audit_splits(parts)
    assert not report.leaks
    assert report.nearest[0].metres == pytest.approx(8, abs=0.1)


def test_sites_in_several_splits_are_named(plant: Planter) -> None:
    items = [
        replace(plant("a.tif", "train", 0), site="NIWO"),
        replace(plant("b.tif", "val", 500), site="NIWO"),
        replace(plant("c.tif", "val", 900), site="TEAK"),
    ]
    report = audit_splits(items)
    assert report.shared_sites == ("NIWO",)
    assert not report.leaks


def test_nothing_to_audit() -> None:
    assert not audit_splits([]).leaks


def test_a_plain_picture_in_two_splits_leaks(plant: Planter) -> None:
    item = plant("a.tif", "train", 0, crs=None, transform=None)
    assert audit_splits([item, replace(item, split="val")]).leaks


def test_the_antimeridian_is_no_gap(tmp_path: Path, write_raster_at: Callable[..., Path]) -> None:
    rng, items = np.random.default_rng(0), []
    for name, split, west in (("a", "train", 179.9995), ("b", "val", -179.9999)):
        place = Affine(1e-5, 0, west, 0, -1e-5, 1)
        pixels = rng.integers(0, 255, (3, 40, 60 if name == "a" else 40)).astype(np.uint8)
        path = write_raster_at(tmp_path / f"{name}.tif", pixels, transform=place, crs="EPSG:4326")
        items.append(LabelledRaster(str(path), Labels.empty(["tree"]), split=split))
    report = audit_splits(items)
    assert report.nearest[0].metres < 50, report.nearest


@pytest.mark.parametrize("east", [0, 300, 600])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3035"])
def test_neighbours_that_touch_share_nothing(plant: Planter, east: int, crs: str) -> None:
    """A large tile beside a shorter one, far from the central meridian, where edges are bent."""
    x, y = (300_000, 5_400_000) if crs == "EPSG:32633" else (3_300_000, 2_300_000)
    rng = np.random.default_rng(1)
    large, small = (
        rng.integers(0, 255, (1, *shape)).astype(np.uint8) for shape in ((500, 500), (200, 200))
    )

    def tile(
        name: str, split: str, pixels: np.ndarray, east_m: float, north_m: float
    ) -> LabelledRaster:
        place = Affine.translation(x + east_m, y + north_m) @ Affine.scale(2, -2)
        return plant(name, split, 0, pixels=pixels, transform=place, crs=crs)

    one = tile("a.tif", "train", large, 0, 0)
    sides = {
        "below": (east, -1000),
        "above": (east, 400),
        "right": (1000, -east),
        "left": (-400, -east),
    }
    for name, (right, up) in sides.items():
        touching = audit_splits([one, tile(f"{name}.tif", "val", small, right, up)])
        assert not touching.leaks, (name, touching.overlaps)
        assert touching.nearest[0].metres < 0.01
    for name, (right, up) in sides.items():
        inwards = (np.sign(500 - right - 200) * 6, np.sign(-500 - up + 200) * 6)
        moved = tile(f"{name}.tif", "val", small, right + inwards[0], up + inwards[1])
        assert audit_splits([one, moved]).leaks, name


@pytest.mark.parametrize(("overlap_px", "leaks"), [(0.4, False), (2, True), (3, True)])
def test_up_to_a_row_of_pixels_is_rounding(plant: Planter, overlap_px: float, leaks: bool) -> None:
    """Also a corner of a few pixels counts, though it is less than a row."""
    one = plant("a.tif", "train", 0)
    beside = plant("b.tif", "val", 20 - 0.5 * overlap_px)
    corner = plant(
        "c.tif", "val", 0,
        transform=Affine.translation(500_020 - 0.5 * overlap_px, 5_400_020 - 0.5 * overlap_px)
        @ Affine.scale(0.5, -0.5),
    )  # fmt: skip
    assert audit_splits([one, beside]).leaks == leaks
    assert audit_splits([one, corner]).leaks == leaks


def test_a_row_of_pixels_is_that_of_the_finer_raster(plant: Planter) -> None:
    fine = plant("fine.tif", "train", 0)  # 0.5 m
    overlapping = Affine.translation(500_019, 5_400_000) @ Affine.scale(4, -4)  # by 1 m
    coarse = plant("coarse.tif", "val", 0, transform=overlapping)
    assert audit_splits([fine, coarse]).leaks
    assert audit_splits([replace(fine, split="val"), replace(coarse, split="train")]).leaks


def test_a_raster_without_labelled_ground_shares_nothing(plant: Planter) -> None:
    one = plant("a.tif", "train", 0)
    empty = replace(plant("b.tif", "val", 5), area=shapely.MultiPolygon())
    report = audit_splits([one, empty])
    assert not report.leaks
    assert report.unplaced == 0


def test_empty_tiles_give_nothing_away(plant: Planter) -> None:
    black = np.zeros((3, 40, 40), np.uint8)
    items = [plant(f"{n}.tif", "tv"[n % 2], 1000 * n, pixels=black) for n in range(4)]
    assert not audit_splits(items).leaks


def test_each_copy_is_named_once_however_many_there_are(plant: Planter) -> None:
    pixels = np.arange(1200, dtype=np.uint16).reshape(3, 20, 20)
    items = [
        plant(f"{n}.tif", "val" if n % 3 else "train", 1000 * n, pixels=pixels) for n in range(60)
    ]
    report = audit_splits(items)
    assert len(report.same_pixels) == 59
    assert all(item.split != item.other_split for item in report.same_pixels)
    lines = report.to_text().splitlines()
    assert sum("hold the same pixels" in line for line in lines) == 20
    assert "LEAK: and 39 more of this kind" in lines


def test_a_tile_that_crosses_180_shares_ground_with_one_beyond(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    rng, items = np.random.default_rng(0), []
    for name, split, west in (("a", "train", 179.9997), ("b", "val", -179.9999)):
        place = Affine(1e-5, 0, west, 0, -1e-5, 1)
        pixels = rng.integers(0, 255, (3, 40, 60)).astype(np.uint8)
        path = write_raster_at(tmp_path / f"{name}.tif", pixels, transform=place, crs="EPSG:4326")
        items.append(LabelledRaster(str(path), Labels.empty(["tree"]), split=split))
    swapped = [replace(items[0], split="val"), replace(items[1], split="train")]
    for pair in (items, swapped):
        (overlap,) = audit_splits(pair).overlaps
        assert overlap.square_m == pytest.approx(20 * 40 * 1.113**2, rel=0.02)


@pytest.mark.parametrize(
    ("dtype", "values"), [(np.uint8, (0, 0, 0, 255)), (np.float32, (np.nan,) * 4)]
)
def test_tiles_of_one_colour_or_of_nan_give_nothing_away(
    plant: Planter, dtype: type, values: tuple[float, ...]
) -> None:
    pixels = np.tile(np.array(values, dtype)[:, None, None], (1, 40, 40))
    items = [plant(f"{n}.tif", "tv"[n % 2], 1000 * n, pixels=pixels) for n in range(2)]
    assert not audit_splits(items).leaks


def test_many_rasters_of_one_place_are_compared(
    plant: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leakage, "_PAIRS_AT_ONCE", 4)
    items = [plant(f"{n}.tif", "train" if n % 2 else "val", n) for n in range(8)]
    assert len(audit_splits(items).overlaps) == 16


@pytest.mark.parametrize(
    ("crs", "origin"),
    [
        ("EPSG:3413", (-20_000, 20_000)),
        ("EPSG:32633", (9e9, 9e9)),
        ('LOCAL_CS["site",UNIT["metre",1]]', (0, 0)),
    ],
)
def test_a_raster_without_a_place_on_the_earth_is_compared_by_its_pixels(
    tmp_path: Path, write_raster_at: Writer, crs: str, origin: tuple[float, float]
) -> None:
    rng, items = np.random.default_rng(0), []
    for split in ("train", "val"):
        place = Affine.translation(*origin) @ Affine.scale(1000, -1000)
        pixels = rng.integers(0, 255, (3, 40, 40)).astype(np.uint8)
        path = write_raster_at(tmp_path / f"{split}.tif", pixels, transform=place, crs=crs)
        items.append(LabelledRaster(str(path), Labels.empty(["tree"]), split=split))
    report = audit_splits(items)
    assert not report.leaks
    assert report.unplaced == 2
    assert "2 rasters without a place on the Earth" in report.to_text()
