import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

from geo_retina.errors import (
    GeoreferenceError,
    GeoRetinaError,
    GsdError,
    LabelError,
    OutputError,
    WriteError,
)
from geo_retina.labels import chips
from geo_retina.labels.chips import ChipOptions, cut_chips, labels_in_window
from geo_retina.labels.coco import read_coco
from geo_retina.labels.earlier_chips import CUT_HERE
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space.windows import Window

Writer = Callable[..., Path]

BOXES = np.array([[10.5, 10.25, 20.0, 20.0], [28.0, 4.0, 38.0, 12.0], [30.0, 50.0, 60.0, 60.0]])
"""On 96 x 64 px: in the first chip of 32 px; across two; a sliver and the rest."""


@pytest.fixture
def labelled(tmp_path: Path, write_raster_at: Writer) -> LabelledRaster:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (3, 64, 96)).astype(np.uint8)
    path = write_raster_at(
        tmp_path / "plot.tif", pixels, colours=("red", "green", "blue"), nodata=0
    )
    return LabelledRaster(str(path), Labels.of(BOXES, [0, 1, 0], ("tree", "palm")), "N", "train")


def test_labels_are_cut_and_slivers_are_ignored() -> None:
    labels = Labels.of(BOXES, [0, 1, 0], ("tree", "palm"))
    found = labels_in_window(labels, Window(32, 0, 32, 32), min_visible=0.7)
    assert found.boxes.tolist() == [[0, 4, 6, 12]]
    assert found.counted.tolist() == [False]  # 60 % of it is seen
    assert labels_in_window(labels, Window(32, 0, 32, 32), min_visible=0.6).counted.tolist() == [
        True
    ]


def test_chips_hold_the_right_pixels_labels_and_place(
    tmp_path: Path, labelled: LabelledRaster
) -> None:
    out = tmp_path / "out"
    found = cut_chips([labelled], out, options=ChipOptions(chip_px=32, empty_share=0))
    assert (found.chips, found.empty_chips, found.labels, found.ignored) == (3, 0, 4, 0)
    assert found.annotations == (out / "train.json",)
    items = read_coco(out / "train.json")
    with rasterio.open(labelled.raster) as source:
        pixels, transform, crs = source.read(), source.transform, source.crs
    back = []
    for item in items:
        column, row = map(int, Path(item.raster).stem.split("_")[1:])
        with rasterio.open(item.raster) as chip:
            assert chip.crs == crs
            assert chip.nodata == 0
            assert (chip.transform.c, chip.transform.f) == transform @ (column, row)
            np.testing.assert_array_equal(
                chip.read(), pixels[:, row : row + 32, column : column + 32]
            )
        boxes = item.labels.boxes + np.array([column, row, column, row])
        back += boxes[item.labels.counted].tolist()
        assert item.labels.class_names == ("tree", "palm")
    assert sorted(back) == sorted(
        [BOXES[0].tolist(), [28, 4, 32, 12], [32, 4, 38, 12], [32, 50, 60, 60]]
    )


@pytest.mark.parametrize("gsd_m", [0.2, 0.05, 0.16])
def test_chips_at_another_gsd_show_the_same_ground(
    gsd_m: float, tmp_path: Path, write_raster_at: Writer
) -> None:
    pixels = np.full((2, 60, 90), 50, np.uint16)
    pixels[:, 20:40, 30:50] = 900  # the object, 2 m a side
    pixels[:, :, 80:] = 0
    path = write_raster_at(tmp_path / "plot.tif", pixels, nodata=0)
    labels = Labels.of(np.array([[30, 20, 50, 40.0]]), [0], ("tree",))
    area = shapely.box(0, 0, 90, 60)
    item = LabelledRaster(str(path), labels, "N", "train", area=area)
    options = ChipOptions(chip_px=int(6 / gsd_m), empty_share=1, gsd_m=gsd_m)
    cut_chips([item], tmp_path / "out", options=options)
    first = read_coco(tmp_path / "out" / "train.json")[0]
    with rasterio.open(tmp_path / "plot.tif") as source, rasterio.open(first.raster) as chip:
        assert chip.res == pytest.approx((gsd_m, gsd_m), rel=0.02)
        assert (chip.count, chip.dtypes[0], chip.nodata) == (2, "uint16", 0)
        assert (chip.transform.c, chip.transform.f) == (source.transform.c, source.transform.f)
        world = np.array(
            [chip.transform @ tuple(point) for point in first.labels.boxes[0].reshape(2, 2)]
        )
        expected = np.array([source.transform @ point for point in ((30, 20), (50, 40))])
        np.testing.assert_allclose(world, expected, atol=1e-6)
        column, row = (int(v) for v in ~chip.transform @ tuple(expected.mean(axis=0)))
        assert chip.read(1)[row, column] == 900
        assert chip.read(1)[2, 2] == 50
    with pytest.raises(GsdError, match="over 0"):
        cut_chips([item], tmp_path / "bad", options=ChipOptions(chip_px=8, gsd_m=-1))


def test_a_raster_without_gsd_cannot_be_resampled(tmp_path: Path, write_raster_at: Writer) -> None:
    path = write_raster_at(tmp_path / "plain.tif", np.ones((1, 9, 9), np.uint8), crs=None)
    item = LabelledRaster(str(path), Labels.empty(["tree"]))
    with pytest.raises(GeoreferenceError, match="no georeference"):
        cut_chips([item], tmp_path / "out", options=ChipOptions(chip_px=8, gsd_m=0.1))


def test_objects_across_chips_follow_the_policy(tmp_path: Path, labelled: LabelledRaster) -> None:
    strict = cut_chips(
        [labelled],
        tmp_path / "out",
        options=ChipOptions(chip_px=32, empty_share=0, min_visible=1),
    )
    assert (strict.chips, strict.labels, strict.ignored) == (1, 1, 1)


def test_empty_chips_are_kept_by_share_and_the_choice_is_stable(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    path = write_raster_at(tmp_path / "empty.tif", np.full((1, 320, 320), 9, np.uint8))
    item = LabelledRaster(str(path), Labels.empty(["tree"]))
    names = []
    for share in (0, 0.3, 0.6, 1):
        out = tmp_path / f"out{share}"
        found = cut_chips([item], out, options=ChipOptions(chip_px=32, empty_share=share))
        assert found.chips == found.empty_chips
        names.append({file.name for file in (out / "chips").iterdir()})
    assert [len(part) for part in names[::3]] == [0, 100]
    assert 15 < len(names[1]) < 45
    assert names[1] < names[2]


@pytest.mark.parametrize(("empty", "nodata"), [(0, 0), (np.nan, None)])
def test_chips_without_valid_pixels_are_left_out(
    tmp_path: Path, write_raster_at: Writer, empty: float, nodata: int | None
) -> None:
    pixels = np.full((1, 32, 64), empty, np.float32)
    pixels[:, :, 40:] = 7
    path = write_raster_at(tmp_path / "half.tif", pixels, nodata=nodata)
    item = LabelledRaster(str(path), Labels.empty(["tree"]))
    found = cut_chips([item], tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    assert found.chips == 1


def test_an_area_too_small_for_any_chip_is_an_error_before_anything_is_written(
    tmp_path: Path, labelled: LabelledRaster
) -> None:
    small = LabelledRaster(
        labelled.raster, labelled.labels, split="val", area=shapely.box(0, 0, 90, 31)
    )
    with pytest.raises(LabelError, match=r"no chip of 32 px lies wholly .* of 'val'; cut smaller"):
        cut_chips([labelled, small], tmp_path / "out", options=ChipOptions(chip_px=32))
    assert not (tmp_path / "out").exists()


def test_only_chips_inside_the_area_are_cut(tmp_path: Path, labelled: LabelledRaster) -> None:
    part = LabelledRaster(
        labelled.raster, labelled.labels, split="val", area=shapely.box(0, 0, 70, 40)
    )
    found = cut_chips([part], tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    assert found.annotations[0].name == "val.json"
    names = {file.name for file in (tmp_path / "out" / "chips").iterdir()}
    assert names == {"plot_0_0.tif", "plot_32_0.tif"}


def test_png_chips(tmp_path: Path, labelled: LabelledRaster, write_raster_at: Writer) -> None:
    options = ChipOptions(chip_px=32, empty_share=0, chip_format="png")
    cut_chips([labelled], tmp_path / "out", options=options)
    with Image.open(tmp_path / "out" / "chips" / "plot_0_0.png") as picture:
        assert picture.size == (32, 32)
        assert picture.mode == "RGB"
    path = write_raster_at(tmp_path / "wide.tif", np.zeros((5, 40, 40), np.uint8))
    item = LabelledRaster(str(path), labelled.labels)
    with pytest.raises(LabelError, match="this has 5 of uint8; cut chips as tif"):
        cut_chips([item], tmp_path / "other", options=options)


def test_a_folder_that_holds_chips_is_refused_or_cleared(
    tmp_path: Path, labelled: LabelledRaster, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    cut_chips([labelled], out, options=ChipOptions(chip_px=32))
    own = out / "chips" / "own_1_2.tif"
    own.write_text("not of an earlier cut")
    (out / "notes.json").write_text('{"images": []}')
    options = ChipOptions(chip_px=48, empty_share=0)
    with pytest.raises(OutputError, match=r"holds chips of an earlier cut.*--overwrite"):
        cut_chips([labelled], out, options=options)
    moved = replace(labelled, split="val")
    cut = cut_chips([moved], out, options=options, overwrite=True)
    assert [file.name for file in sorted(out.glob("*.json"))] == ["notes.json", "val.json"]
    assert own.exists()
    assert "left 1 file that no COCO file" in caplog.text
    assert len(list((out / "chips").iterdir())) == cut.chips + 1


def test_chips_are_not_cut_over_themselves(tmp_path: Path, labelled: LabelledRaster) -> None:
    cut_chips([labelled], tmp_path, options=ChipOptions(chip_px=48))
    chips = read_coco(tmp_path / "train.json")
    with pytest.raises(OutputError, match="is to be cut"):
        cut_chips(chips, tmp_path, options=ChipOptions(chip_px=32), overwrite=True)
    assert Path(chips[0].raster).exists()


def test_rasters_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    items = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = write_raster_at(tmp_path / folder / "x.tif", np.full((1, 32, 32), 9, np.uint8))
        items.append(LabelledRaster(str(path), Labels.empty(["tree"])))
    found = cut_chips(items, tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    assert found.chips == len(list((tmp_path / "out" / "chips").iterdir())) == 2


def test_a_cut_that_fails_leaves_nothing(
    tmp_path: Path, labelled: LabelledRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options = tmp_path / "out", ChipOptions(chip_px=32, empty_share=1)
    mark = chips._mark_invalid

    def full_at_the_second(path: Path, valid: Any) -> None:
        mark(path, valid)
        if len(list(path.parent.iterdir())) > 1:
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(chips, "_mark_invalid", full_at_the_second)
    with pytest.raises(WriteError, match="no space left; make room"):
        cut_chips([labelled], out, options=options)
    assert not list((out / "chips").iterdir())
    monkeypatch.undo()
    assert cut_chips([labelled], out, options=options).chips > 2


def test_splits_get_their_own_file(tmp_path: Path, labelled: LabelledRaster) -> None:
    other = LabelledRaster(labelled.raster, labelled.labels)
    found = cut_chips([labelled, other], tmp_path / "out", options=ChipOptions(chip_px=64))
    assert [path.name for path in found.annotations] == ["all.json", "train.json"]
    content = json.loads(found.annotations[1].read_text())
    assert content["images"][0]["window"] == [0, 0, 64, 64]
    assert content["images"][0]["site"] == "N"


def test_bad_options_and_folders_are_refused(tmp_path: Path, labelled: LabelledRaster) -> None:
    with pytest.raises(LabelError, match="under chip_px 32"):
        ChipOptions(chip_px=32, overlap_px=32)
    with pytest.raises(LabelError, match=r"empty_share must be in 0\.\.1"):
        ChipOptions(chip_px=32, empty_share=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder cannot be made"):
        cut_chips([labelled], tmp_path / "file", options=ChipOptions(chip_px=32))
    other = LabelledRaster(labelled.raster, Labels.empty(["ship"]))
    with pytest.raises(LabelError, match="different classes"):
        cut_chips([labelled, other], tmp_path / "out", options=ChipOptions(chip_px=32))


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_chips_know_what_is_invalid(tmp_path: Path, write_raster_at: Writer, kind: str) -> None:
    valid = np.zeros((64, 96), np.bool_)
    valid[:, :48] = True
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 96)).astype(np.uint8)
    colours = ["red", "green", "blue"]
    if kind == "alpha":
        pixels = np.concatenate([pixels, valid[None] * np.uint8(255)])
        colours.append("alpha")
    mask = valid if kind == "mask" else None
    path = write_raster_at(tmp_path / "plot.tif", pixels, colours=colours, mask=mask)
    labelled = LabelledRaster(str(path), Labels.empty(("tree",)))
    cut = cut_chips([labelled], tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    assert cut.chips == 4, "two columns of three have anything valid"
    shares = []
    for chip in sorted((tmp_path / "out").rglob("*.tif")):
        with rasterio.open(chip) as file:
            shares.append(float(file.dataset_mask().mean() / 255))
    assert shares == [1, 1, 0.5, 0.5]


def test_chips_keep_the_names_of_the_bands(tmp_path: Path, write_raster_at: Writer) -> None:
    names = ("Blue", "Green", "Red", "")
    pixels = np.ones((4, 32, 32), np.uint16)
    path = write_raster_at(
        tmp_path / "plot.tif", pixels, descriptions=names, colours=("gray", *["undefined"] * 3)
    )
    labelled = LabelledRaster(str(path), Labels.empty(("tree",)))
    cut_chips([labelled], tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    (chip,) = (tmp_path / "out").rglob("*.tif")
    with rasterio.open(chip) as file:
        assert file.descriptions == ("Blue", "Green", "Red", None)
        assert [colour.name for colour in file.colorinterp] == ["gray", *["undefined"] * 3]


def test_labels_are_cleaned_before_they_are_cut(
    tmp_path: Path, labelled: LabelledRaster, caplog: pytest.LogCaptureFixture
) -> None:
    boxes: list[list[float]] = [
        [20, 20, 10, 10],
        [40, 40, 50, 50],
        [40, 40, 50, 50.2],
        [400, 4, 410, 9],
    ]
    item = replace(labelled, labels=Labels.of(boxes, [0, 0, 0, 0], ("tree", "palm")))
    with caplog.at_level("INFO", logger="geo_retina"):
        cut = cut_chips([item], tmp_path / "out", options=ChipOptions(chip_px=64, empty_share=0))
    chip, _ = read_coco(tmp_path / "out" / "train.json")
    assert cut.labels == 3  # one of them in both chips
    assert chip.labels.boxes.tolist() == [[10, 10, 20, 20], [40, 40, 50, 50]]
    assert (
        "cut from 1 raster with 4 objects (mended: 1 swapped, 1 outside, 1 duplicate)"
        in caplog.text
    )


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("inside", [7, 0])
def test_a_mask_beside_nodata_or_alpha_is_kept(
    tmp_path: Path, write_raster_at: Writer, alpha: bool, inside: int
) -> None:
    """A mask goes before both: masked pixels may hold data, and valid ones may hold nodata."""
    valid = np.ones((32, 64), np.bool_)
    valid[:, :20] = False
    pixels = np.full((2, 32, 64), 7, np.uint8)
    pixels[:, 5:9, 40:50] = inside
    colours = ["gray", "alpha" if alpha else "undefined"]
    path = write_raster_at(
        tmp_path / "plot.tif", pixels, colours=colours, mask=valid, nodata=None if alpha else 0
    )
    labelled = LabelledRaster(str(path), Labels.empty(("tree",)))
    cut_chips([labelled], tmp_path / "out", options=ChipOptions(chip_px=32, empty_share=1))
    for column in (0, 32):
        with rasterio.open(tmp_path / "out" / "chips" / f"plot_{column}_0.tif") as chip:
            np.testing.assert_array_equal(chip.read(), pixels[:, :, column : column + 32])
            np.testing.assert_array_equal(chip.dataset_mask() > 0, valid[:, column : column + 32])
            flags = [flag.name for flag in chip.mask_flag_enums[0]]
            assert ("nodata" in flags) == (not alpha and column == 32 and inside == 7)


@pytest.mark.parametrize("fault", ["gone", "bands", "georeference", "windows"])
def test_earlier_chips_stay_where_the_next_ones_cannot_be_cut(
    tmp_path: Path, labelled: LabelledRaster, write_raster_at: Writer, fault: str
) -> None:
    out = tmp_path / "out"
    cut_chips([labelled], out, options=ChipOptions(chip_px=32))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    bands, crs = (5 if fault == "bands" else 3), ({"crs": None} if fault == "georeference" else {})
    path = write_raster_at(tmp_path / "next.tif", np.ones((bands, 40, 40), np.uint8), **crs)
    bad = replace(labelled, raster=str(path))
    options = ChipOptions(chip_px=32)
    if fault == "gone":
        path.unlink()
    elif fault == "bands":
        options = replace(options, chip_format="png")
    elif fault == "georeference":
        options = replace(options, gsd_m=0.1)
    else:
        bad = replace(bad, split="val", area=shapely.box(0, 0, 40, 31))
    with pytest.raises(GeoRetinaError):
        cut_chips([labelled, bad], out, options=options, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_labels_in_the_folder_are_not_overwritten(
    tmp_path: Path, labelled: LabelledRaster, *, overwrite: bool
) -> None:
    book, content = tmp_path / f"{labelled.split}.json", '{"images": [], "annotations": []}'
    book.write_text(content)
    with pytest.raises(OutputError, match=r"train\.json: is not of an earlier cut"):
        cut_chips([labelled], tmp_path, options=ChipOptions(chip_px=32), overwrite=overwrite)
    assert book.read_text() == content


def test_a_coco_file_of_an_earlier_cut_without_images_is_removed(
    tmp_path: Path, labelled: LabelledRaster
) -> None:
    out, options = tmp_path / "out", ChipOptions(chip_px=32, empty_share=0)
    bare = replace(labelled, labels=Labels.empty(("tree", "palm")), split="val")
    cut_chips([labelled, bare], out, options=options)
    assert json.loads((out / "val.json").read_text())["images"] == []
    cut_chips([labelled], out, options=options, overwrite=True)
    assert [file.name for file in out.glob("*.json")] == ["train.json"]


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": "tree"}]},
        {"images": [], "annotations": [], "categories": [], "info": {"description": "trees"}},
        {"images": [{"id": 1, "file_name": "chips/own.tif"}], "annotations": [], "categories": []},
        {
            "images": [
                {"id": 1, "file_name": "own.tif", "raster": "a.tif", "window": [0, 0, 8, 8]}
            ],
            "annotations": [],
            "categories": [],
        },
        {"images": [], "annotations": [{"id": 1}], "info": {"description": CUT_HERE}},
        {"images": [{"file_name": "chips/own.tif"}], "info": {"description": CUT_HERE}},
    ],
    ids=["empty", "described", "no window", "elsewhere", "annotated", "edited"],
)
def test_coco_files_of_others_stay(
    tmp_path: Path, labelled: LabelledRaster, content: dict[str, object]
) -> None:
    out = tmp_path / "out"
    cut_chips([labelled], out, options=ChipOptions(chip_px=32))
    (out / "own.json").write_text(json.dumps(content))
    (out / "chips" / "own.tif").write_text("not of an earlier cut")
    cut_chips([labelled], out, options=ChipOptions(chip_px=48), overwrite=True)
    assert json.loads((out / "own.json").read_text()) == content
    assert (out / "chips" / "own.tif").exists()


@pytest.mark.parametrize("split", ["../x", "train/a", "train\\a", "/x", ".", "what?"])
def test_a_split_whose_name_is_no_file_is_refused(
    tmp_path: Path, labelled: LabelledRaster, split: str
) -> None:
    """Its COCO file would lie elsewhere, or be hidden."""
    out = tmp_path / "out" / "here"
    with pytest.raises(LabelError, match="expected a split whose name can be that of a COCO file"):
        cut_chips([replace(labelled, split=split)], out, options=ChipOptions(chip_px=32))
    assert not (tmp_path / "out").exists()
