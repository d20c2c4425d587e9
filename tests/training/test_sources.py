import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from fixture_types import WriteRaster
from pydantic import TypeAdapter

from geo_retina.errors import BandError, GeoreferenceError, LabelError, RadiometryError
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.training.class_counts import tell_classes
from geo_retina.training.data import read_data
from geo_retina.training.division import (
    ByColumn,
    ByGround,
    ByRaster,
    Division,
    Folds,
    divide_sources,
    refuse_empty_side,
    warn_of_few_labels,
)
from geo_retina.training.rasters import prepare_rasters
from geo_retina.training.sources import AnySource, CsvSource, Reading, VocSource

CSV = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}


def _names(labelled: list[LabelledRaster]) -> list[str]:
    return [Path(item.raster).stem for item in labelled]


def test_a_source_chooses_images(field_data: Path) -> None:
    (field_data / "some.txt").write_text("a\nb.tif\n\n")
    read = lambda **keys: _names(CsvSource(**CSV | keys).read(field_data, ("tree",)))  # noqa: E731
    assert read() == ["a", "b", "c"]
    assert read(split="val") == ["c"]
    assert read(split=("val", "train")) == ["a", "b", "c"]
    assert read(split=("train",)) == ["a", "b"]
    assert read(names="[bc]*") == ["b", "c"]
    assert read(only="some.txt", names="a*") == ["a"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"split": "test"}, "no image left"),
        ({"labels": "none.csv"}, "none.csv"),
        ({"only": "none.txt"}, "none.txt"),
        ({"only": "lost.txt"}, "1 of them are not among"),
    ],
)
def test_a_source_without_images_is_refused(
    keys: dict[str, Any], said: str, field_data: Path
) -> None:
    (field_data / "lost.txt").write_text("a\nzebra\n")
    with pytest.raises(LabelError, match=said):
        CsvSource(**CSV | keys).read(field_data, ("tree",))


def test_unknown_classes_are_refused(field_data: Path) -> None:
    with pytest.raises(LabelError, match="expected the classes car, found also 'tree'"):
        CsvSource(**CSV).read(field_data, ("car",))


def test_classes_of_labels_become_those_of_the_card(field_data: Path) -> None:
    rows = (field_data / "labels.csv").read_text().splitlines()
    kinds = ["car", "van", "ship", "plane"]
    for number, row in enumerate(rows[1:]):
        rows[number + 1] = row.replace("tree", kinds[number % 4])
    (field_data / "labels.csv").write_text("\n".join(rows))
    card = ("plane", "vehicle")
    source = CsvSource(**CSV, classes={"car": "vehicle", "van": "vehicle", "ship": ""})
    before = CsvSource(**CSV).read(field_data, tuple(kinds))
    for old, new in zip(before, source.read(field_data, card), strict=True):
        names = [kinds[number] for number in old.labels.class_ids]
        expected = [
            (*box, card.index("plane" if name == "plane" else "vehicle"))
            for box, name in zip(old.labels.boxes.tolist(), names, strict=True)
            if name != "ship"
        ]
        assert new.labels.class_names == card
        found = zip(new.labels.boxes.tolist(), new.labels.class_ids.tolist(), strict=True)
        assert [(*box, number) for box, number in found] == expected
    everything_out = CsvSource(**CSV, classes=dict.fromkeys(kinds, ""))
    assert not any(len(item.labels) for item in everything_out.read(field_data, card))
    with pytest.raises(LabelError, match=r"found also 'ship'.* classes of the source"):
        CsvSource(**CSV, classes={"car": "vehicle", "van": "vehicle"}).read(field_data, card)
    with pytest.raises(LabelError, match=r"\(plane, vehicle\), or an empty .* got 'car' = 'truck'"):
        CsvSource(**CSV, classes={"car": "truck"}).read(field_data, card)


def test_numbered_classes_are_named_in_their_order(field_data: Path) -> None:
    (field_data / "yolo").mkdir()
    (field_data / "yolo" / "a.txt").write_text("2 .5 .5 .1 .1\n0 .2 .2 .1 .1\n1 .7 .7 .1 .1\n")
    keys = {"kind": "labels", "labels": "yolo", "images": "images"}
    source = AnySource(
        **keys, names="a.*", classes={"ship": "", "car": "vehicle", "plane": "plane"}
    )
    (found,) = source.read(field_data, ("plane", "vehicle"))
    assert found.labels.class_ids.tolist() == [0, 1]
    some = AnySource(**keys, names="a.*", classes={"ship": ""})
    with pytest.raises(LabelError, match=r"0\.\.0 \(ship\), got 1, 2; .*classes of the source"):
        some.read(field_data, ("plane", "vehicle"))
    (field_data / "yolo" / "classes.txt").write_text("plane\nvehicle\nship\n")
    (found,) = some.read(field_data, ("plane", "vehicle"))
    assert found.labels.class_ids.tolist() == [0, 1]


def test_the_class_may_stand_in_any_column_of_a_csv(field_data: Path) -> None:
    text = (field_data / "labels.csv").read_text().replace(",label", ",species", 1)
    (field_data / "species.csv").write_text(text)
    with pytest.raises(LabelError, match=r"species.*class_column"):
        CsvSource(**CSV | {"labels": "species.csv"}).read(field_data, ("tree",))
    source = CsvSource(**CSV | {"labels": "species.csv", "class_column": "species"})
    assert _names(source.read(field_data, ("tree",))) == _names(
        CsvSource(**CSV).read(field_data, ("tree",))
    )


def test_labels_that_a_model_was_unsure_of_are_left_out(field_data: Path) -> None:
    (field_data / "scored.csv").write_text(
        "image_path,xmin,ymin,xmax,ymax,label,score\n"
        "a.tif,1,1,9,9,tree,0.9\na.tif,20,20,30,30,tree,0.2\n"
    )
    source = CsvSource(**CSV | {"labels": "scored.csv"}, least_score=0.5)
    (item,) = source.read(field_data, ("tree",))
    assert len(item.labels) == 1


def test_doubtful_labels_are_neither_objects_nor_background(field_data: Path) -> None:
    (field_data / "scored.csv").write_text(
        "image_path,xmin,ymin,xmax,ymax,label,score\n"
        "a.tif,1,1,9,9,tree,0.9\na.tif,20,20,30,30,tree,0.4\na.tif,40,40,50,50,tree,0.2\n"
    )
    source = CsvSource(**CSV | {"labels": "scored.csv"}, least_score=0.3, sure_score=0.5)
    (item,) = source.read(field_data, ("tree",))
    assert item.labels.boxes[:, 0].tolist() == [1, 20]
    assert item.labels.counted.tolist() == [True, False]


def test_any_format_with_its_options(field_data: Path) -> None:
    (field_data / "points").mkdir()
    (field_data / "points" / "a.csv").write_text("x,y\n50,40\n")
    source = AnySource(
        kind="labels", labels="points", images="images", format="points", point_size_m=2
    )
    found = source.read(field_data, ("tree",))
    assert [len(item.labels) for item in found] == [1, 0, 0]
    np.testing.assert_allclose(found[0].labels.boxes, [[40, 30, 60, 50]], atol=0.05)


def _labelled(path: Path, boxes: Any, **changes: Any) -> LabelledRaster:
    return LabelledRaster(str(path), Labels.of(boxes, np.zeros(len(boxes)), ["tree"]), **changes)


def test_objects_come_in_pixels_of_the_model(
    write_raster: Callable[..., Path], noise: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    path = write_raster("fine.tif", noise(3, 80, 120), gsd=0.05)
    area = shapely.box(0, 0, 60, 80)
    boxes = [(10, 20, 30, 40), (50, 70, 140, 90), (100, 70, 110, 80)]
    labelled = [_labelled(path, boxes, area=area)]
    (item,) = prepare_rasters(labelled, Reading(), make_card(), source="x", weight=2)
    assert (item.width, item.height, item.weight) == (60, 40, 2)
    np.testing.assert_allclose(item.boxes, [[5, 10, 15, 20], [25, 35, 60, 40]])  # not the last
    assert item.area is not None
    assert item.area.bounds == (0, 0, 30, 40)
    assert item.pixels == 30 * 40


@pytest.mark.parametrize(
    ("empty", "area", "warns"),
    [(2, None, True), (1, None, False), (2, shapely.box(0, 0, 9, 9), False)],
)
def test_a_training_tells_of_rasters_that_nobody_may_have_searched(
    write_raster: Callable[..., Path],
    noise: Callable[..., Any],
    make_card: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    empty: int,
    area: shapely.Polygon | None,
    warns: bool,
) -> None:
    path = write_raster("a.tif", noise(3, 40, 40))
    labelled = [_labelled(path, [(1, 2, 9, 9)]), *[_labelled(path, [], area=area)] * empty]
    prepare_rasters(labelled, Reading(), make_card(), source="x")
    assert (f"x: {empty} of {empty + 1} rasters without any object" in caplog.text) == warns


def test_rasters_that_do_not_fit_the_card_are_refused(
    write_raster: Callable[..., Path], noise: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    def prepare(path: Path, **reading: Any) -> Any:
        return prepare_rasters([_labelled(path, [])], Reading(**reading), make_card(), source="x")

    four = write_raster("four.tif", noise(4, 20, 20), colours=["nir", "gray", "gray", "gray"])
    with pytest.raises(BandError, match=r"red, green, blue.*reading\.bands"):
        prepare(four)
    assert prepare(four, bands=(2, 3, 4))
    deep = write_raster("deep.tif", noise(3, 20, 20, dtype="uint16"))
    with pytest.raises(RadiometryError, match=r"reading\.scale"):
        prepare(deep)
    assert prepare(deep, scale=(0, 250))
    plain = write_raster("plain.png", noise(3, 20, 20), crs=None, driver="PNG")
    with pytest.raises(GeoreferenceError, match=r"reading\.gsd_m"):
        prepare(plain)
    (item,) = prepare(plain, gsd_m=0.2)
    assert (item.width, item.height) == (40, 40)


def test_widths_and_heights_for_corners_are_refused(
    write_raster: Callable[..., Path], noise: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    path = write_raster("a.tif", noise(3, 40, 40))
    sizes = [(2 * step, 2 * step, 5, 6) for step in range(4, 16)]
    with pytest.raises(LabelError, match="expected two corners of each box, found x, y, width"):
        prepare_rasters([_labelled(path, sizes)], Reading(), make_card(), source="labels")


def test_labels_of_another_raster_are_refused(
    write_raster: Callable[..., Path], noise: Callable[..., Any], make_card: Callable[..., Any]
) -> None:
    path = write_raster("a.tif", noise(3, 20, 20))
    labelled = [_labelled(path, [(1, 1, 9, 9), (500, 1, 510, 9), (700, 3, 800, 9)])]
    with pytest.raises(LabelError, match=r"2 of 3 labels lie off their rasters"):
        prepare_rasters(labelled, Reading(), make_card(), source="x")


SHARES = {"train": 0.5, "val": 0.5}


def test_divisions_by_raster(field_data: Path) -> None:
    labelled = CsvSource(**CSV).read(field_data, ("tree",))
    column = ByColumn(kind="column").divide(labelled)
    assert [item.split for item in column] == ["train", "train", "val"]
    swapped = ByColumn(kind="column", train="val", val="train").divide(labelled)
    assert [item.split for item in swapped] == ["val", "val", "train"]
    sites = [replace(item, site="s" if index < 2 else "t") for index, item in enumerate(labelled)]
    by_site = ByRaster(kind="site", shares=SHARES).divide(sites)
    assert by_site[0].split == by_site[1].split


@pytest.mark.parametrize(
    "division",
    [
        {"kind": "file", "shares": SHARES},
        {"kind": "block", "shares": SHARES, "block_m": 1},
        {"kind": "folds", "folds": 2, "fold": 0},
        {"kind": "folds", "folds": 2, "fold": 0, "by": "block", "block_m": 1},
    ],
    ids=str,
)
def test_another_seed_gives_another_division(
    division: dict[str, object], write_raster: WriteRaster
) -> None:
    tree = Labels.of(np.array([[0.0, 0, 5, 5]]), [0], ("tree",))
    labelled = []
    for number in range(6):
        place = Affine(0.1, 0, 500_000 + 100 * number, 0, -0.1, 5_400_000)
        path = write_raster(f"{number}.tif", np.zeros((1, 9, 9), np.uint8), transform=place)
        labelled.append(LabelledRaster(str(path), tree))
    rule = TypeAdapter[Division](Division)
    rules = [rule.validate_python(division | {"seed": seed}) for seed in range(8)]
    assert len({tuple(item.split for item in one.divide(labelled)) for one in rules}) > 1


@pytest.mark.parametrize("seed", range(20))
def test_sources_are_divided_as_one(seed: int) -> None:
    one = Labels.of(np.array([[0.0, 0, 5, 5]]), [0], ("tree",))
    sites = [["x", "y"], ["x", "z", "v", "w"]]  # x in both, and few in the first one
    sources = [[LabelledRaster(f"{site}.tif", one, site=site) for site in each] for each in sites]
    divided = divide_sources(ByRaster(kind="site", seed=seed), sources)
    assert [[item.site for item in items] for items in divided] == sites
    both = [item for items in divided for item in items]
    assert len({(item.site, item.split) for item in both}) == 5, "a site is on one side"
    single = [[LabelledRaster(f"{number}.tif", one)] for number in range(5)]
    divided = divide_sources(ByRaster(kind="file", seed=seed), single)
    assert {item.split for (item,) in divided} == {"train", "val"}


def test_each_raster_is_val_in_one_fold(field_data: Path) -> None:
    labelled = CsvSource(**CSV).read(field_data, ("tree",))
    sides = [
        [item.split for item in Folds(kind="folds", folds=3, fold=fold).divide(labelled)]
        for fold in range(3)
    ]
    for per_raster in zip(*sides, strict=True):
        assert sorted(per_raster) == ["train", "train", "val"]


def test_folds_must_exist() -> None:
    with pytest.raises(ValueError, match=r"fold must be in 0\.\.2"):
        Folds(kind="folds", folds=3, fold=3)
    with pytest.raises(ValueError, match="block_m belongs to"):
        Folds(kind="folds", folds=3, fold=0, by="block")


def test_an_empty_side_is_refused(field_data: Path) -> None:
    labelled = CsvSource(**CSV).read(field_data, ("tree",))
    column = ByColumn(kind="column", val="validation")
    with pytest.raises(LabelError, match=r"val has 0 rasters and no object.*divide\.val"):
        refuse_empty_side(column.divide(labelled), column)
    ground = ByGround(kind="ground", block_m=500, guard_m=0, seed=3, shares={"train": 1.0})
    with pytest.raises(LabelError, match=r"blocks of 500 m.*another divide\.seed \(now 3\)"):
        refuse_empty_side(ground.divide(labelled), ground)
    whole = ByRaster(kind="file", shares={"train": 1.0})
    with pytest.raises(LabelError, match=r"another divide\.seed"):
        refuse_empty_side(whole.divide(labelled), whole)
    with pytest.raises(LabelError, match="divided by its ground"):
        refuse_empty_side(whole.divide(labelled[:1]), whole)


def test_a_val_side_of_few_labels_is_warned_of_with_a_seed_that_helps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One plot of ten holds nearly all labels of the small ones together."""
    boxes = np.array([[0, 0, 9, 9]] * 60, np.float64)
    counts = [2, 3, 60, 2, 60, 1, 60, 60, 60, 60]
    plots = [
        LabelledRaster(f"{number}.tif", Labels.of(boxes[:count], [0] * count, ("tree",)))
        for number, count in enumerate(counts)
    ]

    shares = {"train": 0.8, "val": 0.2}

    def on_val(seed: int) -> int:
        found = ByRaster(kind="file", shares=shares, seed=seed).divide(plots)
        return sum(len(item.labels) for item in found if item.split == "val")

    wanted = shares["val"] * sum(counts)
    poor = next(seed for seed in range(500) if on_val(seed) < 10)
    fair = next(seed for seed in range(500) if wanted / 2 < on_val(seed) < wanted)
    for seed, warned in ((poor, True), (fair, False)):
        division = ByRaster(kind="file", shares=shares, seed=seed)
        caplog.clear()
        warn_of_few_labels(division.divide(plots), division)
        assert bool(caplog.records) == warned
        for record in caplog.records:
            told = record.getMessage()
            assert f"val holds {on_val(seed)} label" in told
            named, given = map(int, re.findall(r"divide\.seed=(\d+) gives it (\d+)", told)[0])
            assert on_val(named) == given
            assert wanted / 2 < given < 2 * wanted


def test_no_seed_is_named_where_none_gives_val_more(caplog: pytest.LogCaptureFixture) -> None:
    boxes = np.array([[0, 0, 9, 9]] * 900, np.float64)
    plots = [
        LabelledRaster(f"{count}.tif", Labels.of(boxes[:count], [0] * count, ("tree",)))
        for count in (10, 900)
    ]
    of_all = (ByRaster(kind="file", seed=seed) for seed in range(20))
    poor = next(it for it in of_all if it.divide(plots)[0].split == "val")
    warn_of_few_labels(poor.divide(plots), poor)
    assert "no other divide.seed would help" in caplog.text
    assert "divide.seed=" not in caplog.text


def test_a_class_that_a_side_lacks_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """What is ignored is no object; a single class is not told."""
    names = ("car", "bus 2", "Zug")
    boxes = np.array([[0, 0, 9, 9]] * 3, np.float64)
    train = Labels.of(boxes, [0, 0, 2], names)
    val = Labels.of(boxes, [0, 1, 2], names, ignored=np.array([False, True, False]))
    sides = [
        LabelledRaster("a.tif", train, split="train"),
        LabelledRaster("b.tif", val, split="val"),
    ]
    caplog.set_level("INFO", logger="geo_retina")
    tell_classes(sides, names)
    assert "train: 'car' 2, 'bus 2' 0, 'Zug' 1" in caplog.text
    warnings = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert [text.split(":")[0] for text in warnings] == [
        "train holds no object of 'bus 2'",
        "val holds no object of 'bus 2'",
    ]
    caplog.clear()
    tell_classes(sides[:1], ("car",))
    assert not caplog.records


def test_one_large_raster_is_divided_by_ground(
    recipe: Callable[..., Any], field_data: Path
) -> None:
    """15 m x 12 m are divided into blocks of 4 m with 1 m between train and val."""
    settings = recipe(
        train=[CSV | {"names": "a.tif"}],
        divide=ByGround(kind="ground", block_m=4, guard_m=1, shares=SHARES).model_dump(),
    )
    data = read_data(settings, field_data)
    assert data.leakage is not None
    assert not data.leakage.leaks
    (nearest,) = data.leakage.nearest
    assert nearest.metres >= 0.99
    (train,), (val,) = data.train, data.val
    assert train.area is not None
    assert val.labelled.area is not None
    assert not shapely.intersects(train.area, val.labelled.area)


def test_val_sources_are_read_apart(
    recipe: Callable[..., Any], field_data: Path, val_source: Any
) -> None:
    data = read_data(recipe(val=[val_source]), field_data)
    assert [Path(item.path).stem for item in data.train] == ["a", "b"]
    assert [Path(item.labelled.raster).stem for item in data.val] == ["c"]
    assert data.leakage is not None
    (nearest,) = data.leakage.nearest
    assert nearest.metres == pytest.approx(85, abs=1)
    assert read_data(recipe(), field_data).leakage is None


def test_nothing_to_learn_from_is_refused(recipe: Callable[..., Any], field_data: Path) -> None:
    (field_data / "empty.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,,,,,\n")
    with pytest.raises(LabelError, match="hold no object"):
        read_data(recipe(train=[CSV | {"labels": "empty.csv"}]), field_data)


@pytest.mark.parametrize("box", [",,,", "20,20,20.2,30"], ids=["none", "left out by cleaning"])
def test_nothing_to_measure_on_is_refused(
    recipe: Callable[..., Any], field_data: Path, box: str
) -> None:
    header = "image_path,xmin,ymin,xmax,ymax,label"
    (field_data / "empty.csv").write_text(f"{header}\nc.tif,{box},tree\n")
    val = CSV | {"labels": "empty.csv"}
    with pytest.raises(LabelError, match=r"val rasters \(1\) hold no object: nothing can be meas"):
        read_data(recipe(val=[val]), field_data)


def test_labels_without_scores_are_not_chosen_by_score(field_data: Path) -> None:
    for key in ("least_score", "sure_score"):
        source = CsvSource(**CSV | {key: 0.4})
        with pytest.raises(LabelError, match=r"have none; leave the two keys out"):
            source.read(field_data, ("tree",))


def test_nothing_is_set_aside_for_a_test_that_a_training_has_not() -> None:
    assert ByRaster(kind="file").shares == {"train": 0.8, "val": 0.2}


def test_rasters_without_georeference_need_their_gsd_alone(
    write_raster: Callable[..., Path], make_card: Callable[..., Any]
) -> None:
    path = write_raster("plain.png", np.zeros((3, 40, 50), np.uint8), crs=None, driver="PNG")
    labelled = [LabelledRaster(str(path), Labels.empty(["tree"]))]
    with pytest.raises(GeoreferenceError, match=r"reading = \{ gsd_m = 0\.1 \}") as refused:
        prepare_rasters(labelled, Reading(), make_card(), source="plain")
    assert "--pixel-coordinates" not in str(refused.value)
    assert "reading.bands" not in str(refused.value)
    (prepared,) = prepare_rasters(labelled, Reading(gsd_m=0.1), make_card(), source="plain")
    assert (prepared.width, prepared.height) == (50, 40)


def test_voc_labels_are_of_the_image_that_is_stated(
    tmp_path: Path, write_raster: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("old.tif", "renamed.tif"):
        write_raster(name, np.zeros((3, 20, 20), np.uint8))
    (tmp_path / "renamed.xml").write_text(
        "<annotation><filename>old.tif</filename><object><name>tree</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    source = VocSource(kind="voc", images=("renamed.tif",))
    (item,) = source.read(tmp_path, ("tree",))
    assert item.raster == str(tmp_path / "renamed.tif")
    assert len(item.labels) == 1
    assert "<filename> is old.tif; taken for the labels of" in caplog.text
