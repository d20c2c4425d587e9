from collections.abc import Callable
from pathlib import Path

import numpy as np

from geo_retina.evaluation.maps import draw_map, map_picture, mistake_maps
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule
from geo_retina.labels.labels import Labels
from geo_retina.labels.pictures import GREEN, RED, YELLOW
from geo_retina.space.detections import Detections

KNOWN = np.array([[10, 10, 20, 20], [50, 10, 60, 20], [10, 60, 20, 70.0]])


def _pair(name: str, *, found: int) -> Pair:
    """The first `found` labels are found; one detection finds nothing, one has a low score."""
    boxes = np.concatenate([KNOWN[:found], [[70, 70, 80, 80]], KNOWN[2:]])
    scores = np.array([*[0.9] * (found + 1), 0.1])
    return Pair(name, Detections.of(boxes, scores, np.zeros(len(boxes))),
                Labels.of(KNOWN, [0] * 3, ("tree",)))  # fmt: skip


def test_maps_show_each_kind_in_its_colour_and_the_worst_first(
    write_raster: Callable[..., Path],
) -> None:
    path = str(write_raster("plot.tif", np.full((3, 100, 100), 10, np.uint8)))
    pairs = [_pair("better.tif", found=2), _pair(path, found=1), _pair("best.tif", found=2)]
    rule = IouRule(0.5)
    matches = match_pairs(pairs, [rule.candidates(pair) for pair in pairs], threshold=0.5)
    first, second = mistake_maps(pairs, matches, score=0.5, most=2)
    assert first.caption == "1 found, 2 missed, 1 false alarms"
    assert (first.pair.name, second.mistakes) == (path, 2)
    pixels = np.asarray(draw_map(first, most_px=200))
    assert pixels.shape == (200, 200, 3)
    assert tuple(pixels[20, 30]) == GREEN
    assert tuple(pixels[20, 110]) == RED
    assert tuple(pixels[140, 150]) == YELLOW
    picture = map_picture(first)
    assert picture is not None
    assert picture.startswith("data:image/jpeg;base64,")
    assert map_picture(second) is None, "there is no such raster"
