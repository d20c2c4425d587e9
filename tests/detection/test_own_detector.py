from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import MakeCard, WriteRaster
from numpy.typing import NDArray
from scipy import ndimage

from geo_retina.detection.file_run import detect_to_files
from geo_retina.detection.options import WorkOptions
from geo_retina.detection.own_detector import wrap_detector
from geo_retina.detection.run import detect
from geo_retina.errors import ConfigError, LedgerError, ModelError

Field = Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]
Found = tuple[Any, Any, Any]


class Squares:
    """Finds bright squares, at most so many on a chip, each of them twice; it counts its chips."""

    def __init__(self, most: int = 10_000) -> None:
        self.most = most
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, chips: NDArray[Any]) -> list[Found]:
        self.shapes.append(chips.shape)
        return [self._on(chip[0]) for chip in chips]

    def _on(self, band: NDArray[Any]) -> Found:
        slices = ndimage.find_objects(ndimage.label(band > 140)[0])
        boxes = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in slices]
        scores = [float(band[s].max() / 255) for s in slices]
        twice = [*boxes, *boxes][: self.most]
        return twice, [*scores, *(score / 2 for score in scores)][: self.most], [0] * len(twice)


def _centres(frame: Any) -> list[tuple[float, float]]:
    points = frame.centroid
    return sorted(zip(points.x.round(3), points.y.round(3), strict=True))


def test_what_it_finds_is_stitched_and_georeferenced(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field
) -> None:
    pixels, boxes = field_of_objects(300, 210)
    path = write_raster("field.tif", pixels)
    squares = Squares()
    model = wrap_detector(
        squares, make_card(chip_px=96, overlap_px=32), version="1", limit=None, batch=3
    )

    found = detect(path, model=model)

    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 20
    expected = sorted(
        zip((500_000 + x).round(3).tolist(), (5_400_000 - y).round(3).tolist(), strict=True)
    )
    assert _centres(found) == expected
    assert {shape[2:] for shape in squares.shapes} == {(96, 96)}
    assert max(shape[0] for shape in squares.shapes) == 3


def test_classes_of_one_name_are_counted_together(
    make_card: MakeCard, write_raster: WriteRaster, tmp_path: Path
) -> None:
    def find(chips: NDArray[Any]) -> list[Found]:
        boxes = [(5, 5, 15, 15), (20, 20, 30, 30), (40, 40, 50, 50)]
        return [(boxes, [0.9, 0.8, 0.7], [0, 1, 1]) for _ in chips]

    card = make_card(class_names=("N/A", "N/A", "tree"))
    path = write_raster("field.tif", np.full((3, 64, 64), 9, np.uint8))
    model = wrap_detector(find, card, version="1", limit=None)
    done = detect_to_files(path, [tmp_path / "out.gpkg"], model=model)
    assert done.objects_by_class == {"N/A": 3, "tree": 0}


def test_small_rasters_are_filled_so_that_the_scale_is_one(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field
) -> None:
    squares = Squares()
    model = wrap_detector(squares, make_card(chip_px=256, overlap_px=32), version="1", limit=None)
    pixels, boxes = field_of_objects(90, 70)

    found = detect(write_raster("small.tif", pixels), model=model)
    assert len(found) == len(boxes)
    assert squares.shapes == [(1, 3, 256, 256)]
    alone = model.detect_chip(pixels)
    assert sorted(alone.boxes.tolist()) == sorted(boxes.tolist())


def test_a_larger_chip_is_what_is_asked_for(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field
) -> None:
    squares = Squares()
    model = wrap_detector(squares, make_card(chip_px=96, overlap_px=32), version="1", limit=None)
    detect(write_raster("field.tif", field_of_objects(300, 210)[0]), model=model, chip_px=160)
    assert {shape[2:] for shape in squares.shapes} == {(160, 160)}


def test_a_chip_with_as_many_boxes_as_it_returns_is_split(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field, tmp_path: Path
) -> None:
    pixels, boxes = field_of_objects(300, 300)
    path = write_raster("field.tif", pixels)
    card = make_card(chip_px=256, overlap_px=32)
    model = wrap_detector(Squares(most=60), card, version="1", limit=60)

    summary = detect_to_files(path, [tmp_path / "found.gpkg"], model=model)
    assert summary.counts.objects == len(boxes) > 3 * 60
    assert summary.counts.windows_split > 0
    assert summary.counts.windows_saturated == 0


def test_boxes_under_the_score_fill_no_limit(
    make_card: MakeCard, write_raster: WriteRaster, tmp_path: Path
) -> None:
    def unsure(chips: NDArray[Any]) -> list[Found]:
        boxes = [(x, 0, x + 10, 10) for x in range(0, 200, 20)]
        return [(boxes, [0.9] + [0.01] * 9, np.zeros(10)) for _ in chips]

    card = make_card(chip_px=256, overlap_px=32)
    model = wrap_detector(unsure, card, version="1", limit=10)
    path = write_raster("a.tif", np.full((3, 256, 256), 9, np.uint8))
    summary = detect_to_files(path, [tmp_path / "found.gpkg"], model=model)
    assert (summary.counts.objects, summary.counts.windows_split) == (1, 0)


def test_boxes_end_where_the_raster_ends_before_they_are_compared(make_card: MakeCard) -> None:
    def overhanging(chips: NDArray[Any]) -> list[Found]:
        boxes = [[0, 0, 64, 64], [0, 30, 64, 64], [10, 45, 64, 64]]  # IoU 0.53; 0.25 in the chip
        return [(boxes, [0.9, 0.8, 0.7], [0, 0, 0]) for _ in chips]

    model = wrap_detector(
        overhanging, make_card(chip_px=64, overlap_px=16), version="1", limit=None
    )
    found = model.detect_chip(np.zeros((3, 40, 64), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 64, 40], [0, 30, 64, 40]]


def test_chips_that_it_changes_are_its_own(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field
) -> None:
    squares = Squares(most=60)

    def spoiling(chips: NDArray[Any]) -> list[Found]:
        found = squares(chips)
        chips[:] = 0
        return found

    pixels, boxes = field_of_objects(300, 300)
    card = make_card(chip_px=256, overlap_px=32)
    path = write_raster("field.tif", pixels)
    found = detect(path, model=wrap_detector(spoiling, card, version="1", limit=60, batch=2))
    assert len(found) == len(boxes)  # though chips were split and run again


def test_what_it_runs_on_is_the_callers_matter(
    make_card: MakeCard, write_raster: WriteRaster
) -> None:
    model = wrap_detector(Squares(), make_card(), version="1", limit=None)
    path = write_raster("a.tif", np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(ConfigError, match=r"batch=4 have no effect; give batch to wrap_detector"):
        detect(path, model=model, batch=4)


def test_a_broken_run_goes_on_with_the_same_version_and_card_alone(
    make_card: MakeCard, write_raster: WriteRaster, field_of_objects: Field, tmp_path: Path
) -> None:
    pixels, boxes = field_of_objects(300, 300)
    path, card = write_raster("field.tif", pixels), make_card(chip_px=96, overlap_px=32)
    output = tmp_path / "found.gpkg"
    squares = Squares()

    def breaking(chips: NDArray[Any]) -> list[Found]:
        if len(squares.shapes) == 9:
            raise RuntimeError("the graphics card fell off the bus")
        return squares(chips)

    with pytest.raises(RuntimeError, match="fell off"):
        detect_to_files(
            path, [output], model=wrap_detector(breaking, card, version="1", limit=None)
        )
    renamed = card.model_copy(update={"class_names": ("house",)})
    for other in (
        wrap_detector(Squares(), card, version="2", limit=None),
        wrap_detector(Squares(), renamed, version="1", limit=None),
    ):
        with pytest.raises(LedgerError, match="hash was"):
            detect_to_files(path, [output], model=other, work=WorkOptions(resume=True))
    rest = Squares()
    summary = detect_to_files(
        path,
        [output],
        model=wrap_detector(rest, card, version="1", limit=None),
        work=WorkOptions(resume=True),
    )
    assert summary.counts.objects == len(boxes)
    assert len(rest.shapes) < summary.windows


BOX = [[1, 2, 30, 40]]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((BOX, [0.5]), "expected boxes, scores and class ids of each chip"),
        (None, "returned None"),
        ({"boxes": BOX, "labels": [0], "scores": [0.5]}, r"returned \{'boxes'.*could not"),
        ((BOX, [0.5], ["car"]), "could not convert string to float"),
        ((torch.ones((1, 4), requires_grad=True), [0.5], [0]), r"tensor\.detach\(\)"),
        ((torch.ones((1, 4), device="meta"), [0.5], [0]), r"Tensor\.cpu\(\)"),
        ((BOX, [[0.5]], [0]), r"returned \(1, 4\), \(1, 1\) and \(1,\)"),
        (([[1, 2, float("nan"), 40]], [0.5], [0]), "finite numbers"),
        (([[1, 2, float("inf"), 40]], [0.5], [0]), "finite numbers"),
        ((BOX, [0.5, 0.4], [0]), r"returned \(1, 4\), \(2,\) and \(1,\)"),
        (([1, 2, 30, 40], [0.5], [0]), r"returned \(4,\), \(1,\) and \(1,\)"),
        ((BOX, [3.5], [0]), "apply the sigmoid"),
        ((BOX, [float("nan")], [0]), "expected scores in 0 to 1"),
        ((BOX, [0.5], [2]), "background is not counted"),
        ((BOX, [0.5], [0.5]), "background is not counted"),
        (([[100, 90, 30, 40]], [0.5], [0]), r"\[100, 90, 30, 40\].*centre and size"),
        (([[100.123456, 90.123456, 30.1, 40]], [0.5], [0]), r"\[100\.123, 90\.1235, 30\.1, 40\]"),
        (([[0.1, 0.2, 0.3, 0.4]] * 3, [0.5] * 3, [0] * 3), "in pixels of the chip"),
    ],
)
def test_what_is_no_detection_is_an_error(make_card: MakeCard, found: Any, message: str) -> None:
    model = wrap_detector(lambda chips: [found] * len(chips), make_card(), version="1", limit=None)
    with pytest.raises(ModelError, match=message):
        model.detect_chip(np.zeros((3, 64, 64), np.uint8))


@pytest.mark.parametrize(("answers", "returned"), [([], "0 values"), (None, "None")])
def test_each_chip_needs_an_answer(make_card: MakeCard, answers: Any, returned: str) -> None:
    model = wrap_detector(lambda _chips: answers, make_card(), version="1", limit=None)
    with pytest.raises(ModelError, match=f"for each of 1 chips, the detector returned {returned}"):
        model.detect_chip(np.zeros((3, 64, 64), np.uint8))


@pytest.mark.parametrize("nothing", [([], [], []), (np.zeros((0, 4)), np.zeros(0), np.zeros(0))])
def test_nothing_is_a_value(make_card: MakeCard, nothing: Found) -> None:
    model = wrap_detector(
        lambda chips: [nothing] * len(chips), make_card(), version="1", limit=None
    )
    assert len(model.detect_chip(np.zeros((3, 64, 64), np.uint8))) == 0


def test_bad_arguments_are_an_error(make_card: MakeCard) -> None:
    with pytest.raises(ConfigError, match="expected a function"):
        wrap_detector("yolo11n.pt", make_card(), version="1", limit=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected a geo_retina\.ModelCard as card, got a dict"):
        wrap_detector(Squares(), make_card().model_dump(), version="1", limit=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="as version"):
        wrap_detector(Squares(), make_card(), version="", limit=None)
    with pytest.raises(ConfigError, match="batch must be"):
        wrap_detector(Squares(), make_card(), version="1", limit=None, batch=0)
    with pytest.raises(ConfigError, match="limit must be a whole number of at least 1 or None"):
        wrap_detector(Squares(), make_card(), version="1", limit=0)


@pytest.mark.parametrize("method", ["nms", "nms-ios", "soft-nms", "wbf"])
def test_an_object_that_two_classes_claim_is_not_lost(
    make_card: MakeCard, write_raster: WriteRaster, method: str
) -> None:
    card = make_card(class_names=("tree", "car"), class_scores={"tree": 0.2, "car": 0.5})

    def find(chips: NDArray[Any]) -> list[Found]:
        return [([[20, 20, 40, 40]] * 2, [0.25, 0.6], [0, 1]) for _ in chips]

    raster = write_raster("field.tif", np.full((3, 60, 60), 9, np.uint8))
    model = wrap_detector(find, card, version="1", limit=None)
    found = detect(raster, model=model, method=method, class_agnostic=True)
    assert found["class"].tolist() == ["car"]


@pytest.mark.parametrize("method", ["nms", "nms-ios", "wbf"])
def test_a_box_that_gives_way_to_another_class_takes_none_of_its_own_along(
    make_card: MakeCard, write_raster: WriteRaster, method: str
) -> None:
    boxes = [[10, 20, 30, 40], [16, 20, 36, 40], [22, 20, 42, 40]]  # IoU of neighbours 0.54

    def find(chips: NDArray[Any]) -> list[Found]:
        return [(boxes, [0.9, 0.8, 0.7], [0, 1, 1]) for _ in chips]

    raster = write_raster("field.tif", np.full((3, 60, 60), 9, np.uint8))
    card = make_card(class_names=("tree", "car"), nms_iou=0.5)
    model = wrap_detector(find, card, version="1", limit=None)
    by_class = detect(raster, model=model, method=method)
    assert by_class["score"].tolist() == pytest.approx([0.9, 0.8])
    found = detect(raster, model=model, method=method, class_agnostic=True)
    assert found["score"].tolist() == pytest.approx([0.9, 0.7])
    assert found["class"].tolist() == ["tree", "car"]


def test_scores_give_way_to_other_classes_where_all_are_compared(
    make_card: MakeCard, write_raster: WriteRaster
) -> None:
    def find(chips: NDArray[Any]) -> list[Found]:
        return [([[10, 20, 30, 40], [20, 20, 40, 40]], [0.9, 0.8], [0, 1]) for _ in chips]

    raster = write_raster("field.tif", np.full((3, 60, 60), 9, np.uint8))
    card = make_card(class_names=("tree", "car"), nms_iou=0.5)
    model = wrap_detector(find, card, version="1", limit=None)
    options: dict[str, Any] = {"model": model, "decay_iou": 0.1}
    assert detect(raster, **options)["score"].tolist() == pytest.approx([0.9, 0.8])
    found = detect(raster, class_agnostic=True, **options)
    assert found["score"].tolist() == pytest.approx([0.9, 0.8 * (1 - 1 / 3)])


def test_soft_nms_lowers_the_scores_of_neighbours_on_one_chip(
    make_card: MakeCard, write_raster: WriteRaster
) -> None:
    boxes = [[20, 20, 40, 40], [20, 20, 40, 35], [20, 26, 40, 46]]  # IoU 0.75 and 14 / 26

    def find(chips: NDArray[Any]) -> list[Found]:
        return [(boxes, [0.9, 0.8, 0.7], [0, 0, 0]) for _ in chips]

    raster = write_raster("field.tif", np.full((3, 60, 60), 9, np.uint8))
    model = wrap_detector(find, make_card(nms_iou=0.5), version="1", limit=None)
    assert detect(raster, model=model, score=0.3)["score"].tolist() == [0.9]
    found = detect(raster, model=model, score=0.3, method="soft-nms")
    assert found["score"].tolist() == [0.9, pytest.approx(0.7 * (1 - 14 / 26), abs=1e-6)]
