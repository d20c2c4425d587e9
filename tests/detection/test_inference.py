from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from blobs import BlobDetector
from fixture_types import MakeCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.detector import ChipResult
from geo_retina.detection.inference import HEADROOM, MOST_WAITING, WindowFound, find_objects
from geo_retina.detection.reading import WindowRead, WindowState
from geo_retina.errors import ModelError
from geo_retina.imagery.source import Chip
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.detections import Detections
from geo_retina.space.windows import Window

THRESHOLDS = Thresholds(0.3, 0.5, 1000, 500)
Field = Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]


@dataclass
class FixedDetector:
    """Finds the same boxes on every chip."""

    card: ModelCard
    boxes: Any
    scores: Any
    batch: int = 1

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        del thresholds
        boxes, scores = np.array(self.boxes, np.float64), np.array(self.scores)
        found = Detections.of(boxes, scores, np.zeros(len(boxes)))
        return [ChipResult(found, saturated=False) for _ in pixels]


def _read(number: int, pixels: NDArray[np.uint8] | None, valid: Any = None) -> WindowRead:
    if pixels is None:
        return WindowRead(0, number, Window(100 * number, 0, 64, 64), WindowState.EMPTY)
    height, width = pixels.shape[1:]
    window = Window(100 * number, 0, width, height)
    mask = np.ones((height, width), np.bool_) if valid is None else valid
    return WindowRead(0, number, window, WindowState.READ, Chip(pixels, mask, window))


def _find(reads: Any, detector: Any, thresholds: Thresholds = THRESHOLDS) -> list[WindowFound]:
    return list(find_objects(reads, detector, thresholds, split_overlap_px=16))


def _plain(found: list[WindowFound]) -> list[tuple[int, list[list[float]], int, bool]]:
    return [
        (item.read.window_id, item.detections.boxes.tolist(), item.splits, item.saturated)
        for item in found
    ]


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batch=st.integers(2, 7),
    kinds=st.lists(st.sampled_from(["empty", "sparse", "crowded"]), max_size=12),
)
def test_the_batch_does_not_matter(
    batch: int, kinds: list[str], make_card: MakeCard, field_of_objects: Field
) -> None:
    crowded, sparse = field_of_objects(160, 160)[0], np.full((3, 160, 160), 20, np.uint8)
    sparse[:, 30:50, 40:60] = 200
    chips = {"empty": None, "sparse": sparse, "crowded": crowded}
    reads = [_read(number, chips[kind]) for number, kind in enumerate(kinds)]
    tight = Thresholds(0.3, 0.5, 1000, 30)
    alone = _plain(_find(reads, BlobDetector(make_card(), 1), tight))
    assert _plain(_find(reads, BlobDetector(make_card(), batch), tight)) == alone
    assert [item[0] for item in alone] == list(range(len(kinds)))


def test_boxes_are_cut_at_the_chip(make_card: MakeCard) -> None:
    """The stitcher refuses boxes that reach out of their window."""
    boxes = [[-3.5, 10, 20, 30], [50, 60, 70.25, 64.5], [64, 3, 80, 9], [-9, -9, 0, 0]]
    detector = FixedDetector(make_card(), boxes, [0.9] * 4)
    (found,) = _find([_read(2, np.zeros((3, 64, 64), np.uint8))], detector)
    assert found.detections.boxes.tolist() == [[200, 10, 220, 30], [250, 60, 264, 64]]
    assert found.detections.window_ids.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("boxes", "scores"), [([[0, 0, np.nan, 9]], [0.5]), ([[0, 0, 9, 9]], [np.nan])]
)
def test_what_is_not_a_number_is_an_error(boxes: Any, scores: Any, make_card: MakeCard) -> None:
    detector = FixedDetector(make_card(), boxes, scores)
    with pytest.raises(ModelError, match="finite"):
        _find([_read(0, np.zeros((3, 64, 64), np.uint8))], detector)


def test_a_result_too_few_is_an_error(make_card: MakeCard) -> None:
    class Forgetful(FixedDetector):
        def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
            return super().detect(pixels, thresholds)[1:]

    detector = Forgetful(make_card(), [[0, 0, 9, 9]], [0.5], batch=2)
    with pytest.raises(ModelError, match="2 chips"):
        _find([_read(n, np.zeros((3, 64, 64), np.uint8)) for n in range(2)], detector)


def test_empty_windows_do_not_pile_up(make_card: MakeCard) -> None:
    """Nearly all of a large raster may be empty: a batch that does not fill must not hold it."""
    taken = 0

    def reads() -> Iterator[WindowRead]:
        nonlocal taken
        yield _read(0, np.zeros((3, 64, 64), np.uint8))
        while True:
            taken += 1
            yield _read(taken, None)

    detector = FixedDetector(make_card(), [[1, 1, 9, 9]], [0.5], batch=16)
    found = find_objects(reads(), detector, THRESHOLDS, split_overlap_px=16)
    assert len(next(found).detections) == 1
    assert taken < MOST_WAITING
    found.close()


def test_a_crowd_within_the_headroom_is_found_at_once(
    make_card: MakeCard, field_of_objects: Field
) -> None:
    pixels, boxes = field_of_objects(512, 512)
    detector = BlobDetector(make_card())
    (found,) = _find([_read(0, pixels)], detector, Thresholds(0.3, 0.5, 1000, 100))
    assert len(boxes) > 400
    assert len(found.detections) == len(boxes)
    assert (found.splits, found.saturated, detector.calls) == (0, False, 1)


def test_a_crowd_is_split_until_it_fits(make_card: MakeCard, field_of_objects: Field) -> None:
    pixels, boxes = field_of_objects(512, 512)
    detector = BlobDetector(make_card())
    (found,) = _find([_read(0, pixels)], detector, Thresholds(0.3, 0.5, 1000, 15))
    unique = np.unique(found.detections.boxes, axis=0)
    np.testing.assert_array_equal(unique, np.unique(boxes, axis=0))
    assert len(boxes) > 4 * HEADROOM * 15, "the parts have to be split again"
    assert found.splits > 1
    assert not found.saturated


def test_a_crowd_that_cannot_be_split_is_found_with_higher_limits(
    make_card: MakeCard, field_of_objects: Field
) -> None:
    pixels, boxes = field_of_objects(256, 256)
    tight = Thresholds(0.3, 0.5, 1000, 2)
    assert len(boxes) > 16 * tight.detections_per_chip
    (found,) = _find([_read(0, pixels)], BlobDetector(make_card()), tight)
    assert not found.saturated
    unique = np.unique(found.detections.boxes, axis=0)
    np.testing.assert_array_equal(unique, np.unique(boxes, axis=0))


class FullDetector(BlobDetector):
    """Says of every chip that it holds more, whatever the limits."""

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        return [replace(one, saturated=True) for one in super().detect(pixels, thresholds)]


@pytest.mark.parametrize(
    ("chip_px", "overlap_px"), [(512, 128), (640, 160), (1024, 128), (512, 256), (256, 32), (64, 8)]
)
def test_splitting_has_an_end(make_card: MakeCard, chip_px: int, overlap_px: int) -> None:
    """Where the overlap is much of a part, its parts would hardly be smaller than it."""
    detector = FullDetector(make_card())
    pixels = np.zeros((3, chip_px, chip_px), np.uint8)
    pixels[:, 3:15, 4:16] = 200
    (found,) = find_objects([_read(0, pixels)], detector, THRESHOLDS, split_overlap_px=overlap_px)
    assert found.saturated, "and it is told"
    assert [4, 3, 16, 15] in found.detections.boxes.tolist()
    assert detector.calls <= 200


def test_boxes_on_invalid_pixels_go(make_card: MakeCard) -> None:
    valid = np.ones((64, 64), np.bool_)
    valid[:, 32:] = False
    boxes = [[2, 2, 12, 12], [40, 2, 50, 12], [20, 20, 38, 30], [26, 40, 38, 50], [0, 0, 64, 64]]
    detector = FixedDetector(make_card(), boxes, [0.9] * 5)
    (found,) = _find([_read(0, np.zeros((3, 64, 64), np.uint8), valid)], detector)
    # the fourth has its centre on the first invalid column, the fifth too
    assert found.detections.boxes.tolist() == [boxes[0], boxes[2]]


def test_a_class_may_have_a_least_score_of_its_own(make_card: MakeCard) -> None:
    class TwoClasses(FixedDetector):
        def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
            (one,) = super().detect(pixels, thresholds)
            return [replace(one, detections=replace(one.detections, class_ids=np.array([0, 1, 1])))]

    boxes = [[0, 0, 9, 9], [20, 20, 30, 30], [40, 40, 50, 50]]
    detector = TwoClasses(make_card(), boxes, np.array([0.4, 0.4, 0.6], np.float32))
    reads = [_read(0, np.zeros((3, 64, 64), np.uint8))]
    for class_scores, left in (((0.3, 0.5), [0, 2]), ((0.5, 0.3), [1, 2]), (None, [0, 1, 2])):
        (found,) = _find(reads, detector, replace(THRESHOLDS, class_scores=class_scores))
        assert found.detections.boxes.tolist() == [boxes[number] for number in left]
