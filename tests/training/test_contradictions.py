from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.training.contradictions import refuse_contradictions
from geo_retina.training.data import read_data

CSV = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
BOXES = np.array([[10.0, 10, 20, 20], [60, 10, 70, 20]])
LEFT, RIGHT = shapely.box(0, 0, 50, 50), shapely.box(50, 0, 100, 50)


def _raster(boxes: Any, area: Any = None, *, raster: str = "a.tif") -> LabelledRaster:
    labels = Labels.of(boxes, np.zeros(len(boxes)), ("tree",))
    return LabelledRaster(raster, labels, area=area)


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_file_for_each_class_of_the_same_rasters(
    side: str, field_data: Path, recipe: Callable[..., Any]
) -> None:
    head, *lines = (field_data / "labels.csv").read_text().splitlines()
    for name, part in {"one.csv": lines[::2], "other.csv": lines[1::2]}.items():
        (field_data / name).write_text("\n".join([head, *part]) + "\n")
    both = [CSV | {"labels": name, "split": side} for name in ("one.csv", "other.csv")]
    settings = recipe(**({"val": [CSV | {"split": "val"}]} | {side: both}))
    with pytest.raises(LabelError, match=r"the same ground of [abc]\.tif with different objects"):
        read_data(settings, field_data)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_raster(BOXES), _raster(BOXES[:1])),
        (_raster(BOXES), _raster(BOXES[:0], LEFT)),
        (_raster(BOXES[:1], LEFT), _raster(BOXES + 1)),
        (_raster(BOXES), _raster(BOXES[:1], raster="b/../a.tif")),
    ],
)
def test_other_objects_on_the_same_ground(one: LabelledRaster, other: LabelledRaster) -> None:
    for pair in ([one, other], [other, one]):
        with pytest.raises(LabelError, match="background to the other; join them"):
            refuse_contradictions(pair)


@pytest.mark.parametrize(
    "labelled",
    [
        [],
        [_raster(BOXES), _raster(BOXES[:1], raster="b.tif")],
        [_raster(BOXES), _raster(BOXES[::-1])],
        [_raster([[np.nan] * 4, *BOXES]), _raster([[np.nan] * 4, *BOXES])],
        [_raster(BOXES[:1], LEFT), _raster(BOXES[1:], RIGHT)],
        [_raster(BOXES), _raster(BOXES[:1], LEFT)],
    ],
    ids=["nothing", "other rasters", "the same twice", "not finite", "own parts", "a part again"],
)
def test_sources_that_agree(labelled: list[LabelledRaster]) -> None:
    refuse_contradictions(labelled)
