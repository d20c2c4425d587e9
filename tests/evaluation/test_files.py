import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from geo_retina.errors import LabelError
from geo_retina.evaluation.doubts import missing_entries
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.files import ComparedFiles, read_pairs
from geo_retina.evaluation.pairs import Pair, raster_of
from geo_retina.evaluation.report import write_report
from geo_retina.labels.files import read_grid
from geo_retina.labels.formats import LabelSource
from geo_retina.labels.labels import Labels
from geo_retina.labels.vector import VectorOptions
from geo_retina.space.detections import Detections

BOXES = np.array([[2.0, 3, 12, 11], [20, 20, 33, 30]])
QUICK = EvaluationOptions(bootstrap_samples=0)


@pytest.fixture
def folder(tmp_path: Path, write_raster_at: Callable[..., Path]) -> Path:
    """Two rasters a kilometre apart; labels of both and detections of the first, as files."""
    for number, name in enumerate(("a", "b")):
        place = Affine.translation(500_000 + 1000 * number, 5_400_000) @ Affine.scale(0.5, -0.5)
        write_raster_at(tmp_path / f"{name}.tif", np.zeros((3, 40, 40), np.uint8), transform=place)
    rows = [f"a.tif,{','.join(map(str, box))},tree,val" for box in BOXES.tolist()]
    text = ["image_path,xmin,ymin,xmax,ymax,label,split", *rows, "b.tif,,,,,,train"]
    (tmp_path / "labels.csv").write_text("\n".join(text))
    frame = detections(tmp_path / "a.tif")
    frame.to_crs("EPSG:4326").to_file(tmp_path / "found.geojson")
    (tmp_path / "found").mkdir()
    frame.to_file(tmp_path / "found" / "a.gpkg")
    return tmp_path


def detections(raster: Path) -> gpd.GeoDataFrame:
    grid = read_grid(raster)
    shapes = shapely.polygons(grid.box_corners(BOXES + 1))
    return gpd.GeoDataFrame({"score": [0.9, 0.4]}, geometry=shapes, crs=grid.crs)


def compared(folder: Path, found: str, split: str | None = None) -> ComparedFiles:
    return ComparedFiles(
        labels=LabelSource(path=str(folder / "labels.csv")),
        detections=LabelSource(path=str(folder / found)),
        split=split,
    )


@pytest.mark.parametrize("found", ["found.geojson", "found"])
def test_vector_detections_meet_csv_labels(folder: Path, found: str) -> None:
    first, second = read_pairs(compared(folder, found))
    np.testing.assert_allclose(first.detections.boxes, BOXES + 1, atol=0.02)
    np.testing.assert_allclose(first.detections.scores, [0.9, 0.4])
    assert len(second.detections) == 0
    result = evaluate_detections([first, second], options=QUICK)
    assert result.quality.best.hits == 2
    assert result.counts.bias_per_ha == 0


def test_a_raster_without_labels_matters_only_where_something_was_found_on_it(
    folder: Path,
) -> None:
    text = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join(text[:-1]))  # b.tif was not labelled
    files = ComparedFiles(
        labels=LabelSource(path=str(folder / "labels.csv")),
        detections=LabelSource(path=str(folder / "found.geojson"), images=str(folder)),
    )
    (pair,) = read_pairs(files)
    assert len(pair.detections) == 2
    (folder / "labels.csv").write_text(f"{text[0]}\nb.tif,,,,,,train")
    with pytest.raises(LabelError, match=r"1 raster without labels: a\.tif"):
        read_pairs(files)


def test_a_local_crs_has_no_hectares_and_no_place(
    tmp_path: Path, write_raster_at: Callable[..., Path]
) -> None:
    crs = 'LOCAL_CS["site",UNIT["metre",1]]'
    raster = write_raster_at(tmp_path / "a.tif", np.zeros((3, 40, 40), np.uint8), crs=crs)
    labels = Labels.of(BOXES, [0, 0], ("tree",))
    pair = Pair(str(raster), Detections.empty(), labels, grid=read_grid(raster))
    assert pair.hectares() is None
    evaluation = evaluate_detections([pair], options=QUICK)
    assert write_report([pair], evaluation, tmp_path / "r.html").html.is_file()


def test_only_the_wanted_split_is_compared(folder: Path) -> None:
    pairs = read_pairs(compared(folder, "found.geojson", "val"))
    assert [Path(pair.name).name for pair in pairs] == ["a.tif"]
    with pytest.raises(LabelError, match="belongs to the split 'test'; known: train, val"):
        read_pairs(compared(folder, "found.geojson", "test"))


def test_csv_detections_of_other_splits_are_left_out(folder: Path) -> None:
    rows = ["a.tif,2,3,12,11,tree,0.5", "b.tif,2,3,12,11,tree,0.5"]
    text = ["image_path,xmin,ymin,xmax,ymax,label,score", *rows]
    (folder / "found.csv").write_text("\n".join(text))
    (pair,) = read_pairs(compared(folder, "found.csv", "val"))
    assert len(pair.detections) == 1
    (folder / "found.csv").write_text("\n".join([*text, "c.tif,2,3,12,11,tree,0.5"]))
    with pytest.raises(LabelError, match=r"without labels: c\.tif"):
        read_pairs(compared(folder, "found.csv"))


def test_two_files_for_one_raster_are_refused(folder: Path) -> None:
    detections(folder / "a.tif").to_file(folder / "found" / "a.fgb")
    with pytest.raises(LabelError, match=r"several files of detections for a: a\.gpkg, a\.fgb"):
        read_pairs(compared(folder, "found"))


def test_a_folder_may_hold_the_csv_files_of_detect(folder: Path) -> None:
    frame = detections(folder / "a.tif")
    (folder / "csv").mkdir()
    frame.to_wkt().rename(columns={"geometry": "WKT"}).to_csv(folder / "csv" / "a.csv", index=False)
    files = compared(folder, "csv")
    vector = VectorOptions(crs=frame.crs.to_string())
    files = replace(files, detections=replace(files.detections, vector=vector))
    first, _ = read_pairs(files)
    np.testing.assert_allclose(first.detections.boxes, BOXES + 1, atol=0.02)
    np.testing.assert_allclose(first.detections.scores, [0.9, 0.4])


def test_a_folder_may_hold_the_coco_files_of_detect(folder: Path) -> None:
    (folder / "coco").mkdir()
    for number, name in enumerate(("a", "b")):
        x, y, *corner = (BOXES + 1)[number]
        box = {"bbox": [x, y, corner[0] - x, corner[1] - y], "score": 0.9 - number / 2}
        content = {
            "images": [{"id": 1, "file_name": f"{name}.tif"}],
            "categories": [{"id": 1, "name": "tree"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **box}],
        }
        (folder / "coco" / f"{name}.coco.json").write_text(json.dumps(content))
    found = [pair.detections for pair in read_pairs(compared(folder, "coco"))]
    assert [one.boxes.tolist() for one in found] == [[box] for box in (BOXES + 1).tolist()]
    assert [one.scores.tolist() for one in found] == [pytest.approx([0.9]), pytest.approx([0.4])]


def test_yolo_detections_meet_yolo_labels(folder: Path) -> None:
    for name, score in (("truth", ""), ("yolo", " 0.7")):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(f"0 0.5 0.5 0.25 0.25{score}\n")
    compared = ComparedFiles(
        labels=LabelSource(path=str(folder / "truth"), images=str(folder), class_names=("tree",)),
        detections=LabelSource(
            path=str(folder / "yolo"), images=str(folder), class_names=("tree",)
        ),
        label_format="yolo",
    )
    first, _ = read_pairs(compared)
    assert first.detections.scores.tolist() == pytest.approx([0.7])


def test_a_folder_that_holds_no_detections_is_no_empty_result(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(LabelError, match="expected one vector file"):
        read_pairs(compared(folder, "none"))
    (folder / "none" / "other.gpkg").write_text("")  # of no raster, by its name
    with pytest.raises(LabelError, match=r"such as a\.gpkg; none of its files .* one of 2 rasters"):
        read_pairs(compared(folder, "none"))


def test_all_classes_may_count_as_one(folder: Path) -> None:
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace("tree,val", "Alive,val", 1))
    frame = detections(folder / "a.tif")
    frame["class"] = ["crown", "palm"]
    frame.to_file(folder / "found.gpkg")
    files = compared(folder, "found.gpkg")
    with pytest.raises(LabelError, match="--class-agnostic"):
        read_pairs(files)
    first, second = read_pairs(replace(files, class_agnostic=True))
    assert first.labels.class_names == second.labels.class_names == ("object",)
    assert evaluate_detections([first, second], options=QUICK).quality.at_score.hits == 2


@pytest.mark.parametrize("found", ["found.csv", "found.gpkg"])
def test_a_class_column_is_that_of_the_file_that_has_it(folder: Path, found: str) -> None:
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace("ymax,label", "ymax,species"))
    frame = detections(folder / "a.tif")
    frame["class"] = "tree"
    frame.to_file(folder / "found.gpkg")
    rows = [f"a.tif,{','.join(map(str, box))},tree,0.5" for box in BOXES.tolist()]
    (folder / "found.csv").write_text(
        "\n".join(["image_path,xmin,ymin,xmax,ymax,label,score", *rows])
    )
    column = VectorOptions(class_column="species")
    files = compared(folder, found)
    files = replace(
        files,
        labels=replace(files.labels, vector=column),
        detections=replace(files.detections, vector=column),
    )
    first, _ = read_pairs(files)
    assert first.labels.class_names == ("tree",)
    assert len(first.detections) == 2


def test_missing_rasters_name_the_option(folder: Path) -> None:
    (folder / "b.tif").unlink()
    with pytest.raises(LabelError, match=r"1 of its 2 rasters do not exist.*--images"):
        read_pairs(compared(folder, "found"))


def with_species(folder: Path) -> ComparedFiles:
    """Labels and detections in vector files; of the labels the class is in `species`."""
    known = detections(folder / "a.tif").drop(columns="score")
    known["species"] = ["oak", "pine"]
    known.to_file(folder / "known.gpkg")
    found = detections(folder / "a.tif")
    found["class"] = ["oak", "oak"]
    found["kind"] = ["pine", "pine"]
    found.to_file(folder / "found.gpkg")
    found.to_parquet(folder / "found.parquet")
    column = VectorOptions(class_column="species")
    return ComparedFiles(
        labels=LabelSource(
            path=str(folder / "known.gpkg"), images=str(folder / "a.tif"), vector=column
        ),
        detections=LabelSource(
            path=str(folder / "found.gpkg"), images=str(folder / "a.tif"), vector=column
        ),
    )


def found_classes(files: ComparedFiles) -> list[str]:
    (pair,) = read_pairs(files)
    assert pair.labels.class_names == ("oak", "pine")
    return [pair.labels.class_names[key] for key in pair.detections.class_ids]


@pytest.mark.parametrize("found", ["found.gpkg", "found.parquet", "found"])
def test_detections_without_the_labels_column_have_their_own(folder: Path, found: str) -> None:
    files = with_species(folder)
    frame = gpd.read_file(folder / "found.gpkg")
    frame.to_file(folder / "found" / "a.gpkg")
    files = replace(files, detections=replace(files.detections, path=str(folder / found)))
    assert found_classes(files) == ["oak", "oak"]
    assert found_classes(replace(files, detections_class_column="kind")) == ["pine", "pine"]
    with pytest.raises(LabelError, match="expected a column 'absent'"):
        read_pairs(replace(files, detections_class_column="absent"))


def test_detections_with_the_labels_column_keep_it(folder: Path) -> None:
    files = with_species(folder)
    frame = gpd.read_file(folder / "found.gpkg").assign(species=["pine", "oak"])
    frame.to_file(folder / "found.gpkg")
    assert found_classes(files) == ["pine", "oak"]


def test_detections_whose_class_is_in_no_known_column_name_the_option(folder: Path) -> None:
    files = with_species(folder)
    gpd.read_file(folder / "found.gpkg").drop(columns="class").to_file(folder / "found.gpkg")
    with pytest.raises(LabelError, match="--detections-class-column") as refused:
        read_pairs(files)
    assert "recipe" not in str(refused.value), "no recipe names detections"


def test_a_csv_of_detections_may_have_its_own_column(folder: Path) -> None:
    rows = [f"a.tif,{','.join(map(str, box))},tree,0.5" for box in BOXES.tolist()]
    (folder / "found.csv").write_text(
        "\n".join(["image_path,xmin,ymin,xmax,ymax,kind,score", *rows])
    )
    files = replace(compared(folder, "found.csv"), detections_class_column="kind")
    assert len(read_pairs(files)[0].detections) == 2
    with pytest.raises(LabelError, match="absent"):
        read_pairs(replace(files, detections_class_column="absent"))


@pytest.mark.parametrize("found", ["found.geojson", "found", "found.csv"])
def test_labelled_rasters_that_the_detections_do_not_name_are_told(
    folder: Path, found: str
) -> None:
    header = "image_path,xmin,ymin,xmax,ymax,label,score"
    (folder / "found.csv").write_text(f"{header}\na.tif,2,3,12,11,tree,0.5")
    assert missing_entries(read_pairs(compared(folder, found))) == [], "b.tif has no labels"
    text = (folder / "labels.csv").read_text().replace("b.tif,,,,,,", "b.tif,2,3,12,11,tree,")
    (folder / "labels.csv").write_text(text)
    assert missing_entries(read_pairs(compared(folder, found))) == [
        "1 of 2 rasters has no entry in the detections: all their labels count as missed."
    ]
    if found == "found.csv":
        (folder / found).write_text(f"{header}\na.tif,2,3,12,11,tree,0.5\nb.tif,,,,,,")
        assert missing_entries(read_pairs(compared(folder, found))) == []


def test_rasters_of_one_name_in_two_folders_are_told_apart(
    folder: Path, write_raster_at: Callable[..., Path]
) -> None:
    """Detections of the one, which is left out by its split, are not those of the other."""
    rows = {"a": (10, 10, 20, 20), "b": (40, 40, 60, 60)}
    labels, found = ["image_path,xmin,ymin,xmax,ymax,label,split"], []
    for number, (name, box) in enumerate(rows.items()):
        (folder / "twins" / name).mkdir(parents=True)
        place = Affine(0.1, 0, 500_000 + 1000 * number, 0, -0.1, 5_400_000)
        pixels = np.zeros((3, 80, 80), np.uint8)
        write_raster_at(folder / "twins" / name / "x.tif", pixels, transform=place)
        corners = ",".join(map(str, box))
        labels.append(f"{name}/x.tif,{corners},tree,{'val' if name == 'a' else 'train'}")
        found.append(f"{name}/x.tif,{corners},tree,0.9")
    (folder / "twins.csv").write_text("\n".join(labels) + "\n")
    header = "image_path,xmin,ymin,xmax,ymax,label,score"
    (folder / "found.csv").write_text("\n".join([header, *found]) + "\n")
    images = str(folder / "twins")
    files = ComparedFiles(
        labels=LabelSource(path=str(folder / "twins.csv"), images=images),
        detections=LabelSource(path=str(folder / "found.csv"), images=images),
        split="val",
    )
    (pair,) = read_pairs(files)
    assert pair.detections.boxes.tolist() == [list(rows["a"])]
    assert len(read_pairs(replace(files, split=None))) == 2


def test_a_raster_is_found_by_its_path_first_and_by_its_name_where_that_is_clear() -> None:
    labelled = ["images/a.tif", "images/b/x.tif", "images/c/x.tif"]
    found = ["./images/../images/c/x.tif", "elsewhere/a.tif", "images/b/x.tif", "other.tif"]
    assert raster_of(found, labelled) == [2, 0, 1, None]
    assert raster_of(["elsewhere/x.tif", "images/b/x.tif"], labelled) == [2, 1]
    with pytest.raises(LabelError, match=r"may belong to images/b/x\.tif, images/c/x\.tif"):
        raster_of(["elsewhere/x.tif"], labelled)
    with pytest.raises(LabelError, match=r"detections name images/a\.tif more than once"):
        raster_of(["here/a.tif", "there/a.tif"], labelled)
    with pytest.raises(LabelError, match=r"the labels name .*images/a\.tif more than once"):
        raster_of([], ["images/a.tif", "images/./a.tif"])


GRID_OF_BOXES = np.stack(np.meshgrid([2, 12, 22, 32], [1, 11, 21]), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.hstack([GRID_OF_BOXES, np.full_like(GRID_OF_BOXES, 4)]), "like x, y, width, height"),
        (np.hstack([GRID_OF_BOXES, GRID_OF_BOXES + 4]) / 40, "look like shares of the image"),
        (
            np.hstack([GRID_OF_BOXES, GRID_OF_BOXES + 4]) + [30, 0] * 2,
            "left out 9 of 12 detections",
        ),
        (np.hstack([GRID_OF_BOXES, GRID_OF_BOXES + 4]), None),
    ],
    ids=["sizes", "shares", "outside", "as expected"],
)
def test_detections_in_other_units_are_told(
    folder: Path, caplog: pytest.LogCaptureFixture, boxes: np.ndarray, message: str | None
) -> None:
    """They had been measured without a word, or left out."""
    rows = [f"a.tif,{','.join(map(str, box))},tree,0.5" for box in boxes.tolist()]
    text = "\n".join(["image_path,xmin,ymin,xmax,ymax,label,score", *rows, "b.tif,,,,,,"])
    (folder / "found.csv").write_text(text)
    read_pairs(compared(folder, "found.csv"))
    if message is None:
        assert not caplog.messages
    else:
        assert message in caplog.text
