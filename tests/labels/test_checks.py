import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

from geo_retina.labels.checks import check_labels
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.pictures import contact_sheet
from geo_retina.labels.registration import estimate_shift

Writer = Callable[..., Path]
SIDE = 400


@pytest.fixture
def planted(tmp_path: Path, write_raster_at: Writer) -> LabelledRaster:
    """Bright rectangles on dark, noisy ground, labelled where they are."""
    rng = np.random.default_rng(0)
    corner = np.stack(np.meshgrid(np.arange(10, 380, 36), np.arange(10, 380, 36)), -1)
    corner = corner.reshape(-1, 2) + rng.integers(0, 10, (121, 2))
    boxes = np.concatenate([corner, corner + rng.integers(8, 22, (121, 2))], axis=1)
    pixels = rng.integers(30, 60, (3, SIDE, SIDE)).astype(np.uint8)
    for x_min, y_min, x_max, y_max in boxes:
        pixels[:, y_min:y_max, x_min:x_max] += 100
    path = write_raster_at(tmp_path / "planted.tif", pixels)
    return LabelledRaster(str(path), Labels.of(boxes, np.zeros(len(boxes)), ["tank"]))


def moved(item: LabelledRaster, x: float, y: float) -> LabelledRaster:
    return LabelledRaster(
        item.raster, item.labels.with_boxes(item.labels.boxes + np.array([x, y, x, y]))
    )


@pytest.mark.parametrize(("x", "y"), [(0, 0), (5, -7), (-11, 3), (50, -47)])
def test_a_shift_of_the_labels_is_measured(planted: LabelledRaster, x: int, y: int) -> None:
    shift = estimate_shift([moved(planted, x, y)])
    assert (shift.x_px, shift.y_px) == (-x, -y)
    assert shift.is_suspect == ((x, y) != (0, 0))


def test_boxes_around_points_are_never_suspect(planted: LabelledRaster) -> None:
    middle = (planted.labels.boxes[:, :2] + planted.labels.boxes[:, 2:]) / 2 + 6
    boxes = np.concatenate([middle - 8, middle + 8], axis=1)
    shift = estimate_shift([LabelledRaster(planted.raster, planted.labels.with_boxes(boxes))])
    assert not shift.is_suspect


def test_good_labels_pass(planted: LabelledRaster) -> None:
    empty = LabelledRaster(planted.raster, Labels.empty(["tank"]))
    report = check_labels([planted, empty])
    assert report.is_clean
    assert (report.rasters, report.empty_rasters, report.labels) == (2, 1, 121)
    assert report.per_class == (("tank", 121),)
    assert "to mend: nothing" in report.to_text()
    json.dumps(report.to_dict())


def test_faults_are_counted_and_named(planted: LabelledRaster) -> None:
    boxes = planted.labels.boxes.copy()
    boxes[0] = boxes[0, [2, 3, 0, 1]]
    boxes[1] = boxes[2]
    boxes[3, 2] = boxes[3, 0]
    report = check_labels([moved(planted, 9, 9), _with(planted, boxes)])
    assert (report.totals.swapped, report.totals.duplicates, report.totals.too_small) == (1, 1, 1)
    assert not report.is_clean
    assert "1 swapped, 1 too small, 1 duplicate" in report.to_text()


def test_misregistration_is_reported_per_site(planted: LabelledRaster) -> None:
    wrong = moved(planted, 4, 6)
    report = check_labels(
        [
            LabelledRaster(planted.raster, planted.labels, "north"),
            LabelledRaster(wrong.raster, wrong.labels, "south"),
        ]
    )
    assert [(site, shift.is_suspect) for site, shift in report.shifts] == [
        ("north", False),
        ("south", True),
    ]
    assert "at south: the labels fit better -4 px to the right and -6 px down" in report.to_text()


def test_a_shift_on_one_raster_is_a_warning_and_on_several_a_fault(
    tmp_path: Path, planted: LabelledRaster
) -> None:
    wrong = moved(planted, 7, 8)
    alone = check_labels([wrong])
    assert alone.is_clean
    assert "to mend: nothing" in alone.to_text()
    assert "warning: suspected misregistration: the labels fit better -7 px" in alone.to_text()
    copy = LabelledRaster(
        shutil.copy(wrong.raster, tmp_path / "copy.tif"), wrong.labels.select(np.arange(90))
    )
    both = check_labels([wrong, copy])
    assert not both.is_clean
    assert "to mend: the place of the labels" in both.to_text()
    assert "several rasters agree that the labels fit better -7 px" in both.to_text()


def test_crowded_objects_do_not_meet_their_neighbours_edges(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    rng = np.random.default_rng(9)
    middles = rng.uniform(8, SIDE - 8, (700, 2))
    shown = [0]
    for index, middle in enumerate(middles):
        if (np.abs(middles[shown] - middle).max(axis=1) > 17).all():
            shown.append(index)
    boxes = np.concatenate([middles[shown] - 8, middles[shown] + 8], axis=1)
    boxes[:, 2:] += rng.uniform(0, 1, (len(boxes), 2))
    pixels = rng.integers(0, 60, (3, SIDE, SIDE)).astype(np.uint8)
    faint = rng.permutation(len(boxes))[:6]  # what makes the one chance peak
    for x_min, y_min, x_max, y_max in boxes[faint].astype(int):
        pixels[:, y_min + 19 : y_max + 19, x_min + 10 : x_max + 10] += 120
    path = write_raster_at(tmp_path / "crowded.tif", pixels)
    item = LabelledRaster(str(path), Labels.of(boxes, np.zeros(len(boxes)), ["crown"]))
    shift = estimate_shift([item])
    assert shift.labels >= 100
    assert not shift.is_suspect


def test_an_outline_among_the_labels_is_something_to_mend(planted: LabelledRaster) -> None:
    boxes = np.concatenate([planted.labels.boxes, [[2.0, 2, 398, 398]]])
    labels = Labels.of(boxes, np.zeros(len(boxes)), ["tank"])
    report = check_labels([replace(planted, labels=labels)])
    assert not report.is_clean
    assert "to mend: 1 suspect box\n" in report.to_text()
    assert "1 suspect box: label 122 (x 2 to 398, y 2 to 398 px: 28 times" in report.to_text()
    json.dumps(report.to_dict())


def test_class_names_that_look_alike_are_to_mend(planted: LabelledRaster) -> None:
    names = ["Big Tree", "big-tree", "bigtree", "bush"]
    labels = Labels.of(planted.labels.boxes, np.arange(121) % 4, names)
    report = check_labels([replace(planted, labels=labels)])
    assert not report.is_clean
    assert "to mend: class names, see below" in report.to_text()
    assert "look alike: 'Big Tree', 'big-tree', 'bigtree'; if" in report.to_text()
    assert "'bush' 30" in report.to_text()


def test_rasters_of_other_kinds_are_to_mend(
    tmp_path: Path, planted: LabelledRaster, write_raster_at: Writer
) -> None:
    with rasterio.open(planted.raster) as file:
        pixels = file.read()
    four = write_raster_at(tmp_path / "four.tif", np.concatenate([pixels, pixels[:1]]))
    report = check_labels([planted, planted, replace(planted, raster=str(four))])
    assert not report.is_clean
    assert "to mend: rasters of different kinds, see below" in report.to_text()
    assert "3 bands on 1 raster; 4 bands on four.tif" in report.to_text()
    coarse = write_raster_at(tmp_path / "coarse.tif", pixels, gsd=0.2)
    report = check_labels([planted, replace(planted, raster=str(coarse))])
    assert report.is_clean
    assert "warning: rasters of different GSD: " in report.to_text()


def test_boxes_are_compared_in_metres_where_all_rasters_tell_their_gsd(
    tmp_path: Path, planted: LabelledRaster, write_raster_at: Writer
) -> None:
    """On ten times finer pixels an object of the same size is ten times as wide."""
    with rasterio.open(planted.raster) as file:
        shape, gsd, pixels = file.shape, file.res[0], file.read()
    box = np.array([[50.0, 50, 200, 200]])  # the others have 8 to 22 px
    noisy = np.random.default_rng(1).integers(30, 60, (3, *shape)).astype(np.uint8)
    fine = write_raster_at(tmp_path / "fine.tif", noisy, gsd=gsd / 10)
    few = LabelledRaster(str(fine), Labels.of(box, [0], ["tank"]))
    assert check_labels([planted, few]).is_clean

    alike = write_raster_at(tmp_path / "alike.tif", noisy, gsd=gsd)
    (problem,) = check_labels([planted, replace(few, raster=str(alike))]).problems
    assert len(problem.suspects) == 1

    placeless = write_raster_at(tmp_path / "placeless.tif", pixels, crs=None)
    beside = [planted, replace(planted, raster=str(placeless)), few]
    (problem,) = check_labels(beside).problems
    assert problem.raster == str(fine), "without all GSDs, pixels are compared"


def test_a_raster_that_shows_nothing_is_to_mend(
    tmp_path: Path, planted: LabelledRaster, write_raster_at: Writer
) -> None:
    black = write_raster_at(tmp_path / "black.tif", np.zeros((3, SIDE, SIDE), np.uint8))
    report = check_labels([replace(planted, raster=str(black))])
    assert report.problems[0].note == "the pixels under its labels are all alike"


def test_labels_in_a_part_of_their_raster_are_a_warning(
    tmp_path: Path, planted: LabelledRaster, write_raster_at: Writer
) -> None:
    with rasterio.open(planted.raster) as file:
        pixels = file.read()
    wide = np.tile(pixels, (1, 1, 4))
    large = write_raster_at(tmp_path / "large.tif", wide)
    report = check_labels([replace(planted, raster=str(large)), planted])
    assert report.is_clean
    assert "warning: all labels lie within a small part of large.tif (2" in report.to_text()
    told = replace(planted, raster=str(large), area=shapely.box(0, 0, SIDE, SIDE))
    assert "small part" not in check_labels([told]).to_text()


def test_many_rasters_without_objects_are_a_warning(planted: LabelledRaster) -> None:
    empty = LabelledRaster(planted.raster, Labels.empty(["tank"]))
    searched = replace(empty, area=shapely.box(0, 0, 9, 9))
    said = "warning: 2 of 3 rasters without any object; "
    assert said in check_labels([planted, empty, empty]).to_text()
    assert "warning" not in check_labels([planted, empty]).to_text()
    assert "warning" not in check_labels([planted, searched, searched]).to_text()


def test_every_problem_is_something_to_mend(planted: LabelledRaster) -> None:
    report = check_labels([planted, LabelledRaster("absent.tif", planted.labels)])
    assert not report.is_clean
    assert "to mend: what is noted below of 1 raster" in report.to_text()


@pytest.mark.parametrize(
    ("boxes", "note"),
    [
        (np.array([[0.1, 0.1, 0.2, 0.2]] * 3), "shares of the image"),
        (np.array([[5e5, 5.4e6, 5e5 + 3, 5.4e6 + 3]] * 3), "world coordinates"),
    ],
)
def test_labels_of_another_frame_are_suspected(
    planted: LabelledRaster, boxes: np.ndarray, note: str
) -> None:
    labels = Labels.of(boxes, np.zeros(3), ["tank"])
    report = check_labels([LabelledRaster(planted.raster, labels)])
    assert note in report.problems[0].note


def test_swapped_axes_are_suspected(tmp_path: Path, write_raster_at: Writer) -> None:
    path = write_raster_at(tmp_path / "wide.tif", np.zeros((3, 50, 200), np.uint8))
    boxes = np.array([[10.0, 10, 20, 20], [10, 100, 20, 120], [30, 150, 40, 160], [5, 180, 9, 190]])
    report = check_labels([LabelledRaster(str(path), Labels.of(boxes, np.zeros(4), ["a"]))])
    assert "x and y look swapped" in report.problems[0].note


def test_a_missing_raster_is_reported_not_raised(planted: LabelledRaster) -> None:
    report = check_labels([planted, LabelledRaster("absent.tif", planted.labels)])
    assert "absent.tif" in report.problems[0].raster
    assert "does not exist" in report.problems[0].note


def test_no_labels_at_all() -> None:
    report = check_labels([])
    assert report.is_clean
    assert report.labels == 0


def test_contact_sheet_shows_boxes(tmp_path: Path, planted: LabelledRaster) -> None:
    empty = LabelledRaster(planted.raster, Labels.empty(["tank"]))
    sheet = contact_sheet([planted, empty], tmp_path / "sheet.png")
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (336, 4 * 320, 3)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    assert yellow[:, :320].any()
    assert not yellow[:, 320:].any()


def _with(item: LabelledRaster, boxes: np.ndarray) -> LabelledRaster:
    return LabelledRaster(item.raster, item.labels.with_boxes(boxes))


def test_features_that_hardly_reach_onto_a_raster_are_no_fault(planted: LabelledRaster) -> None:
    """They lie on its neighbour; in a file of one raster's own pixels they are a mistake."""
    boxes = np.array([[SIDE - 1.0, 100 + 30 * k, SIDE + 19, 120 + 30 * k] for k in range(4)])
    boxes = np.concatenate([planted.labels.boxes, boxes])
    own = replace(planted, labels=Labels.of(boxes, np.zeros(len(boxes)), ["tank"]))
    assert check_labels([own]).totals.outside == 4
    assert not check_labels([own]).is_clean
    features = replace(own, labels=replace(own.labels, fids=np.arange(len(boxes))))
    report = check_labels([features])
    assert report.is_clean
    assert "to mend: nothing (4 cut at the edge, no fault)" in report.to_text()
