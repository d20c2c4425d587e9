import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from geo_retina.errors import LabelError
from geo_retina.evaluation.about import About
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.mistakes import Mistakes
from geo_retina.evaluation.pairs import Pair, pair_up
from geo_retina.evaluation.tables import evaluation_markdown
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid
from geo_retina.wording import three_digits

GRID = Grid(200, 100, Affine(1, 0, 500_000, 0, -1, 5_000_000), CRS.from_epsg(32633))
DATA = Path(os.environ.get("GEO_RETINA_DATA", Path(__file__).parents[3] / "shared" / "data"))
NEON = DATA / "neon_trees"


def pair(
    name: str = "a.tif", *, found: int = 3, known: int = 4, site: str = "", x: float = 0
) -> Pair:
    """`known` objects in rows of ten, the first `found` of them found `x` px to the right."""
    top, left = np.divmod(np.arange(max(found, known)), 10)
    corners = np.column_stack([left, top]) * 20.0
    boxes = np.concatenate([corners, corners + 10], axis=1)
    scores = np.linspace(0.9, 0.6, found)
    detections = Detections.of(boxes[:found] + np.array([x, 0, x, 0]), scores, np.zeros(found))
    return Pair(name, detections, Labels.of(boxes[:known], [0] * known, ("tree",)), site, GRID)


def test_numbers_of_a_simple_case() -> None:
    found = evaluate_detections([pair(x=1)], iou=0.5)
    assert found.quality.ap == pytest.approx(0.75)
    assert found.quality.at_score.precision == 1
    assert found.quality.at_score.recall == 0.75
    assert found.score == pytest.approx(0.6)
    assert found.offset_px == (1, 0)
    assert found.mistakes.missed == 1
    assert found.counts.bias == -1
    assert found.counts.relative == -0.25
    # 200 x 100 px of 1 m are 2 ha, but for the 0.08 % by which UTM shrinks areas here.
    assert found.counts.bias_per_ha == pytest.approx(-0.5, rel=1e-2)
    assert found.classes == ()
    assert found.sites == ()


def test_a_given_score_is_used_and_said() -> None:
    found = evaluate_detections([pair()], score=0.7)
    assert found.quality.at_score.hits == 2
    assert not found.score_is_best_f1
    assert found.rasters[0].detections == 2
    assert "At score 0.700 (chosen beforehand)" in evaluation_markdown(found)


def test_the_text_says_what_was_evaluated_and_what_misleads() -> None:
    about = About(
        name="m",
        model="m.safetensors",
        labels="x.csv",
        part="split val",
        score_origin="chosen on these same rasters",
        cautions=("one thing.", "another."),
    )
    for known in (4, 0):
        found = replace(evaluate_detections([pair(known=known)], score=0.7), about=about)
        text = evaluation_markdown(found)
        assert text.startswith("m (m.safetensors) against x.csv, split val.\n\nCaution: one thing.")
        assert "\n\nCaution: another.\n\n" in text
        said = "At score 0.700 (chosen on these same rasters)" in text
        assert said == (known > 0)


def test_one_of_a_thing_is_singular() -> None:
    text = evaluation_markdown(evaluate_detections([pair(known=1, found=1)]))
    assert text.startswith("1 label on 1 raster, match by")
    assert "Detections: 1 hit, 0 duplicates, " in text
    text = evaluation_markdown(evaluate_detections([pair(known=0, found=1)]))
    assert text.startswith("No labels on 1 raster:")
    assert "1 false alarm, " in text
    raster_alone = [replace(pair(), grid=None)]
    assert evaluate_detections(raster_alone).drawn == "1 raster"


def test_thousands_are_told_apart_in_all_counts() -> None:
    many = Mistakes(1000, 1001, 1002, 1003, 1004, 1005, 1006)
    text = evaluation_markdown(replace(evaluate_detections([pair()]), mistakes=many))
    (line,) = (line for line in text.splitlines() if line.startswith("Detections:"))
    assert [f"1,00{number}" in line for number in range(7)] == [True] * 7


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (1.5, 0.25, "1.500 px to the right and 0.250 px below"),
        (-1.5, -0.25, "1.500 px to the left and 0.250 px above"),
    ],
)
def test_offsets_are_told_without_a_sign(x: float, y: float, said: str) -> None:
    known = pair()
    inside = known.labels.boxes + 40  # away from the edge, which would cut what is found
    labels = known.labels.with_boxes(inside)
    found = Detections.of(inside + np.array([x, y, x, y]), np.full(4, 0.9), np.zeros(4))
    moved = replace(known, detections=found, labels=labels)
    text = evaluation_markdown(evaluate_detections([moved]))
    assert f"Hits lie {said} their labels (median)." in text
    nothing = evaluation_markdown(evaluate_detections([pair(found=0)]))
    assert "Hits lie" not in nothing


def test_counts_have_no_needless_digits() -> None:
    assert [three_digits(value) for value in (20, 0.1234, -1530.12, math.nan)] == [
        "20",
        "0.123",
        "-1530",
        "-",
    ]
    text = evaluation_markdown(evaluate_detections([pair(found=24, known=4)], score=0.1))
    assert "Counts: off by 20 a raster, bias 20 a raster (500 %, +9.99 per hectare)." in text
    third = [pair(), pair("b.tif", found=4), pair("c.tif", found=4)]
    text = evaluation_markdown(evaluate_detections(third, score=0.1))
    assert "off by 0.333 a raster, bias -0.333 a raster (-8.33 %" in text


def test_points_of_one_size_have_no_sizes() -> None:
    points = [pair("a.tif"), pair("b.tif")]
    found = evaluate_detections(points, distance_m=3)
    assert found.quality.by_size == ()
    assert "by size |" not in evaluation_markdown(found)
    assert "by size |" in evaluation_markdown(evaluate_detections(points))
    labels = Labels.of([[0, 0, 10, 10], [50, 0, 70, 20]], [0, 0], ("tree",))
    boxes = evaluate_detections([replace(points[0], labels=labels)], distance_m=3)
    assert [item.labels for item in boxes.quality.by_size] == [2, 0, 0]


def test_an_object_of_a_bounds_own_size_is_said_to_count_twice() -> None:
    labels = Labels.of([[0, 0, 32, 32], [50, 0, 60, 10]], [0, 0], ("tree",))
    one = Pair("a.tif", Detections.empty(), labels)
    text = evaluation_markdown(evaluate_detections([one]))
    assert "A bound belongs to both sizes beside it" in text
    assert "A bound belongs" not in evaluation_markdown(evaluate_detections([pair()]))


def test_sites_and_classes_are_told_apart() -> None:
    found = evaluate_detections([pair("a.tif", site="N"), pair("b.tif", found=4, site="S")])
    assert [(item.name, round(item.ap, 3)) for item in found.sites] == [("N", 0.75), ("S", 1)]
    labels = Labels.of([[0, 0, 10, 10], [50, 0, 60, 10]], [0, 1], ("a", "b", "c"))
    detections = Detections.of(labels.boxes[:1], np.array([0.5]), np.array([0]))
    by_class = evaluate_detections([Pair("a.tif", detections, labels)])
    assert [item.ap for item in by_class.classes[:2]] == [1, 0]
    assert math.isnan(by_class.classes[2].ap)
    assert by_class.quality.ap == 0.5  # mean over the two classes that have labels


def test_points_are_matched_by_metres() -> None:
    found = evaluate_detections([pair(x=12)], distance_m=13)
    assert found.quality.at_score.hits == 3
    assert math.isnan(found.quality.ap50)
    assert str(found.rule) == "13 m between centres"
    assert evaluate_detections([pair(x=12)], iou=0.4).quality.at_score.hits < 3


def test_objects_outside_the_labelled_area_do_not_count() -> None:
    whole = pair(found=4)
    part = Pair("a.tif", whole.detections, whole.labels, grid=GRID, area=shapely.box(0, 0, 50, 100))
    found = evaluate_detections([part])
    assert found.quality.labels == 3
    assert found.rasters[0].detections == 3
    assert found.rasters[0].hectares == pytest.approx(0.5, rel=1e-2)


def test_empty_is_a_value() -> None:
    nothing = Pair("a.tif", Detections.empty(), Labels.empty(["tree"]))
    for pairs in ([], [nothing], [pair(found=0), nothing], [pair(known=0)]):
        found = evaluate_detections(pairs)
        json.dumps(found.to_dict(), allow_nan=False)
        assert ("AP50" in evaluation_markdown(found)) == (found.quality.labels > 0)
    assert evaluate_detections([pair(found=0)]).quality.ap == 0
    assert math.isnan(evaluate_detections([nothing]).quality.ap)


def test_without_labels_only_false_alarms_are_counted() -> None:
    found = evaluate_detections([pair(found=3, known=0), pair("b.tif", found=1, known=0)])
    text = evaluation_markdown(found)
    assert "No labels on 2 rasters: only false alarms can be counted." in text
    assert "At score 0.000: 4 false alarms, 1.00 per hectare." in text
    assert "| 0.8 to 0.9 | 2 " in text
    assert "F1" not in text
    assert " - " not in text
    assert not found.score_is_best_f1
    nothing = evaluate_detections([pair(found=0, known=0)], score=0.5)
    assert "At score 0.500: 0 false alarms" in evaluation_markdown(nothing)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (None, "No score gives a hit. At score 0.000 (all detections): 2 detections."),
        (0.9, "No score gives a hit. At score 0.900 (chosen beforehand): 1 detection."),
    ],
)
def test_where_nothing_is_hit_no_score_is_the_best(score: float | None, said: str) -> None:
    far = pair(found=0, known=1)
    boxes = np.array([[150, 60, 170, 80], [100, 60, 120, 80]])
    strays = Detections.of(boxes, np.array([0.95, 0.5]), np.zeros(2))
    found = evaluate_detections([replace(far, detections=strays)], score=score)
    text = evaluation_markdown(found)
    assert said in text
    assert "best F1 on these data" not in text
    assert "| all | 1 " in text
    assert found.to_dict()["quality"]["best"]["score"] is None
    assert np.isnan(found.thresholds[0].score.high)


def test_nothing_found_is_said() -> None:
    found = evaluate_detections([pair(found=0, known=2)])
    assert "Nothing was found." in evaluation_markdown(found)
    assert not found.score_is_best_f1


def test_the_outcome_is_plain_data() -> None:
    plain = evaluate_detections([pair("a.tif"), pair("b.tif")]).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["quality"]["at_score"]["f1"] == pytest.approx(6 / 7)
    assert plain["thresholds"][0]["best"]["precision"] == 1
    assert plain["calibration"]["bins"][0]["hit_rate"] is None
    assert plain["counts"]["bias"] == -1


def test_pairs_are_made_by_file_name() -> None:
    known = [
        LabelledRaster("x/a.tif", Labels.of([[0, 0, 9, 9]], [1], ("shrub", "tree")), site="N"),
        LabelledRaster("x/b.tif", Labels.empty(("shrub", "tree"))),
    ]
    found = [
        LabelledRaster("y/a.tif", Labels.of([[0, 0, 9, 9]], [0], ("tree",), scores=np.array([0.5])))
    ]
    first, second = pair_up(known, found)
    assert first.detections.class_ids.tolist() == [1]
    assert (first.name, first.site) == ("x/a.tif", "N")
    assert len(second.detections) == 0


@pytest.mark.parametrize(
    ("raster", "name", "scores", "message"),
    [
        ("c.tif", "tree", [0.5], r"1 raster without labels: c\.tif"),
        ("a.tif", "tree", None, "need a score"),
        ("a.tif", "palm", [0.5], "shrub, tree, got also palm; .* --class-agnostic"),
    ],
)
def test_detections_that_fit_no_labels_are_refused(
    raster: str, name: str, scores: list[float] | None, message: str
) -> None:
    known = [LabelledRaster("a.tif", Labels.empty(("shrub", "tree")))]
    array = None if scores is None else np.array(scores)
    found = [LabelledRaster(raster, Labels.of([[0, 0, 9, 9]], [0], (name,), scores=array))]
    with pytest.raises(LabelError, match=message):
        pair_up(known, found)


def test_labels_without_any_object_need_the_names_of_classes() -> None:
    known = [LabelledRaster("a.tif", Labels.empty(()))]
    scores = np.array([0.5])
    found = [LabelledRaster("a.tif", Labels.of([[0, 0, 9, 9]], [0], ("tree",), scores=scores))]
    with pytest.raises(LabelError, match=r"they name no class; .* --classes tree, or"):
        pair_up(known, found)


def test_class_ids_beyond_the_labels_are_refused() -> None:
    detections = Detections.of(np.zeros((1, 4)), np.array([0.5]), np.array([3]))
    with pytest.raises(LabelError, match=r"must be in 0\.\.0 \(tree\), got \[3\]"):
        Pair("a.tif", detections, Labels.empty(["tree"]))


@pytest.mark.skipif(not NEON.is_dir(), reason="the NEON plots are not here")
def test_published_numbers_of_deepforest_on_neon_come_out() -> None:
    labelled = read_deepforest_csv(NEON / "annotations.csv", NEON / "images")
    known = [item for item in labelled if item.split == "val"]
    found = read_deepforest_csv(NEON / "deepforest" / "predictions_val.csv")
    result = evaluate_detections(
        pair_up(known, found), iou=0.4, options=EvaluationOptions(bootstrap_samples=100)
    )
    assert (len(result.rasters), result.quality.labels) == (31, 1365)
    assert result.quality.ap == pytest.approx(0.683, abs=5e-4)
    assert result.quality.best.f1 == pytest.approx(0.715, abs=5e-4)
    assert result.quality.best.score == pytest.approx(0.245, abs=5e-4)
    sites = {item.name: (round(item.ap, 3), round(item.best.f1, 3)) for item in result.sites}
    assert sites == {"SJER": (0.661, 0.711), "TEAK": (0.686, 0.738), "NIWO": (0.691, 0.717)}


def test_the_offset_is_that_of_the_detections_that_are_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10.0]])
    moved = boxes + np.array([[1, 0, 1, 0], [-1, 2, -1, 2]])
    found = Detections.of(moved, np.array([0.9, 0.2]), np.zeros(2))
    one = Pair("a", found, Labels.of(boxes, [0, 0], ("tree",)))
    assert evaluate_detections([one], score=0.5).offset_px == (1, 0)


def test_labels_are_mended_as_for_training() -> None:
    """Each object is found; corners swapped, a double, one off the raster, one cut by its edge."""
    known = [
        [30, 30, 10, 10],
        [40, 40, 60, 60],
        [40, 40, 60, 60],
        [400, 40, 420, 60],
        [190, 70, 240, 90],
    ]
    seen = np.array([[10, 10, 30, 30], [40, 40, 60, 60], [190, 70, 200, 90]], float)
    labels = Labels.of(np.array(known, float), [0] * 5, ("tree",))
    found = Detections.of(seen, np.array([0.9, 0.8, 0.7]), np.zeros(3))
    evaluation = evaluate_detections([Pair("a.tif", found, labels, grid=GRID)], iou=0.5)
    assert evaluation.quality.ap == 1
    assert evaluation.quality.labels == 3
    text = evaluation_markdown(evaluation)
    assert "Labels were mended: 1 swapped, 1 clipped, 1 outside, 1 duplicate." in text
    assert "mended" not in evaluation_markdown(evaluate_detections([pair()]))


def test_detections_are_cut_at_the_edge_where_labels_are() -> None:
    """Other programs write boxes that reach over it; their labels are cut."""
    boxes = np.array([[-20, -20, 10, 10], [190, 70, 240, 90.0]])
    found = Detections.of(boxes, np.array([0.9, 0.8]), np.zeros(2))
    one = Pair("a.tif", found, Labels.of(boxes, [0, 0], ("tree",)), grid=GRID)
    assert evaluate_detections([one], iou=0.9).quality.ap == 1


@pytest.mark.parametrize("rule", [{"iou": 0.5}, {"distance_m": 0.5}])
def test_labels_found_by_themselves_are_found_also_at_the_edge(rule: dict[str, float]) -> None:
    """A file of more ground than the raster: labels beyond the edge do not count, nor may these."""
    x = np.arange(-18.5, 220, 22)
    corners = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 20], axis=1)
    count = len(boxes)
    labels = Labels.of(boxes, [0] * count, ("tree",))
    found = Detections.of(boxes, np.full(count, 0.9), np.zeros(count))
    result = evaluate_detections([Pair("a.tif", found, labels, grid=GRID)], score=0.5, **rule)
    assert result.quality.labels < count
    assert (result.quality.at_score.precision, result.quality.at_score.recall) == (1, 1)


def test_corners_of_detections_are_put_in_order_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = [LabelledRaster("a.tif", Labels.of([[0, 0, 9, 5], [20, 0, 29, 5]], [0, 0], ("tree",)))]
    wrong = Labels.of(
        [[9, 5, 0, 0], [20, 0, 29, 5]], [0, 0], ("tree",), scores=np.array([0.9, 0.8])
    )
    pairs = pair_up(known, [LabelledRaster("a.tif", wrong)])
    assert evaluate_detections(pairs).quality.ap == 1
    assert "put the corners of 1 detection in order" in caplog.text


def test_points_keep_their_place_at_the_edge_and_beside_each_other() -> None:
    centres = np.array([[1.0, 50], [100, 50], [100.1, 50.1]])
    boxes = np.concatenate([centres - 6, centres + 6], axis=1)
    labels = Labels.of(boxes, [0] * 3, ("tree",))
    found = Detections.of(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3))
    both = Pair("a.tif", found, labels, grid=GRID)
    assert evaluate_detections([both], distance_m=0.05).quality.ap == 1
    assert evaluate_detections([both], iou=0.9).quality.labels == 2


@pytest.mark.parametrize("score", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_a_score_counts_itself(score: float) -> None:
    """Detections have theirs in float32, where 0.7 is less than 0.7."""
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    scores = np.full(2, score, np.float32)
    found = Detections.of(boxes, scores, np.zeros(2))
    both = Pair("a.tif", found, Labels.of(boxes, [0, 0], ("tree",)), grid=GRID)
    evaluation = evaluate_detections([both], score=score)
    assert evaluation.quality.at_score.detections == 2
    assert evaluation.rasters[0].detections == 2
    assert evaluation.mistakes.missed == 0
    assert evaluation.to_dict()["score"] == score


@pytest.mark.parametrize("side", [0.0, 0.5, 12.0])
def test_points_of_any_size_count_where_their_centre_lies_on_the_raster(side: float) -> None:
    centres = np.array([[0.0, 50], [100, 50], [100, 50], [200, 100], [201, 50]])
    boxes = np.concatenate([centres - side / 2, centres + side / 2], axis=1)
    labels = Labels.of(boxes, [0] * 5, ("tree",))
    seen = np.concatenate([centres[:4] - 3, centres[:4] + 3], axis=1)
    found = Detections.of(seen, np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4))
    evaluation = evaluate_detections([Pair("a.tif", found, labels, grid=GRID)], distance_m=1)
    assert evaluation.quality.labels == 4
    assert evaluation.quality.ap == 1
    assert str(evaluation.changes) == "1 outside"


def test_labels_that_are_all_left_out_are_told() -> None:
    labels = Labels.of(np.array([[900.0, 900, 910, 910]]), [0], ("tree",))
    nothing = Pair("a.tif", Detections.empty(), labels, grid=GRID)
    text = evaluation_markdown(evaluate_detections([nothing]))
    assert "No labels on 1 raster" in text
    assert "Labels were mended: 1 outside." in text
