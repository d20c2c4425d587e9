import numpy as np
import shapely

from geo_retina.evaluation.doubts import unlabelled_rasters
from geo_retina.evaluation.pairs import Pair
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections


def pair(name: str, *, known: int, found: int, area: shapely.Polygon | None = None) -> Pair:
    def boxes(count: int) -> np.ndarray:
        return np.tile([0.0, 0, 9, 9], (count, 1))

    labels = Labels.of(boxes(known), [0] * known, ("tree",))
    detections = Detections.of(boxes(found), np.full(found, 0.5), np.zeros(found))
    return Pair(name, detections, labels, area=area)


def test_many_detections_where_nobody_looked_are_told() -> None:
    labelled = pair("a.tif", known=5, found=6)
    (told,) = unlabelled_rasters([labelled, pair("b.tif", known=0, found=2)])
    assert "1 of 2 rasters has no label, but 25% of the detections" in told
    assert "--only" in told


def test_ground_without_objects_is_not_doubted() -> None:
    labelled = pair("a.tif", known=5, found=8)
    searched = pair("c.tif", known=0, found=9, area=shapely.box(0, 0, 9, 9))
    assert unlabelled_rasters([labelled, pair("b.tif", known=0, found=2)]) == []
    assert unlabelled_rasters([labelled, searched]) == []
    assert unlabelled_rasters([pair("b.tif", known=0, found=0)]) == []
