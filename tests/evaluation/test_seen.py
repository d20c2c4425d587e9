import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS
from shapely.affinity import translate

from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.seen import KnownRaster, cautions, known_raster, read_split_map
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid
from geo_retina.training.split_map import SPLIT_NAME, write_split_map

BOXES = np.array([[0, 0, 9, 9], [20, 0, 29, 9.0]])


def pair_at(name: str, *, east: float = 0, known: int = 2) -> Pair:
    grid = Grid(40, 40, Affine(0.5, 0, 500_000 + east, 0, -0.5, 5_400_000), CRS.from_epsg(32633))
    labels = Labels.of(BOXES[:known], [0] * known, ("tree",))
    return Pair(name, Detections.empty(), labels, grid=grid)


def unplaced(name: str) -> Pair:
    return replace(pair_at(name), grid=None)


@pytest.fixture
def split(tmp_path: Path, write_raster_at: Callable[..., Path]) -> Path:
    """The map of a training on a.tif and b.tif, measured on c.tif, 1 km from each other."""
    sides = []
    for number, name in enumerate("abc"):
        place = Affine.translation(500_000 + 1000 * number, 5_400_000) @ Affine.scale(0.5, -0.5)
        path = write_raster_at(
            tmp_path / f"{name}.tif", np.zeros((3, 40, 40), np.uint8), transform=place
        )
        labels = Labels.of(BOXES, [0, 0], ("tree",))
        sides.append(LabelledRaster(str(path), labels, split="val" if name == "c" else "train"))
    write_split_map(tmp_path, sides)
    return tmp_path / SPLIT_NAME


def test_rasters_of_both_sides_are_counted_with_their_labels(split: Path) -> None:
    pairs = [
        pair_at("elsewhere/a.tif"),
        pair_at("elsewhere/b.tif", east=1000, known=1),
        pair_at("elsewhere/c.tif", east=2000),
        pair_at("d.tif"),
    ]
    train, val = cautions(pairs, read_split_map(split))
    assert train == (
        "2 of 4 rasters (3 of 7 labels) have the names of rasters that this model learned from: "
        "the numbers are optimistic."
    )
    assert val.startswith("1 of 4 rasters (2 of 7 labels) has the name of a raster that chose this")


def test_a_name_that_lies_elsewhere_is_another_raster(split: Path) -> None:
    known = read_split_map(split)
    assert cautions([pair_at("a.tif", east=5000)], known) == []
    part = replace(pair_at("a.tif"), area=shapely.box(0, 0, 10, 40))
    assert len(cautions([part], known)) == 1
    rest = replace(known[0], ground=shapely.box(20, 50, 21, 51))
    assert cautions([part], [rest]) == []


def test_what_was_read_again_is_as_sure_as_its_path(split: Path) -> None:
    raster = LabelledRaster(str(split.with_name("a.tif")), Labels.empty(("tree",)))
    for sure, doubt in ((True, "are optimistic."), (False, "are optimistic if they are the same.")):
        (text,) = cautions([pair_at("a.tif")], [known_raster(raster, "train", sure=sure)])
        assert text.endswith(doubt)
    assert cautions([pair_at("a.tif", east=5000)], [known_raster(raster, "train", sure=True)]) == []


def test_without_georeference_names_count_and_the_size_of_the_files(tmp_path: Path) -> None:
    for name, size in (("one", 10), ("copy", 10), ("other", 11)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x" * size)
    known = [KnownRaster(str(tmp_path / "one/1.png"), "train")]
    assert cautions([unplaced(str(tmp_path / "copy/1.png"))], known)
    assert not cautions([unplaced(str(tmp_path / "other/1.png"))], known)
    assert cautions([unplaced(str(tmp_path / "absent/1.png"))], known)


def test_a_raster_on_both_sides_was_learned_from() -> None:
    known = [KnownRaster("1.png", "val"), KnownRaster("1.png", "train")]
    (text,) = cautions([unplaced("1.png")], known)
    assert "learned from" in text
    assert cautions([unplaced("1.png")], [KnownRaster("1.png", "test")]) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"features": [{}]}), None])
def test_a_map_that_cannot_be_read_tells_nothing(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / SPLIT_NAME).write_text(content)
    assert read_split_map(tmp_path / SPLIT_NAME) == []


def test_a_local_crs_has_no_ground(tmp_path: Path, write_raster_at: Callable[..., Path]) -> None:
    crs = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = write_raster_at(tmp_path / "a.tif", np.zeros((3, 40, 40), np.uint8), crs=crs)
    known = known_raster(LabelledRaster(str(path), Labels.empty(("tree",))), "train", sure=True)
    assert known.ground is None
    local = replace(pair_at(str(path)), grid=replace(pair_at("").grid, crs=CRS.from_wkt(crs)))
    assert cautions([local], [known])


def test_neighbours_of_one_name_are_two_rasters(split: Path) -> None:
    """They share an edge, and by rounding a sliver of ground."""
    known = read_split_map(split)
    west, _, east, _ = known[0].ground.bounds if known[0].ground is not None else (0,) * 4
    assert east > west
    for move, count in ((0.999, 0), (0.5, 1)):
        moved = replace(known[0], ground=translate(known[0].ground, xoff=move * (east - west)))
        assert len(cautions([pair_at("a.tif")], [moved])) == count
