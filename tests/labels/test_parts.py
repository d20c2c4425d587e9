from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geo_retina.labels.parts import separate_objects
from geo_retina.labels.vector import read_vector

UTM33 = "EPSG:32633"


def crowns(*boxes: tuple[float, float, float, float]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.box(*box) for box in boxes])


@pytest.mark.parametrize(
    ("gap", "objects"), [(0.0, 1), (0.9, 1), (1.1, 2), (500.0, 2)], ids=["touch", "near", "", "far"]
)
def test_parts_are_one_object_where_they_nearly_touch(gap: float, objects: int) -> None:
    shape = crowns((0, 0, 10, 10), (10 + gap, 0, 12 + gap, 2))
    frame = gpd.GeoDataFrame({"class": ["oak"]}, geometry=[shape], crs=UTM33)
    found, rows = separate_objects(frame)
    assert len(found) == objects
    assert rows.tolist() == [0] * objects
    assert found["class"].tolist() == ["oak"] * objects
    assert found.crs == frame.crs
    assert shapely.area(found.geometry.to_numpy()).sum() == pytest.approx(104)


def test_order_index_and_other_features_are_kept() -> None:
    far = crowns((0, 0, 4, 4), (4, 4, 8, 8), (90, 0, 94, 4))
    shapes = [shapely.box(0, 0, 1, 1), far, shapely.MultiPoint([(1, 1), (2, 2)]), far]
    frame = gpd.GeoDataFrame(geometry=shapes, index=[3, 5, 7, 9], crs=UTM33)
    found, rows = separate_objects(frame)
    assert found.index.tolist() == [3, 5, 5, 7, 7, 9, 9]
    assert rows.tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert shapely.bounds(found.geometry.to_numpy())[1].tolist() == [0, 0, 8, 8]
    whole = frame.iloc[[0]]
    assert separate_objects(whole)[0] is whole


def test_what_the_antimeridian_cuts_stays_one_object() -> None:
    shape = crowns((179.9, 0, 180, 0.1), (-180, 0, -179.9, 0.1))
    frame = gpd.GeoDataFrame(geometry=[shape], crs="EPSG:4326")
    found, _ = separate_objects(frame)
    assert found.geometry.iloc[0].equals(shape)


def test_metres_have_no_antimeridian() -> None:
    far = crowns((-252, 0, -242, 10), (100, 0, 110, 10))  # would meet if 360 were a turn
    found, _ = separate_objects(gpd.GeoDataFrame(geometry=[far], crs=UTM33))
    assert len(found) == 2


def test_reading_tells_of_features_that_fell_apart(
    tmp_path: Path, write_raster: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    raster = write_raster("a.tif", np.zeros((3, 60, 60), np.uint8), crs=None)
    apart = crowns((1, 1, 5, 5), (20, 20, 24, 24))
    near = crowns((40, 1, 44, 5), (44, 5, 48, 9))
    frame = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[near, apart], crs=UTM33)
    frame.to_file(tmp_path / "labels.gpkg")
    (item,) = read_vector(tmp_path / "labels.gpkg", [raster])
    assert sorted(item.labels.boxes.tolist()) == [
        [1, 1, 5, 5], [20, 20, 24, 24], [40, 1, 48, 9],
    ]  # fmt: skip
    assert item.labels.fids is not None
    assert sorted(item.labels.fids.tolist()) == [1, 2, 2]
    assert "1 feature with parts that lie apart (fid 2): taken as 2 objects" in caplog.text
