import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from geo_retina.errors import LabelError
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import DistanceRule, ground_size_ranges, size_ranges
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections
from geo_retina.space.grid import Grid

GRID = Grid(200, 100, Affine(0.5, 0, 500_000, 0, -0.25, 5_000_000), CRS.from_epsg(32633))


def test_sizes_in_metres_use_both_sides_of_a_pixel() -> None:
    boxes = np.array([[0, 0, 4, 8], [0, 0, 8, 16], [0, 0, 40, 80.0]])  # 2, 4 and 20 m squares
    small, middle, large = ground_size_ranges((3, 10))
    assert [item.name for item in (small, middle, large)] == ["under 3 m", "3 to 10 m", "over 10 m"]
    assert [item.contains(boxes, GRID).tolist() for item in (small, middle, large)] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_a_sheared_grid_is_measured_along_the_ground() -> None:
    """A step down leads as far to the right: a square of ten pixels' sides has ten metres' area."""
    grid = Grid(200, 100, Affine(1, 1, 500_000, 0, -1, 5_000_000), CRS.from_epsg(32633))
    known = np.array([[10, 10, 20, 20.0]])
    assert ground_size_ranges((9, 11))[1].contains(known, grid).tolist() == [True]
    shifted = known + np.array([3, -3, 3, -3])  # 3 m north, where 3 and 4.2 m seem to add up
    detections = Detections.of(shifted, np.array([0.9]), np.zeros(1))
    pair = Pair("a", detections, Labels.of(known, [0], ("tree",)), grid=grid)
    assert DistanceRule(4).candidates(pair).closeness == pytest.approx([-3], rel=1e-2)


def test_cocos_sizes_have_cocos_names_and_both_ends() -> None:
    names = [item.name for item in size_ranges((32, 96))]
    assert names == ["small", "medium", "large"]
    box = np.array([[0, 0, 32, 32.0]])
    assert [item.contains(box, None).item() for item in size_ranges((32, 96))] == [
        True,
        True,
        False,
    ]
    assert [item.name for item in size_ranges((10,))] == ["under 10 px", "over 10 px"]


@pytest.mark.parametrize("bounds", [(), (0,), (5, 5), (6, 3), (-1, 4)])
def test_bounds_must_rise_from_over_zero(bounds: tuple[float, ...]) -> None:
    with pytest.raises(LabelError, match="must rise"):
        size_ranges(bounds)


def test_metres_need_a_georeference() -> None:
    sizes = ground_size_ranges((3,))[0]
    with pytest.raises(LabelError, match="georeferenced"):
        sizes.contains(np.zeros((1, 4)), None)


def test_ignored_ground_swallows_false_alarms_by_distance_too() -> None:
    known = np.array([[0, 0, 100, 100], [150, 0, 160, 10.0]])
    found = np.array([[10, 10, 15, 15], [150, 0, 160, 10], [120, 60, 125, 65.0]])
    labels = Labels.of(known, [0, 0], ("tree",), ignored=np.array([True, False]))
    pair = Pair(
        "a", Detections.of(found, np.array([0.9, 0.8, 0.7]), np.zeros(3)), labels, grid=GRID
    )
    pairs = DistanceRule(1).candidates(pair).pairs
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 0), (1, 1)]
    quick = EvaluationOptions(bootstrap_samples=0)
    for rule in ({"distance_m": 1.0}, {"iou": 0.5}):
        quality = evaluate_detections([pair], score=0.5, options=quick, **rule).quality
        assert quality.ap == pytest.approx(1)
        assert quality.at_score.precision == pytest.approx(0.5), (
            "one false alarm, on no ignored ground"
        )


def test_distances_use_both_sides_of_a_pixel() -> None:
    boxes = np.array([[0, 0, 4, 4.0]])
    for shift, metres in (([4, 0], 2.0), ([0, 4], 1.0)):
        labels = Labels.of(boxes, [0], ("tree",))
        moved = Detections.of(boxes + np.tile(shift, 2), np.ones(1), np.zeros(1))
        found = DistanceRule(5).candidates(Pair("a", moved, labels, grid=GRID))
        assert -found.closeness == pytest.approx([metres], rel=1e-3)


def test_a_centre_beside_an_ignored_label_is_not_in_it() -> None:
    labels = Labels.of(np.array([[0, 0, 100, 100.0]]), [0], ("tree",), ignored=np.array([True]))
    found = Detections.of(np.array([[90, 10, 120, 20.0]]), np.ones(1), np.zeros(1))
    pair = Pair("a", found, labels, grid=GRID)
    for near_enough_to_the_middle in (1, 100):
        assert len(DistanceRule(near_enough_to_the_middle).candidates(pair).pairs) == 0
