import base64
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geo_retina.evaluation.charts import COLOURS
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.maps import (
    FALSE_ALARM,
    FOUND,
    MISSED,
    draw_map,
    map_picture,
    mistake_maps,
)
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule
from geo_retina.labels.labels import Labels
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
    first, second = mistake_maps(pairs, matches, cut=Cut(0.5), most=2)
    assert first.caption == "1 found, 2 missed, 1 false alarm"
    assert (first.pair.name, second.mistakes) == (path, 2)
    pixels = np.asarray(draw_map(first, most_px=200))
    assert pixels.shape == (200, 200, 3)
    assert tuple(pixels[20, 30]) == FOUND
    assert tuple(pixels[20, 110]) == MISSED
    assert tuple(pixels[140, 150]) == FALSE_ALARM
    picture = map_picture(first)
    assert picture is not None
    assert picture.startswith("data:image/jpeg;base64,")
    packed = base64.b64decode(picture.partition(",")[2])
    sent = np.asarray(Image.open(io.BytesIO(packed)), np.int64)
    assert sent.shape == (640, 640, 3)
    assert np.abs(sent[64, 352] - MISSED).max() < 40
    assert map_picture(second) is None, "there is no such raster"


SIGHT = {
    "all cones": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                     [-0.003882, -0.048116, 1.051998]],
    "no green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                       [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip
"""Linear RGB as it is seen: Machado, Oliveira and Fernandes (2009), table 1, severity 1.0."""


def _seen(colour: tuple[int, ...], sight: str) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour as somebody sees it."""
    values = np.array(colour) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_the_colours_stay_apart_for_the_colour_blind(sight: str) -> None:
    for one, other in itertools.combinations((FOUND, MISSED, FALSE_ALARM), 2):
        assert np.linalg.norm(_seen(one, sight) - _seen(other, sight)) > 40
    lines = [tuple(bytes.fromhex(text[1:])) for text in COLOURS[:3]]
    for one, other in itertools.combinations(lines, 2):
        assert np.linalg.norm(_seen(one, sight) - _seen(other, sight)) > 30
