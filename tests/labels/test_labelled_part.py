import numpy as np
import pytest
import shapely

from geo_retina.labels.labelled_part import doubt_about_part, labelled_share
from geo_retina.labels.labels import LabelledRaster, Labels


def strewn(count: int, width: float, height: float) -> LabelledRaster:
    """Boxes of 10 px with their centres anywhere in `width` x `height`."""
    centres = np.random.default_rng(3).uniform(0, [width, height], (count, 2))
    boxes = np.concatenate([centres - 5, centres + 5], axis=1)
    return LabelledRaster("big/field.tif", Labels.of(boxes, np.zeros(count), ["tree"]))


@pytest.mark.parametrize("count", [20, 200])
def test_labels_all_over_a_raster_leave_no_doubt(count: int) -> None:
    share = labelled_share(strewn(count, 1000, 800), width=1000, height=800)
    assert share is not None
    assert 0.75 < share <= 1
    assert doubt_about_part({"a.tif": share}) == ""


def test_labels_in_a_corner_are_a_doubt() -> None:
    share = labelled_share(strewn(200, 500, 400), width=1000, height=800)
    assert share == pytest.approx(0.25, abs=0.02)
    assert doubt_about_part({"big/field.tif": 0.2512, "b.tif": 0.9}).startswith(
        "all labels lie within a small part of field.tif (25%); what is outside"
    )


def test_where_the_area_is_told_or_labels_are_few_nothing_can_be_said() -> None:
    corner = strewn(200, 500, 400)
    told = LabelledRaster(corner.raster, corner.labels, area=shapely.box(0, 0, 500, 400))
    assert labelled_share(told, width=1000, height=800) is None
    assert labelled_share(strewn(19, 100, 100), width=1000, height=800) is None
