from dataclasses import replace

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.match import Matches, match_pairs
from geo_retina.evaluation.metrics import average_precision, precision_recall
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule
from geo_retina.evaluation.thresholds import (
    best_thresholds,
    block_groups,
    choose_groups,
    raster_groups,
)
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

RULE = IouRule(0.5)


def made_up(rasters: int, seed: int = 0) -> list[Pair]:
    """Hits score 0.5..1, false alarms 0..0.6."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(rasters):
        x = np.arange(40.0) * 20
        known = np.stack([x, x * 0, x + 10, x * 0 + 10], axis=1)
        found = np.concatenate([known[:30], known[:20] + np.array([0, 500, 0, 500])])
        scores = np.concatenate([rng.uniform(0.5, 1, 30), rng.uniform(0, 0.6, 20)])
        ids = np.arange(40) % 2
        found_ids = np.concatenate([ids[:30], ids[:20]])
        pairs.append(
            Pair(
                f"{number}.tif",
                Detections.of(found, scores, found_ids),
                Labels.of(known, ids, ("a", "b")),
            )
        )
    return pairs


GRID = Grid(800, 600, Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000), CRS.from_epsg(32633))


def test_few_rasters_are_drawn_in_blocks_and_many_whole() -> None:
    one = [replace(pair, grid=GRID) for pair in made_up(1)]
    few = choose_groups(one, table_of(one), block_px=None)
    assert few.count > 5
    assert few.what == f"{few.count} blocks of 98 px"
    assert best_thresholds(table_of(one), few, samples=50)[0].ap.low > 0
    many = [replace(pair, grid=GRID) for pair in made_up(10)]
    assert choose_groups(many, table_of(many), block_px=None).what == "10 rasters"
    assert choose_groups(many, table_of(many), block_px=400).count == 10 * 3
    unplaced = made_up(3)
    assert choose_groups(unplaced, table_of(unplaced), block_px=None).what == "3 rasters"


def test_blocks_are_as_large_as_the_labelled_part_asks() -> None:
    """A plot of a large orthophoto lay in one block, and had no intervals."""
    grid = replace(GRID, width=20_000, height=20_000)
    plot = [replace(pair, grid=grid, area=shapely.box(0, 0, 800, 520)) for pair in made_up(1)]
    groups = choose_groups(plot, table_of(plot), block_px=None)
    assert groups.what == f"{groups.count} blocks of 92 px"
    assert best_thresholds(table_of(plot), groups, samples=50)[0].ap.low > 0


def table_of(pairs: list[Pair]) -> Matches:
    return match_pairs(pairs, [RULE.candidates(pair) for pair in pairs], threshold=0.5)


def test_thresholds_lie_where_hits_begin_and_inside_their_intervals() -> None:
    pairs = made_up(12)
    table = table_of(pairs)
    found = best_thresholds(table, raster_groups(table, rasters=12), samples=200)
    assert [item.name for item in found] == ["all", "a", "b"]
    for item in found:
        assert 0.5 < item.best.score < 0.61
        assert item.score.low <= item.best.score <= item.score.high
        assert item.f1.low <= item.best.f1 <= item.f1.high
        assert item.groups == 12
    ap = np.mean([average_precision(precision_recall(table.of_class(key))) for key in (0, 1)])
    assert found[0].ap.low < ap < found[0].ap.high


def unequal(rasters: int) -> list[Pair]:
    """A common class that is found, a rare one that is not and lacks on half the rasters."""
    rng = np.random.default_rng(3)
    pairs = []
    for number in range(rasters):
        x = np.arange(30.0) * 20
        known = np.stack([x, x * 0, x + 10, x * 0 + 10], axis=1)
        rare = 3 * (number % 2)
        ids = np.where(np.arange(30) < rare, 1, 0)
        shift = np.where(rng.random(30) < np.where(ids == 1, 0.7, 0.2), 300.0, 0.0)
        found = known + np.stack([shift * 0, shift] * 2, axis=1)
        detections = Detections.of(found, rng.uniform(0.1, 1, 30), ids)
        labels = Labels.of(known, ids, ("common", "rare", "absent"))
        pairs.append(Pair(f"{number}.tif", detections, labels))
    return pairs


def test_the_interval_of_all_is_that_of_the_mean_over_classes() -> None:
    pairs = unequal(6)
    table = table_of(pairs)
    quick = EvaluationOptions(bootstrap_samples=0)
    estimate = evaluate_detections(pairs, iou=0.5, options=quick).quality.ap

    found = best_thresholds(table, raster_groups(table, rasters=6), samples=60, seed=5)

    rng, drawn = np.random.default_rng(5), []
    for _ in range(60):
        times = rng.multinomial(6, np.full(6, 1 / 6))
        sample = [pair for pair, many in zip(pairs, times, strict=True) for _ in range(many)]
        drawn.append(evaluate_detections(sample, iou=0.5, options=quick).quality.ap)
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert [item.name for item in found] == ["all", "common", "rare"]
    assert (found[0].ap.low, found[0].ap.high) == pytest.approx((low, high))
    assert low < estimate < high
    pooled = average_precision(precision_recall(table))
    assert not low < pooled < high, "the curve of all objects is another quantity"


def test_a_class_that_is_never_found_counts_in_the_interval_of_all() -> None:
    pairs = [
        replace(pair, detections=pair.detections.select(pair.detections.class_ids == 0))
        for pair in made_up(8)
    ]
    table = table_of(pairs)
    everything, first, second = best_thresholds(table, raster_groups(table, rasters=8), samples=50)
    assert everything.ap.high == pytest.approx(first.ap.high / 2)
    assert np.isnan(second.ap.high)


def test_one_class_is_all_there_is() -> None:
    pairs = made_up(6)
    one = [
        replace(
            pair,
            detections=pair.detections.select(pair.detections.class_ids == 0),
            labels=Labels.of(pair.labels.boxes[::2], [0] * 20, ("a",)),
        )
        for pair in pairs
    ]
    table, alone = table_of(pairs), table_of(one)
    _, first, _ = best_thresholds(table, raster_groups(table, rasters=6), samples=50)
    (only,) = best_thresholds(alone, raster_groups(alone, rasters=6), samples=50)
    assert (only.ap, only.f1, only.score) == (first.ap, first.f1, first.score)


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = made_up(6)
    table = table_of(pairs)
    groups = raster_groups(table, rasters=6)
    one, again, other = (
        best_thresholds(table, groups, samples=50, seed=seed)[0].f1 for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_more_rasters_narrow_the_interval() -> None:
    widths = []
    for rasters in (4, 64):
        pairs = made_up(rasters)
        table = table_of(pairs)
        found = best_thresholds(table, raster_groups(table, rasters=rasters), samples=200)[0]
        widths.append(found.f1.high - found.f1.low)
    assert widths[1] < widths[0] / 2


def test_one_raster_has_no_interval_but_its_blocks_have() -> None:
    pairs = made_up(1)
    table = table_of(pairs)
    alone = best_thresholds(table, raster_groups(table, rasters=1), samples=50)[0]
    assert np.isnan(alone.f1.low)
    groups = block_groups(pairs, table, block_px=100)
    assert groups.count == 8 + 4  # labels lie along 800 px, false alarms along 400 px below
    blocks = best_thresholds(table, groups, samples=50)[0]
    assert blocks.f1.low < blocks.best.f1 < blocks.f1.high


def test_blocks_keep_a_match_together() -> None:
    pair = Pair(
        "a.tif",
        Detections.of(np.array([[90.0, 0, 108, 10]]), np.array([0.5]), np.array([0])),
        Labels.of([[94, 0, 112, 10]], [0], ("a",)),
    )
    table = table_of([pair])
    groups = block_groups([pair], table, block_px=100)
    assert groups.of_detections.tolist() == groups.of_labels.tolist()


def test_draws_in_which_nothing_was_found_count_as_nothing_found() -> None:
    boxes = np.array([[0, 0, 10, 10.0]])
    labels = Labels.of(boxes, [0], ("a",))
    pairs = [
        Pair("hit", Detections.of(boxes, np.array([0.9]), np.zeros(1)), labels),
        Pair("miss", Detections.empty(), labels),
    ]
    matches = match_pairs(pairs, [RULE.candidates(pair) for pair in pairs], threshold=0.5)
    (found,) = best_thresholds(matches, raster_groups(matches, rasters=2), samples=400)
    assert (found.ap.low, found.ap.high) == (0, 1)
    assert (found.f1.low, found.f1.high) == (0, 1)
    assert (found.score.low, found.score.high) == pytest.approx((0.9, 0.9))


def test_nothing_found() -> None:
    pairs = [Pair(f"{i}.tif", Detections.empty(), Labels.empty(["a"])) for i in range(3)]
    table = table_of(pairs)
    (found,) = best_thresholds(table, raster_groups(table, rasters=3), samples=10)
    assert found.best.hits == 0
    assert np.isnan(found.score.low)


@pytest.mark.parametrize("samples", [0, 1])
def test_few_samples_do_not_fail(samples: int) -> None:
    table = table_of(made_up(3))
    assert len(best_thresholds(table, raster_groups(table, rasters=3), samples=samples)) == 3


def test_ignored_labels_are_not_missed_in_draws() -> None:
    pairs = []
    for number in range(4):
        boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10.0]])
        labels = Labels.of(boxes, [0, 0], ("a",), ignored=np.array([False, True]))
        found = Detections.of(boxes[:1], np.array([0.9]), np.zeros(1))
        pairs.append(Pair(f"{number}.tif", found, labels))
    table = table_of(pairs)
    (best,) = best_thresholds(table, raster_groups(table, rasters=4), samples=20)
    assert (best.f1.low, best.f1.high, best.ap.low) == (1, 1, 1)


def test_draws_cut_between_equal_scores_no_more_than_users() -> None:
    boxes = np.arange(8.0)[:, None] * 20 + np.array([0, 0, 10, 10])
    pairs = []
    for number in range(3):
        places = np.concatenate([boxes[:2], boxes[4:6] + 500])
        found = Detections.of(places, np.full(4, 0.5), np.zeros(4))
        pairs.append(Pair(f"{number}.tif", found, Labels.of(boxes[:2], [0, 0], ("a",))))
    table = table_of(pairs)
    (item,) = best_thresholds(table, raster_groups(table, rasters=3), samples=20)
    assert item.f1.high == pytest.approx(item.best.f1)
    assert item.score.low == item.score.high == pytest.approx(0.5)
