from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geo_retina.errors import GeoreferenceError, LabelError
from geo_retina.labels.points import read_point_csvs

Writer = Callable[..., Path]


def test_points_become_boxes_of_a_size_in_metres(tmp_path: Path, write_raster_at: Writer) -> None:
    (tmp_path / "images").mkdir()
    write_raster_at(tmp_path / "images" / "a.tif", np.zeros((3, 50, 60), np.uint8), gsd=0.5)
    write_raster_at(tmp_path / "images" / "b.tif", np.zeros((3, 50, 60), np.uint8), gsd=0.5)
    (tmp_path / "a.csv").write_text("x,y\n30,20\n")
    full, empty = read_point_csvs(tmp_path, tmp_path / "images", size_m=4, class_name="tree")
    # UTM shrinks by 0.9996 at its central meridian, so that 4 m on the ground are 0.04 % fewer px.
    np.testing.assert_allclose(full.labels.boxes, [[26, 16, 34, 24]], atol=0.01)
    assert full.labels.class_names == ("tree",)
    assert len(empty.labels) == 0


def test_points_need_a_size_columns_and_a_georeference(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    image = write_raster_at(tmp_path / "a.tif", np.zeros((3, 5, 6), np.uint8), crs=None)
    (tmp_path / "a.csv").write_text("x,y\n3,2\n")
    with pytest.raises(LabelError, match="over 0 metres"):
        read_point_csvs(tmp_path, image, size_m=0)
    with pytest.raises(GeoreferenceError):
        read_point_csvs(tmp_path, image, size_m=4)
    (tmp_path / "a.csv").write_text("lon,lat\n3,2\n")
    with pytest.raises(LabelError, match="columns x and y"):
        read_point_csvs(tmp_path, image, size_m=4)


def test_pixels_that_are_not_square(tmp_path: Path, write_raster_at: Callable[..., Path]) -> None:
    (tmp_path / "images").mkdir()
    place = Affine(0.5, 0, 500_000, 0, -0.25, 5_400_000)
    write_raster_at(tmp_path / "images" / "a.tif", np.zeros((3, 50, 60), np.uint8), transform=place)
    (tmp_path / "a.csv").write_text("x,y\n30,20\n")
    (full,) = read_point_csvs(tmp_path, tmp_path / "images", size_m=4)
    np.testing.assert_allclose(full.labels.boxes, [[26, 12, 34, 28]], atol=0.01)


def test_a_single_csv_is_no_folder(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text("x,y\n3,2\n")
    with pytest.raises(LabelError, match="expected a folder with one CSV of points a raster"):
        read_point_csvs(csv, tmp_path, size_m=4)


@pytest.mark.parametrize("row", ["3,", ",2", "3,inf", "3,2,"])
def test_a_point_without_place_is_refused(
    tmp_path: Path, write_raster_at: Writer, row: str
) -> None:
    image = write_raster_at(tmp_path / "a.tif", np.zeros((3, 5, 6), np.uint8))
    (tmp_path / "a.csv").write_text(f"x,y\n\n{row}\n")
    with pytest.raises(LabelError, match=r"a\.csv, line 3: no number in the columns x and y"):
        read_point_csvs(tmp_path, image, size_m=4)
