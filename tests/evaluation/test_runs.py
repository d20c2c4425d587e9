from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
from fixture_types import BlobModel, WriteRaster
from numpy.typing import NDArray

from geo_retina.detection.backends import Backend
from geo_retina.evaluation import runs
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting, detect_pairs, lowest_score
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.model.settings import NetworkSettings

Field = Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]


@pytest.mark.parametrize("gsd", [0.1, 0.2])
@pytest.mark.parametrize(
    "area",
    [
        shapely.box(75, 100, 130, 160),
        shapely.MultiPolygon([shapely.box(0, 0, 40, 60), shapely.box(200, 10, 240, 50)]),
        shapely.box(0, 0, 320, 240),
        shapely.Polygon(),
    ],
)
def test_of_an_area_only_its_windows_are_searched(
    gsd: float,
    area: shapely.Polygon | shapely.MultiPolygon,
    blob_model: BlobModel,
    write_raster: WriteRaster,
    field_of_objects: Field,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    detector = blob_model()
    names = detector.card.class_names
    info = CheckpointInfo(tmp_path / "m", detector.card, NetworkSettings(num_classes=len(names)))
    monkeypatch.setattr(runs, "read_info", lambda _model: info)
    monkeypatch.setattr(runs, "load_backend", lambda *_args, **_options: detector)
    pixels, boxes = field_of_objects(320, 240)
    raster = write_raster("a.tif", pixels, gsd=gsd)
    labels = Labels(boxes, np.zeros(len(boxes), np.int64), names)
    known = LabelledRaster(str(raster), labels)
    how = Detecting(backend=Backend("cpu"))

    (whole,) = detect_pairs([known], "m", how)
    calls = detector.calls
    (part,) = detect_pairs([replace(known, area=area)], "m", how)

    expected = replace(whole, area=area).inside_area().detections
    found = part.inside_area().detections
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)
    share = (detector.calls - calls) / calls
    assert share == 1 if area.area == 320 * 240 else share < 0.6
    assert bool(len(found)) == (not area.is_empty)


@pytest.mark.parametrize(
    ("card", "score", "expected"),
    [
        ({"score": 0.3}, None, LOWEST_SCORE),
        ({"score": 0.02}, None, 0.02),
        ({"score": 0.3, "class_scores": {"tree": 0.001}}, None, 0.001),
        ({"score": 0.02}, 0.4, LOWEST_SCORE),
        ({"score": 0.3}, 0.01, 0.01),
    ],
)
def test_detects_from_where_it_is_measured(
    card: dict[str, Any],
    score: float | None,
    expected: float,
    make_card: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    info = CheckpointInfo(tmp_path / "m", make_card(**card), NetworkSettings(num_classes=1))
    monkeypatch.setattr(runs, "read_info", lambda _model: info)
    assert lowest_score("m", score) == expected
