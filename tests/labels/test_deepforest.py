import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geo_retina.errors import LabelError
from geo_retina.labels.deepforest import read_deepforest_csv

HEADER = "image_path,xmin,ymin,xmax,ymax,label"


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_faulty_row_is_named_by_its_line_in_the_file(tmp_path: Path) -> None:
    lines = ("a.tif,1,1,2,2,Tree", "", "  ", "b.tif,1,1,2,2,Tree", "a.tif,1,,2,2,Tree")
    with pytest.raises(LabelError, match="line 6: a box with empty coordinates"):
        read_deepforest_csv(written(tmp_path, *lines))


def test_boxes_are_grouped_by_image_in_order_of_mention(tmp_path: Path) -> None:
    csv = written(tmp_path, "b.tif,1,2,3,4,Tree", "a.tif,5,6,7,8.5,Tree", "b.tif,0,0,9,9,Bush")
    second, first = read_deepforest_csv(csv, "images")
    assert second.raster == "images/b.tif"
    assert second.labels.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
    assert second.labels.class_names == ("Bush", "Tree")
    assert second.labels.class_ids.tolist() == [1, 0]
    assert first.labels.boxes.tolist() == [[5, 6, 7, 8.5]]


def test_images_without_objects_are_kept(tmp_path: Path) -> None:
    csv = written(tmp_path, "a.tif,,,,,", "b.tif,0,0,0,0,Tree", "c.tif,1,1,2,2,Tree")
    empty, zeros, full = read_deepforest_csv(csv)
    assert [len(item.labels) for item in (empty, zeros, full)] == [0, 0, 1]
    assert empty.labels.class_names == ("Tree",)
    assert empty.raster == str(tmp_path / "a.tif")


def test_score_site_and_split_are_kept(tmp_path: Path) -> None:
    csv = written(
        tmp_path,
        "a.tif,1,1,2,2,Tree,0.25,NIWO,val",
        "a.tif,3,3,4,4,Tree,0.5,NIWO,val",
        header=HEADER + ",score,site,split",
    )
    (item,) = read_deepforest_csv(csv)
    assert (item.site, item.split) == ("NIWO", "val")
    assert item.labels.scores is not None
    assert item.labels.scores.tolist() == [0.25, 0.5]


def test_class_names_fix_the_ids(tmp_path: Path) -> None:
    csv = written(tmp_path, "a.tif,1,1,2,2,Tree")
    (item,) = read_deepforest_csv(csv, class_names=["Bush", "Tree"])
    assert item.labels.class_ids.tolist() == [1]
    with pytest.raises(LabelError, match="'Tree'"):
        read_deepforest_csv(csv, class_names=["Bush"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.tif,1,1,,2,Tree", "line 3: a box with empty coordinates"),
        ("a.tif,1,1,x,2,Tree", "line 3: no number in the column xmax"),
        ("a.tif,1,1,2,2,", "line 3: a box without label"),
        ("a.tif,1,1,2,2,NA", "line 3: a box without label .words such as NA"),
        (",1,1,2,2,Tree", "line 3: no image_path"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_deepforest_csv(written(tmp_path, "a.tif,1,1,2,2,Tree", line))


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="xmax, ymax missing among image_path, xmin, ymin"):
        read_deepforest_csv(written(tmp_path, "a.tif,1,1", header="image_path,xmin,ymin"))
    with pytest.raises(LabelError, match="expected a CSV"):
        read_deepforest_csv(tmp_path / "absent.csv")


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    csv = written(
        tmp_path, "a.tif,1,1,2,2,Tree,val", "a.tif,1,1,2,2,Tree,train", header=HEADER + ",split"
    )
    with pytest.raises(LabelError, match="several values of split: val, train"):
        read_deepforest_csv(csv)


def test_numbers_as_classes_and_sites_stay_as_they_stand(tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label,site\n7,1,1,9,9,1,012\nb.png,,,,,,\n")
    first, second = read_deepforest_csv(csv, class_names=("1",))
    assert (Path(first.raster).name, first.site, len(first.labels)) == ("7", "012", 1)
    assert len(second.labels) == 0


BARE = "image_path,xmin,ymin,xmax,ymax"


def test_the_class_is_in_the_column_that_is_stated(tmp_path: Path) -> None:
    csv = written(tmp_path, "a.tif,1,1,2,2,012,x", "a.tif,,,,,,", header=f"{BARE},species,by")
    (item,) = read_deepforest_csv(csv, class_column="species")
    assert item.labels.class_names == ("012",)
    with pytest.raises(LabelError, match=r"no column 'label' .*, but species, by; .*--class-col"):
        read_deepforest_csv(written(tmp_path, "a.tif,1,1,2,2,oak,x", header=f"{BARE},species,by"))
    with pytest.raises(LabelError, match="no column 'genus'"):
        read_deepforest_csv(csv, class_column="genus")
    csv = written(tmp_path, "a.tif,1,1,2,2,", header=f"{BARE},species")
    with pytest.raises(LabelError, match="line 2: a box without species"):
        read_deepforest_csv(csv, class_column="species")


def test_one_class_without_a_column_is_taken_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    csv = written(tmp_path, "a.tif,1,1,2,2,7", header=f"{BARE},number")
    (item,) = read_deepforest_csv(csv)
    assert item.labels.class_names == ("object",)
    assert "all 1 rows are taken as one class, 'object'" in caplog.text
    (item,) = read_deepforest_csv(csv, class_names=["tree"])
    assert item.labels.class_names == ("tree",)
    with pytest.raises(LabelError, match="no column 'label'"):
        read_deepforest_csv(csv, class_names=["Alive", "Dead"])


@pytest.mark.parametrize(
    "name", ["/home/else/x.tif", r"C:\data\x.tif", "sub/x.tif", r"..\x.tif", "x.tif"]
)
def test_images_of_another_computer_are_taken_by_name(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.tif").touch()
    csv = written(tmp_path, f"{name},1,1,2,2,Tree", f"{name},3,3,5,5,Tree", "y.tif,,,,,")
    first, second = read_deepforest_csv(csv, tmp_path / "images")
    assert first.raster == str(tmp_path / "images" / "x.tif")
    assert len(first.labels) == 2
    assert second.raster == str(tmp_path / "images" / "y.tif")
    assert ("1 of 2 images are not where" in caplog.text) == (name != "x.tif")


def test_a_path_that_leads_to_an_image_stays(tmp_path: Path) -> None:
    for folder in ("images", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tif").touch()
    other = str(tmp_path / "other" / "x.tif")
    (item,) = read_deepforest_csv(written(tmp_path, f"{other},,,,,"), tmp_path / "images")
    assert item.raster == other
    remote = "https://example.org/a/x.tif"
    (item,) = read_deepforest_csv(written(tmp_path, f"{remote},,,,,"), tmp_path / "images")
    assert item.raster == remote
    (item,) = read_deepforest_csv(written(tmp_path, "x.tif,,,,,"), "https://example.org/a")
    assert item.raster == remote


def test_two_images_are_never_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "x.tif").touch()
    csv = written(tmp_path, "/one/x.tif,1,1,2,2,Tree", "/two/x.tif,1,1,2,2,Tree")
    with pytest.raises(LabelError, match=r"/one/x\.tif and /two/x\.tif are nowhere"):
        read_deepforest_csv(csv, tmp_path)


def test_geometries_in_pixels_are_boxes(tmp_path: Path) -> None:
    header = "image_path,label,geometry"
    rows = (
        'a.tif,Tree,"POLYGON ((1 2, 9 2, 9 8, 1 8, 1 2))"',
        'a.tif,Tree,"POLYGON ((5 0, 10.5 5, 5 10, 0 5, 5 0))"',
        "b.tif,,",
        'c.tif,Tree,"POLYGON ((0 0, 0 0, 0 0, 0 0, 0 0))"',
    )
    found = read_deepforest_csv(written(tmp_path, *rows, header=header))
    assert found[0].labels.boxes.tolist() == [[1, 2, 9, 8], [0, 0, 10.5, 10]]
    assert [len(item.labels) for item in found] == [2, 0, 0]
    for text, message in (("POINT (3 4)", "got a point"), ("round", "no WKT in the column")):
        with pytest.raises(LabelError, match=f"line 3: .*{message}"):
            read_deepforest_csv(written(tmp_path, rows[0], f"a.tif,Tree,{text}", header=header))


def test_boxes_go_before_geometries(tmp_path: Path) -> None:
    csv = written(tmp_path, 'a.tif,1,1,2,2,Tree,"POINT (1 1)"', header=f"{HEADER},geometry")
    (item,) = read_deepforest_csv(csv)
    assert item.labels.boxes.tolist() == [[1, 1, 2, 2]]


@pytest.mark.parametrize(("separator", "point"), [(";", ","), (";", "."), ("\t", ".")])
def test_other_separators(tmp_path: Path, separator: str, point: str) -> None:
    row = f"a.tif,1,1,2{point}5,2,Tree" if point == "." else "a.tif;1;1;2,5;2;Tree"
    csv = written(tmp_path, row.replace(",", separator) if point == "." else row,
                  header=HEADER.replace(",", separator))  # fmt: skip
    (item,) = read_deepforest_csv(csv)
    assert item.labels.boxes.tolist() == [[1, 1, 2.5, 2]]
    assert item.labels.class_names == ("Tree",)


def test_logs_stay_quiet_where_all_is_stated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read_deepforest_csv(written(tmp_path, "a.tif,1,1,2,2,Tree"))
    assert not caplog.records


def test_all_may_be_stated_to_be_one_class(tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,species\na.tif,1,1,9,9,oak\na.tif,2,2,9,9,\n")
    with pytest.raises(LabelError, match=r'--class-column \(class_column in a recipe\), "" where'):
        read_deepforest_csv(csv)
    (item,) = read_deepforest_csv(csv, class_column="")
    assert item.labels.class_names == ("object",)
    assert len(item.labels) == 2
    with pytest.raises(LabelError, match="nothing tells oak, ash apart"):
        read_deepforest_csv(csv, class_column="", class_names=("oak", "ash"))


def test_two_spellings_of_one_image_are_one_raster(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.tif").touch()
    rows = ("plots/a.tif,1,1,9,9,Tree", "./plots/a.tif,11,1,19,9,Tree")
    whole = f"{tmp_path}/plots/../plots/a.tif,21,1,29,9,Tree"
    (item,) = read_deepforest_csv(written(tmp_path, *rows, whole))
    assert item.raster == str(tmp_path / "plots" / "a.tif")
    assert item.labels.boxes[:, 0].tolist() == [1, 11, 21]
    header = f"{HEADER},split"
    csv = written(
        tmp_path, *(f"{row},{s}" for row, s in zip(rows, "ab", strict=True)), header=header
    )
    with pytest.raises(LabelError, match="several values of split: a, b"):
        read_deepforest_csv(csv)


def test_an_image_found_by_name_is_not_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    csv = written(tmp_path, "a.tif,1,1,9,9,Tree", "gone/a.tif,11,1,19,9,Tree")
    with pytest.raises(LabelError, match=r"gone/a\.tif is nowhere.*which is a\.tif already"):
        read_deepforest_csv(csv)


@pytest.mark.parametrize("edges", ["1,1,inf,9", "inf,inf,inf,inf", "-inf,1,9,9"])
def test_infinite_boxes_are_no_images_without_objects(tmp_path: Path, edges: str) -> None:
    csv = written(tmp_path, "a.tif,1,1,9,9,Tree", f"a.tif,{edges},Tree")
    with pytest.raises(LabelError, match="line 3: a box with infinite coordinates"):
        read_deepforest_csv(csv)


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    csv = written(tmp_path, "a.tif,1,1,9,9,Tree", "a.tif,1,1,1e999,9,Tree")
    expected = "a box with infinite coordinates|no number in the column xmax"  # pandas 3 | 2
    with pytest.raises(LabelError, match=f"line 3: ({expected})"):
        read_deepforest_csv(csv)


def test_folders_as_windows_writes_them(
    tmp_path: Path, write_raster_at: Callable[..., Path]
) -> None:
    """The image of that folder, not one of the same name that lies beside it."""
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "sub" / "a.tif", tmp_path / "a.tif"):
        write_raster_at(path, np.zeros((3, 40, 40), np.uint8))
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\nsub\\a.tif,1,1,9,9,tree\n")
    (only,) = read_deepforest_csv(csv, tmp_path)
    assert Path(only.raster) == tmp_path / "sub" / "a.tif"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,1,1,2,2,H\xfctte\n", encoding)
    with pytest.raises(LabelError, match=r"expected a CSV file in UTF-8: .*; save it so"):
        read_deepforest_csv(file)
