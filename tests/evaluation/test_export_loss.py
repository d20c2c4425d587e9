from pathlib import Path

import numpy as np
import pytest

from geo_retina.detection.backends import Backend
from geo_retina.evaluation.export_loss import LossMeasure
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.labels import Labels
from geo_retina.model.artifacts import Artifact
from geo_retina.space.detections import Detections

BOXES = np.array([[0.0, 0, 10, 10], [40, 0, 50, 10]])
GRAPH = Artifact(Path("m.openvino-int8.xml"), "int8", "0" * 16)


def found(backend: Backend) -> list[Pair]:
    """Torch finds the boxes where they are, the graph finds them 4 px to the right."""
    shift = np.array([4.0, 0, 4, 0]) if backend.artifact else np.zeros(4)
    detections = Detections.of(BOXES + shift, np.array([0.9, 0.8]), np.zeros(2, np.int64))
    return [Pair("a.tif", detections, Labels.of(BOXES, [0, 0], ("tree",)))]


@pytest.mark.parametrize(("iou", "after"), [(0.4, 1.0), (0.5, 0.0)])
def test_compares_the_graph_with_torch_at_the_stated_overlap(iou: float, after: float) -> None:
    loss = LossMeasure(detect=found, images="val, 1 raster", iou=iou).of(GRAPH)
    assert (loss.before, loss.after) == (1.0, after)
    assert loss.where == f"val, 1 raster, IoU {iou}"
