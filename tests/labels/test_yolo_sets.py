import sys
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import pytest
from PIL import Image

from geo_retina.errors import DependencyError, LabelError
from geo_retina.labels.formats import LabelSource, format_of, read_labels
from geo_retina.labels.labels import LabelledRaster

BOX, POLYGON = "1 0.5 0.5 0.25 0.5\n", "0 0.1 0.2 0.3 0.2 0.3 0.6\n"
NAMES = "names: [tank, ship]\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, after in pairwise(ascii_lowercase)
)
"""YAML of a kilobyte in which z is a list that as text would fill any memory."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`a` and `b` in train, `c` in val; `b` has no text file."""
    for split, names in (("train", "ab"), ("val", "c")):
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind / split).mkdir(parents=True)
        for name in names:
            folder = tmp_path / "set"
            Image.new("RGB", (40, 20)).save(folder / "images" / split / f"{name}.png")
            if name != "b":
                (folder / "labels" / split / f"{name}.txt").write_text(BOX + POLYGON)
    return tmp_path / "set"


def read(path: Path, **options: object) -> list[LabelledRaster]:
    return read_labels(LabelSource(path=str(path), **options))  # type: ignore[arg-type]


def summary(found: list[LabelledRaster]) -> list[tuple[str, str, int]]:
    return [(Path(item.raster).stem, item.split, len(item.labels)) for item in found]


WHOLE = [("a", "train", 2), ("b", "train", 0), ("c", "val", 2)]


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: tank, 1: ship}\n",
        "train: ../images/train\nval: [../images/val]\ntest:\nnames: [tank, ship]\nnc: 2\n",
        "path: /of/another/computer\ntrain: [images/train]\nval: val.txt\n" + NAMES,
    ],
    ids=["path and ids", "Roboflow", "list of images"],
)
@pytest.mark.parametrize("name", ["", "data.yaml"])
def test_a_yaml_file_names_classes_and_splits(root: Path, text: str, name: str) -> None:
    (root / "data.yaml").write_text(text)
    (root / "val.txt").write_text("./images/val/c.png\n\n")
    found = read(root / name)
    assert summary(found) == WHOLE
    assert found[0].labels.class_names == ("tank", "ship")
    assert found[0].labels.class_ids.tolist() == [1, 0]
    assert found[0].labels.boxes.tolist() == [[15, 5, 25, 15], [4, 4, 12, 12]]


def splits_first(root: Path) -> None:
    """Turn `images/train` and the like into `train/images`."""
    for split in ("train", "val"):
        (root / split).mkdir()
        for kind in ("images", "labels"):
            (root / kind / split).rename(root / split / kind)
    for kind in ("images", "labels"):
        (root / kind).rmdir()


def test_folders_alone_tell_images_and_splits(root: Path) -> None:
    assert summary(read(root, class_names=("tank", "ship"))) == WHOLE
    with pytest.raises(LabelError, match=r"--classes \(card\.class_names in a recipe\)"):
        read(root)
    splits_first(root)
    assert summary(read(root, class_names=("tank", "ship"))) == WHOLE


def test_a_folder_of_text_files_finds_its_images_and_names(root: Path) -> None:
    (root / "data.yaml").write_text(NAMES + "train: images/train\n")
    found = read(root / "labels" / "train")
    assert summary(found) == [("a", "", 2), ("b", "", 0)]
    assert found[0].labels.class_names == ("tank", "ship")
    (root / "images" / "train").rename(root / "pictures")
    with pytest.raises(LabelError, match=r"--images \(images in a recipe\)"):
        read(root / "labels" / "train")
    given = read(root / "labels" / "train", images=str(root / "pictures"))
    assert summary(given) == [("a", "", 2), ("b", "", 0)]


@pytest.mark.parametrize("images", ["moved", "moved/images"])
def test_images_of_a_yaml_file_may_be_elsewhere(root: Path, images: str) -> None:
    (root / "data.yaml").write_text(NAMES + "path: ../gone\ntrain: images/train\n")
    (root / "moved").mkdir()
    for kind in ("images", "labels"):
        (root / kind).rename(root / "moved" / kind)
    with pytest.raises(LabelError, match=r"no such file or folder: .*--images \(images in"):
        read(root)
    assert summary(read(root, images=str(root / images))) == WHOLE[:2]


def test_classes_go_by_their_names(root: Path) -> None:
    (root / "labels" / "classes.txt").write_text("tank\nship\n")
    found = read(root, class_names=("ship", "tank"))
    assert found[0].labels.class_names == ("ship", "tank")
    assert found[0].labels.class_ids.tolist() == [0, 1]
    with pytest.raises(LabelError, match=r"expected the classes car, found also 'ship', 'tank'"):
        read(root, class_names=("car",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NAMES + "train: images/none\n", "no such file or folder: .*none"),
        ("names: tank\ntrain: images/train\n", "expected names as a list"),
        ("names: {1: tank}\ntrain: images/train\n", "with the ids from 0 upwards"),
        (NAMES + "train: 3\n", "expected for train, val and test a folder"),
        ("names: [tank]\ntrain: images/train\n", r"class ids must be in 0\.\.0 .*--classes"),
        ("[", "expected a data set's YAML file"),
        ("[" * 5000, "expected a data set's YAML file"),
        (BOMB + "names: *z\ntrain: images/train\n", "expected names as a list"),
        (BOMB + NAMES + "train: [[*z]]\n", "expected for train, val and test a folder"),
        ("3", "expected a data set's YAML file"),
        (NAMES + "train: lost.txt\n", r"1 of 1 listed image not there: .*gone\.png"),
    ],
)
def test_what_is_wrong_with_a_yaml_file_is_said(root: Path, text: str, said: str) -> None:
    (root / "data.yaml").write_text(text)
    (root / "lost.txt").write_text("images/gone.png\n")
    with pytest.raises(LabelError, match=said):
        read(root)


def test_a_yaml_file_tells_the_format_of_its_folder(root: Path) -> None:
    away = root.parent / "away"
    away.mkdir()
    (away / "coco8.yaml").write_text(NAMES + f"path: {root}\ntrain: images/train\n")
    (away / "environment.yml").write_text("[not of a data set")
    assert format_of(str(away)) == "yolo"
    assert summary(read(away)) == WHOLE[:2]


def test_without_pyyaml_the_way_round_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data.yaml").write_text(NAMES + "train: images/train\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DependencyError, match="pip install pyyaml"):
        read(root)
    (root / "data.yaml").unlink()
    assert summary(read(root, class_names=("tank", "ship"))) == WHOLE


def test_text_files_without_image_are_named(root: Path) -> None:
    (root / "labels" / "val" / "z.txt").write_text(BOX)
    with pytest.raises(LabelError, match=r"no image in .* for val/z\.txt"):
        read(root, class_names=("tank", "ship"))


def test_a_split_that_is_not_there_is_left_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "data.yaml").write_text(NAMES + "train: images/train\ntest: images/test\n")
    assert summary(read(root)) == WHOLE[:2]
    assert "left out what is not there" in caplog.text


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (BOX, True),
        (POLYGON, True),
        ("0 0.1 0.2 0.3 0.4 0.9", True),
        ("0 0.1 0.2 0.3", False),
        ("0 15 20 30 40", False),
        ("1 5 5 1 9 5 5 9 plane 1", False),
        ("", False),
    ],
)
def test_yolo_is_told_by_its_lines(tmp_path: Path, line: str, known: bool) -> None:
    (tmp_path / "a.txt").write_text(line)
    if known:
        assert format_of(str(tmp_path)) == "yolo"
    else:
        with pytest.raises(LabelError, match="does not tell its format"):
            format_of(str(tmp_path))


@pytest.mark.parametrize("described", [False, True])
def test_a_text_file_of_two_images_is_refused(root: Path, described: bool) -> None:
    (root / "labels" / "classes.txt").write_text("tank\nship\n")
    if described:
        # One image in two splits has one text file, and is one image.
        (root / "data.yaml").write_text("train: images/train\nval: images/train\n" + NAMES)
        assert len(read(root)) == 4
    Image.new("RGB", (40, 20)).save(root / "images" / "train" / "a.tif")
    with pytest.raises(LabelError, match=r"got .*a\.png and .*a\.tif"):
        read(root)


@pytest.mark.parametrize(
    "beside", ["classes.txt", "readme.txt", "README.roboflow.txt", "stray.txt"]
)
@pytest.mark.parametrize("images", [False, True])
def test_text_files_beside_images_and_labels_are_no_labels(
    root: Path, beside: str, images: bool
) -> None:
    (root / beside).write_text(BOX if beside == "stray.txt" else "tank\nship\n")
    stated = {} if beside == "classes.txt" else {"class_names": ("tank", "ship")}
    if images:
        stated["images"] = str(root / "images")  # type: ignore[assignment]
    assert format_of(str(root)) == "yolo"
    found = read(root, **stated)
    assert summary(found) == WHOLE
    assert found[0].labels.class_names == ("tank", "ship")


def test_text_files_beside_the_folders_of_splits_are_no_labels(root: Path) -> None:
    splits_first(root)
    (root / "README.roboflow.txt").write_text("Exported by Roboflow\n")
    assert summary(read(root, class_names=("tank", "ship"))) == WHOLE


def test_text_files_with_labels_go_before_folders_below(root: Path) -> None:
    """As without such folders: these are a folder's labels, those another data set's."""
    (root / "labels").rename(root / "old")
    (root / "labels").mkdir()
    (root / "a.txt").write_text(BOX)
    images = str(root / "images" / "train")
    found = read(root, images=images, class_names=("tank", "ship"))
    assert summary(found) == [("a", "", 1), ("b", "", 0)]


def test_an_empty_split_is_left_out_as_a_missing_one(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "images" / "test").mkdir()
    (root / "none.txt").write_text("")
    text = "train: images/train\nval: none.txt\ntest: ../images/test\n"
    (root / "data.yaml").write_text(NAMES + text)
    assert summary(read(root)) == WHOLE[:2]
    assert "left out what is not there: no images in " in caplog.text
    assert "none.txt (val), " in caplog.text
    assert "images/test (test); " in caplog.text
    (root / "data.yaml").write_text(NAMES + "train: gone\ntest: ../images/test\n")
    said = r"no such file or folder: .*gone \(train\); no images in .*test \(test\); .*--images"
    with pytest.raises(LabelError, match=said):
        read(root)


@pytest.mark.parametrize("classes", ["", "labels"])
def test_a_folder_of_labels_with_splits_below_is_read(root: Path, classes: str) -> None:
    (root / classes / "classes.txt").write_text("tank\nship\n")
    assert format_of(str(root / "labels")) == "yolo"
    assert summary(read(root / "labels")) == WHOLE
    (root / "images").rename(root / "pictures")
    assert summary(read(root / "labels", images=str(root / "pictures"))) == WHOLE
    with pytest.raises(LabelError, match=r"--images \(images in a recipe\)"):
        read(root / "labels")


def test_class_names_in_another_encoding_are_refused(root: Path) -> None:
    (root / "classes.txt").write_bytes("Höhe\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"classes\.txt: expected a text file .* in UTF-8"):
        read(root)


@pytest.mark.parametrize("beside", [False, True])
def test_a_data_set_may_itself_be_called_labels(root: Path, beside: bool) -> None:
    moved = root.rename(root.parent / "labels")
    if beside:
        (moved / "classes.txt").write_text("tank\nship\n")
    assert summary(read(moved, class_names=("tank", "ship"))) == WHOLE
    splits_first(moved)
    assert summary(read(moved, class_names=("tank", "ship"))) == WHOLE


@pytest.mark.parametrize("text", ["train: images/train\nval: images/val\n" + NAMES, NAMES])
def test_text_files_may_end_in_capitals(root: Path, text: str) -> None:
    file = root / "labels" / "train" / "a.txt"
    file.rename(file.with_suffix(".TXT"))
    (root / "data.yaml").write_text(text)
    assert summary(read(root)) == WHOLE


def test_text_files_of_a_yaml_file_without_image_are_told(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/val\n" + NAMES)
    (root / "labels" / "train" / "classes.txt").write_text("tank\nship\n")
    assert summary(read(root)) == WHOLE
    assert not caplog.records
    (root / "images" / "train" / "a.png").rename(root / "images" / "train" / "A (1).png")
    read(root)
    (told,) = caplog.messages
    assert told.endswith(f"belong to no image: {root / 'labels' / 'train' / 'a.txt'}")


@pytest.mark.parametrize("path", ["data.yaml", "", "labels"])
@pytest.mark.parametrize("keypoints", ["0.45 0.5 0.55 0.5", "0.45 0.5 2 0.55 0.5 2", "0.4 0.5 2"])
def test_of_a_pose_the_box_is_taken(root: Path, path: str, keypoints: str) -> None:
    """A box and keypoints may be as many numbers as a polygon has: the file says which they are."""
    (root / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nkpt_shape: [2, 3]\n{NAMES}"
    )
    (root / "labels" / "train" / "a.txt").write_text(f"1 0.5 0.5 0.25 0.5 {keypoints}\n")
    found = read_labels(LabelSource(path=str(root / path)), label_format="yolo")
    boxes = next(item.labels.boxes for item in found if Path(item.raster).stem == "a")
    assert boxes.tolist() == [[15, 5, 25, 15]]
