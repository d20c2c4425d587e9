import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

from geo_retina.detection.vector import open_writer
from geo_retina.errors import LabelError
from geo_retina.labels.choice import choose_listed
from geo_retina.labels.coco import read_coco
from geo_retina.labels.files import list_images, read_grid
from geo_retina.labels.formats import LabelSource, format_of, read_labels
from geo_retina.labels.image_paths import refuse_missing_images
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.points import read_point_csvs
from geo_retina.labels.text import read_dota, read_yolo
from geo_retina.labels.vector import VectorOptions
from geo_retina.labels.voc import read_voc
from geo_retina.labels.xview import read_xview
from geo_retina.space.detections import Detections
from geo_retina.training.sources import AnySource

WIDTH, HEIGHT = 40, 20
ORIENTATION = 0x0112
"""Tag of EXIF that says how a picture is to be turned."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    return folder


def voc_text(*boxes: tuple[int, int, int, int], difficult: int = 0) -> str:
    objects = "".join(
        f"<object><name>tank</name><difficult>{difficult}</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    return f"<annotation><filename>a.png</filename>{objects}</annotation>"


def test_voc_boxes_are_edges_from_zero_unless_told(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(voc_text((1, 2, 10, 12)))
    (item,) = read_voc(tmp_path / "a.xml")
    assert item.raster == str(tmp_path / "a.png")
    assert item.labels.boxes.tolist() == [[1, 2, 10, 12]]
    (devkit,) = read_voc(tmp_path / "a.xml", first_pixel=1)
    assert devkit.labels.boxes.tolist() == [[0, 1, 10, 12]]


def test_voc_folder_shares_class_names_and_keeps_empty_images(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(voc_text((1, 2, 10, 12), difficult=1))
    (tmp_path / "b.xml").write_text(voc_text().replace("a.png", "b.png"))
    full, empty = read_voc(tmp_path)
    assert full.labels.counted.tolist() == [False]
    assert len(empty.labels) == 0
    assert empty.labels.class_names == ("tank",)


def test_blanks_around_a_voc_filename_are_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(voc_text().replace("a.png", "\n  a.png\n"))
    (item,) = read_voc(tmp_path / "a.xml")
    assert item.raster == str(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(voc_text().replace("a.png", " "))
    with pytest.raises(LabelError, match="<filename>"):
        read_voc(tmp_path / "a.xml")


def test_voc_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation>")
    with pytest.raises(LabelError, match=r"a\.xml: expected a VOC annotation"):
        read_voc(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_text(voc_text((1, 2, 3, 4)).replace("<xmax>3</xmax>", ""))
    with pytest.raises(LabelError, match="object 'tank'"):
        read_voc(tmp_path / "a.xml")


@pytest.fixture
def voc_set(tmp_path: Path) -> Path:
    """A data set laid out as the devkit's, with one image in train."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "voc" / "JPEGImages" / "a.png")
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text(voc_text((1, 2, 10, 12)))
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    return tmp_path / "voc"


@pytest.mark.parametrize("path", ["", "Annotations", "Annotations/a.xml"])
def test_a_voc_data_set_is_read_from_its_folders(voc_set: Path, path: str) -> None:
    (item,) = read_labels(LabelSource(path=str(voc_set / path)))
    assert item.raster == str(voc_set / "JPEGImages" / "a.png")
    assert item.split == "train"


@pytest.mark.parametrize("path", ["", "labels"])
def test_training_data_exported_by_arcgis_are_voc(tmp_path: Path, path: str) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.xml").write_text(voc_text((1, 2, 10, 12)))
    (tmp_path / "map.txt").write_text("images/a.png labels/a.xml\n")
    (item,) = read_labels(LabelSource(path=str(tmp_path / path)))
    assert item.raster == str(tmp_path / "images" / "a.png")
    assert item.labels.boxes.tolist() == [[1, 2, 10, 12]]


def test_an_image_in_two_lists_of_voc_is_refused(voc_set: Path) -> None:
    (voc_set / "ImageSets" / "Main" / "val.txt").write_text("a -1\n")
    with pytest.raises(LabelError, match=r"names a, which train\.txt names too"):
        read_voc(voc_set)


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_images_of_paths_that_lead_nowhere_are_found_by_name(
    tmp_path: Path, images: Path, kind: str
) -> None:
    if kind == "voc":
        path = tmp_path / "a.xml"
        path.write_text(voc_text((1, 2, 3, 4)).replace("a.png", r"C:\data\a.png"))
        found = read_voc(path, images)
    else:
        path, content = tmp_path / "labels.json", coco_dict()
        content["images"] = [{"id": 3, "file_name": "elsewhere/a.png"}]
        path.write_text(json.dumps(content))
        found = read_coco(path, images)
    assert [item.raster for item in found] == [str(images / "a.png")]


def test_images_are_found_without_what_label_studio_put_before_their_names(
    tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, content = tmp_path / "labels.json", coco_dict()
    content["images"] = [
        {"id": 3, "file_name": r"..\media\upload\4\cb0618f6-a.png"},
        {"id": 7, "file_name": "images\\cb0618f6-gone.png"},
        {"id": 8, "file_name": "other/bcb0618f6-.png"},
    ]
    path.write_text(json.dumps(content))
    found = read_coco(path, images)
    assert [item.raster for item in found] == [
        str(images / "a.png"),
        str(images / "cb0618f6-gone.png"),
        str(images / "other" / "bcb0618f6-.png"),
    ]
    assert "1 of 3 images" in caplog.text


def test_an_image_of_another_ending_is_named(tmp_path: Path, images: Path) -> None:
    path, content = tmp_path / "labels.json", coco_dict()
    content["images"] = [{"id": 3, "file_name": "a.tif"}]
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=r"if .*a\.png has the same pixels"):
        refuse_missing_images(read_coco(path, images), source=path, some_may_lack=False)


def coco_dict() -> dict[str, list[dict[str, object]]]:
    return {
        "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 9, "name": "ship"}, {"id": 2, "name": "tank"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [5, 5, 1, 1], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 2, "segmentation": [[1, 1, 4, 1, 4, 3]]},
        ],
    }


def test_coco_boxes_classes_crowds_and_empty_images(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(coco_dict()))
    empty, full = read_coco(path)
    assert empty.raster == str(tmp_path / "b.png")
    assert len(empty.labels) == 0
    assert full.labels.boxes.tolist() == [[1, 2, 4, 6], [5, 5, 6, 6], [1, 1, 4, 3]]
    assert full.labels.class_names == ("tank", "ship")
    assert full.labels.class_ids.tolist() == [1, 0, 0]
    assert full.labels.counted.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_default.json", "images/default"),  # CVAT
        ("annotations/instances_default.json", "images"),  # CVAT before subsets
        ("annotations/instances_train2017.json", "train2017"),  # COCO's own
        ("annotations/instances_default.json", "annotations"),
        ("labels.json", "images"),
    ],
)
def test_coco_images_are_found_in_the_usual_folders(tmp_path: Path, file: str, folder: str) -> None:
    for place in (tmp_path / file, tmp_path / folder / "a.png"):
        place.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "a.png").touch()
    (tmp_path / folder / "b.png").touch()
    (tmp_path / file).write_text(json.dumps(coco_dict()))
    found = [item.raster for item in read_coco(tmp_path / file)]
    assert found == [str(tmp_path / folder / name) for name in ("b.png", "a.png")]


def test_coco_images_in_two_folders_are_not_chosen_from(tmp_path: Path) -> None:
    for folder in ("annotations", "images/val"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("images", "images/val"):
        (tmp_path / folder / "a.png").touch()
    path = tmp_path / "annotations" / "instances_val.json"
    path.write_text(json.dumps(coco_dict()))
    with pytest.raises(LabelError, match=r"images.val and in .*images; state which with --images"):
        read_coco(path)
    assert len(read_coco(path, tmp_path / "images")) == 2
    (tmp_path / "annotations" / "b.png").touch()
    assert read_coco(path)[0].raster == str(tmp_path / "annotations" / "b.png")


def test_coco_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    broken = coco_dict()
    broken["annotations"][0]["image_id"] = 99
    path.write_text(json.dumps(broken))
    with pytest.raises(LabelError, match=r"image_id .* ids of images \(7, 3\), got 99"):
        read_coco(path)
    del broken["images"]
    path.write_text(json.dumps(broken))
    with pytest.raises(LabelError, match="expected a COCO file"):
        read_coco(path)
    broken = coco_dict()
    del broken["annotations"][0]["category_id"]
    path.write_text(json.dumps(broken))
    with pytest.raises(LabelError, match="KeyError 'category_id'"):
        read_coco(path)


def test_yolo_boxes_polygons_and_images_without_objects(tmp_path: Path, images: Path) -> None:
    (tmp_path / "classes.txt").write_text("tank\nship\n")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.3 0.2 0.3 0.6\n")
    full, empty = read_yolo(tmp_path, images)
    assert full.raster == str(images / "a.png")
    np.testing.assert_allclose(full.labels.boxes, [[15, 5, 25, 15], [4, 4, 12, 12]])
    assert full.labels.class_ids.tolist() == [1, 0]
    assert len(empty.labels) == 0


def test_yolo_scores_are_kept(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5 0.75\n")
    full, _ = read_yolo(tmp_path, images, class_names=["tank"])
    assert full.labels.scores is not None
    assert full.labels.scores.tolist() == [0.75]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.25 0.5", "a.txt: class ids must be"),
        ("0 0.5 0.5 0.25", "line 1: expected class and 4 numbers"),
        ("tank 0.5 0.5 0.25 0.5", "line 1: expected numbers"),
    ],
)
def test_yolo_says_what_is_wrong(tmp_path: Path, images: Path, line: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(LabelError, match=message):
        read_yolo(tmp_path, images, class_names=["tank"])


def test_yolo_needs_class_names_and_images(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.txt").write_text("0 0.5 0.5 0.25 0.5")
    with pytest.raises(LabelError, match=r"no image in .* for c\.txt"):
        read_yolo(tmp_path, images)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(LabelError, match=r"--classes \(card\.class_names in a recipe\)"):
        read_yolo(tmp_path, str(images / "a.*"))
    with pytest.raises(LabelError, match=r"no image in .* for c\.txt"):
        read_yolo(tmp_path, images, class_names=["tank"])


def test_dota_becomes_enclosing_boxes(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "imagesource:GoogleEarth\ngsd:0.1\n1 5 5 1 9 5 5 9 plane 1\n0 0 2 0 2 2 0 2 ship 0\n"
    )
    (item,) = read_dota(tmp_path, images)
    assert item.raster == str(images / "a.png")
    assert item.labels.boxes.tolist() == [[1, 1, 9, 9], [0, 0, 2, 2]]
    assert item.labels.class_names == ("plane", "ship")
    assert item.labels.counted.tolist() == [False, True]


def test_dota_says_what_is_wrong(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.txt").write_text("1 5 5 1 9 5 5 plane")
    with pytest.raises(LabelError, match="line 1: expected 8 numbers"):
        read_dota(tmp_path, images)
    (tmp_path / "a.txt").rename(tmp_path / "c.txt")
    (tmp_path / "c.txt").write_text("0 0 2 0 2 2 0 2 ship 0")
    with pytest.raises(LabelError, match="expected one image called c"):
        read_dota(tmp_path, images)


def xview_text(*rows: tuple[str, int, str]) -> str:
    features = [
        {"properties": {"image_id": image, "type_id": type_id, "bounds_imcoords": box}}
        for image, type_id, box in rows
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def test_xview_takes_pixels_known_types_and_present_images(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "xview.geojson"
    path.write_text(
        xview_text(
            ("a.png", 86, "1,2,3,4"),
            ("a.png", 75, "0,0,9,9"),
            ("a.png", 73, "5,5,6,6"),
            ("absent.tif", 86, "0,0,1,1"),
        )
    )
    (item,) = read_xview(path, images, class_names=["Storage Tank"])
    assert item.labels.boxes.tolist() == [[1, 2, 3, 4]]
    (every,) = read_xview(path, images)
    assert len(every.labels.class_names) == 60
    assert [every.labels.class_names[i] for i in every.labels.class_ids] == [
        "Storage Tank",
        "Building",
    ]


def test_format_is_told_by_the_file(tmp_path: Path, images: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(coco_dict()))
    (tmp_path / "xview.geojson").write_text(xview_text(("a.png", 86, "1,2,3,4")))
    (tmp_path / "plain.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "a.xml").write_text(voc_text((1, 2, 3, 4)))
    formats = {
        name: format_of(str(tmp_path / name))
        for name in ("coco.json", "xview.geojson", "plain.geojson", "a.xml")
    }
    assert list(formats.values()) == ["coco", "xview", "vector", "voc"]
    assert format_of("trees.gpkg") == "vector"
    assert format_of("trees.csv") == "deepforest"
    with pytest.raises(LabelError, match=r"state one of coco, deepforest.*--format"):
        format_of(str(images))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(coco_dict()))
    (tmp_path / "README.txt").write_text("exported by Roboflow")
    for name in ("coco.json", "a.xml"):
        (tmp_path / name).unlink()
    with pytest.raises(
        LabelError, match=r"name one file in it, such as .*_annotations\.coco\.json"
    ):
        format_of(str(tmp_path))
    with pytest.raises(LabelError, match="nowhere: no such file or folder"):
        format_of(str(tmp_path / "nowhere"))


def test_every_reader_is_reached_by_name(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    source = LabelSource(path=str(tmp_path), images=str(images), class_names=["tank"])
    found = read_labels(source, label_format="yolo")
    assert [len(item.labels) for item in found] == [1, 0]
    with pytest.raises(LabelError, match="expected a label format among"):
        read_labels(source, label_format="kitti")
    with pytest.raises(LabelError, match="pass images"):
        read_labels(LabelSource(path=str(tmp_path)), label_format="dota")


def test_images_by_a_pattern(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    for name in ("b1.tif", "b2.tif", "c1.tif", "b3.txt"):
        (tmp_path / name).touch()
    found = list_images(tmp_path / "b*")
    assert found == [str(tmp_path / "b1.tif"), str(tmp_path / "b2.tif")]
    with pytest.raises(LabelError, match="fits the pattern"):
        list_images(tmp_path / "d*.tif")
    literal = write_raster("[e].tif", np.zeros((1, 8, 8), np.uint8))
    assert list_images(literal) == [str(literal)]


@pytest.mark.parametrize(
    ("vector", "first_pixel", "said"),
    [
        (VectorOptions(layer="trees"), 0, "--layer would have no effect on deepforest labels"),
        (VectorOptions(crs="EPSG:4326", score_column="x"), 0, "--score-column, --labels-crs would"),
        (VectorOptions(), 1, "--first-pixel would"),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, vector: VectorOptions, first_pixel: int, said: str
) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\na.png,1,1,9,9,tree\n")
    with pytest.raises(LabelError, match=said):
        read_labels(LabelSource(path=str(csv), vector=vector, first_pixel=first_pixel))


def test_every_format_takes_an_area(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    raster = write_raster("a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))
    csv, area = tmp_path / "labels.csv", tmp_path / "area.gpkg"
    csv.write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,1,1,9,9,tree\n")
    grid = read_grid(raster)
    shape = shapely.Polygon(grid.box_corners(np.array([[0.0, 0, 10, 10]]))[0])
    gpd.GeoDataFrame(geometry=[shape], crs=grid.crs).to_file(area)
    source = LabelSource(path=str(csv), vector=VectorOptions(area=str(area)))
    (item,) = read_labels(source)
    assert item.area is not None
    assert item.area.bounds == pytest.approx((0, 0, 10, 10), abs=1e-6)


@pytest.mark.parametrize("name", ["labels.csv", "labels.gpkg"])
def test_a_layer_of_the_area_may_be_chosen(
    tmp_path: Path, write_raster: Callable[..., Path], name: str
) -> None:
    raster = write_raster("a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))
    grid = read_grid(raster)
    for layer, side in (("small", 10.0), ("large", 20.0)):
        shape = shapely.Polygon(grid.box_corners(np.array([[0.0, 0, side, side]]))[0])
        frame = gpd.GeoDataFrame(geometry=[shape], crs=grid.crs)
        frame.to_file(tmp_path / "area.gpkg", layer=layer)
    (tmp_path / "labels.csv").write_text(
        "image_path,xmin,ymin,xmax,ymax,label\na.tif,1,1,9,9,tree\n"
    )
    frame.to_file(tmp_path / "labels.gpkg")
    vector = VectorOptions(area=str(tmp_path / "area.gpkg"))
    source = LabelSource(path=str(tmp_path / name), images=str(raster), vector=vector)
    if name == "labels.csv":
        source = replace(source, images=None)
    with pytest.raises(LabelError, match=r"found 2: small, large; .*--area-layer \(area_layer"):
        read_labels(source)
    (item,) = read_labels(replace(source, vector=replace(vector, area_layer="small")))
    assert item.area is not None
    assert item.area.bounds == pytest.approx((0, 0, 10, 10), abs=1e-6)
    with pytest.raises(LabelError, match="name it with --area"):
        read_labels(replace(source, vector=VectorOptions(area_layer="small")))
    recipe = AnySource(
        kind="labels", labels=name, images="a.tif" if name == "labels.gpkg" else None,
        area="area.gpkg", area_layer="small",
    )  # fmt: skip
    (item,) = recipe.read(tmp_path, ("tree",))
    assert item.area is not None
    assert item.area.bounds == pytest.approx((0, 0, 10, 10), abs=1e-6)


@pytest.mark.parametrize("name", ["labels.csv", "labels.gpkg"])
def test_an_area_that_lies_on_no_raster_is_refused(
    tmp_path: Path, write_raster: Callable[..., Path], name: str
) -> None:
    raster = write_raster("a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))
    labels, area = tmp_path / name, tmp_path / "area.gpkg"
    grid = read_grid(raster)
    frame = gpd.GeoDataFrame(
        geometry=[shapely.Polygon(grid.box_corners(np.array([[1.0, 1, 9, 9]]))[0])], crs=grid.crs
    )
    if name.endswith("csv"):
        labels.write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,1,1,9,9,tree\n")
    else:
        frame.to_file(labels)
    frame.translate(1e5, 0).to_frame("geometry").to_file(area)
    source = LabelSource(path=str(labels), images=str(raster), vector=VectorOptions(area=str(area)))
    with pytest.raises(LabelError, match="area lies on none of the rasters"):
        read_labels(source if name.endswith("gpkg") else replace(source, images=None))


@pytest.mark.parametrize("name", ["a.geoparquet", "a.geojsons", "a.csv"])
def test_what_detect_writes_is_read_as_features(
    tmp_path: Path, write_raster: Callable[..., Path], name: str
) -> None:
    raster = write_raster("a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))
    grid = read_grid(raster)
    boxes = np.array([[1.0, 2, 9, 12], [3, 3, 7, 9]])
    found = Detections.of(boxes, np.array([0.9, 0.4]), np.zeros(2))
    with open_writer(tmp_path / name, grid=grid, class_names=("tree",)) as writer:
        writer.write(found)

    crs = None if name != "a.csv" else str(grid.crs)
    vector = VectorOptions(crs=crs, score_column="score", class_column="class")
    source = LabelSource(path=str(tmp_path / name), images=str(raster), vector=vector)
    (item,) = read_labels(source)

    assert item.labels.boxes == pytest.approx(boxes, abs=0.15)  # degrees are rounded to 1 cm
    assert item.labels.scores == pytest.approx([0.9, 0.4], abs=1e-3)
    assert item.labels.class_names == ("tree",)


@pytest.mark.parametrize("label_format", ["yolo", "points", "dota"])
def test_a_folder_without_labels_is_an_error(
    tmp_path: Path, images: Path, label_format: str
) -> None:
    source = LabelSource(
        path=str(tmp_path / "mistyped"),
        images=str(images),
        class_names=("tree",),
        vector=VectorOptions(point_size_m=1),
    )
    with pytest.raises(LabelError, match="mistyped: no such file or folder"):
        read_labels(source, label_format=label_format)
    (tmp_path / "mistyped").mkdir()
    with pytest.raises(LabelError, match="found none"):
        read_labels(source, label_format=label_format)


def test_points_without_image_are_an_error(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.csv").write_text("x,y\n1,1\n")
    source = LabelSource(
        path=str(tmp_path), images=str(images), vector=VectorOptions(point_size_m=1)
    )
    with pytest.raises(LabelError, match=r"no image in .* for c\.csv"):
        read_labels(source, label_format="points")
    source = replace(source, images=str(images / "a.*"))
    assert [len(item.labels) for item in read_labels(source, label_format="points")] == [0]


@pytest.mark.parametrize("table", ["images", "categories"])
def test_coco_ids_belong_to_one_row(tmp_path: Path, table: str) -> None:
    path, content = tmp_path / "labels.json", coco_dict()
    content[table][1]["id"] = content[table][0]["id"]
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=f"expected {table} with ids of their own, got the id"):
        read_coco(path)


@pytest.mark.parametrize("name", ["b.png", "./b.png", "x/../b.png"])
def test_coco_images_are_different_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "b.png").touch()
    path, content = tmp_path / "labels.json", coco_dict()
    content["images"][1]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=r"b\.png: image id 7 and image id 3; merge"):
        read_coco(path)


def test_voc_files_name_different_images(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(voc_text((1, 2, 3, 4)))
    (tmp_path / "b.xml").write_text(voc_text((5, 2, 9, 4)))
    with pytest.raises(LabelError, match=r"a\.png: a\.xml and b\.xml; correct <filename>"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("value", "counts"),
    [("0", True), ("1", False), (None, True), (False, True), (True, False), (0.0, True)],
)
def test_coco_crowds_may_be_texts(tmp_path: Path, value: object, counts: bool) -> None:
    path, content = tmp_path / "labels.json", coco_dict()
    content["annotations"] = content["annotations"][:1]
    content["annotations"][0]["iscrowd"] = value
    path.write_text(json.dumps(content))
    assert read_coco(path)[1].labels.counted.tolist() == [counts]


@pytest.mark.parametrize("box", ["1,2,3", "1,2,3,4,5"])
def test_xview_boxes_have_four_numbers(tmp_path: Path, images: Path, box: str) -> None:
    path = tmp_path / "xview.geojson"
    path.write_text(xview_text(("a.png", 86, box), ("a.png", 86, "1,2,3,4")))
    with pytest.raises(LabelError, match=f"expected 4 numbers in bounds_imcoords, got '{box}'"):
        read_xview(path, images)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([None], "got null as the first"),
        ([[1]], r"got \[1\]"),
        ({"a": {}}, "got dict in its place"),
    ],
)
def test_geojson_without_a_list_of_features_is_refused(
    tmp_path: Path, features: object, said: str
) -> None:
    path = tmp_path / "labels.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(LabelError, match=said):
        format_of(str(path))


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, images: Path) -> None:
    mark = "\ufeff"
    (tmp_path / "classes.txt").write_text(f"{mark}tank\nship\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text(f"{mark}1 0.5 0.5 0.25 0.5\n", encoding="utf-8")
    assert format_of(str(tmp_path)) == "yolo"
    full, _ = read_yolo(tmp_path, images)
    assert full.labels.class_names == ("tank", "ship")
    assert full.labels.class_ids.tolist() == [1]
    (tmp_path / "only.txt").write_text(f"{mark}a\n", encoding="utf-8")
    (chosen,) = choose_listed([full], tmp_path / "only.txt")
    assert chosen is full
    (tmp_path / "labels.json").write_text(mark + json.dumps(coco_dict()), encoding="utf-8")
    assert format_of(str(tmp_path / "labels.json")) == "coco"
    assert len(read_coco(tmp_path / "labels.json")) == 2


def test_labels_of_two_images_are_refused(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "a.csv").write_text("x,y\n3,2\n")
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "b.tif")  # no labels, no question
    assert len(read_yolo(tmp_path, images, class_names=["tank"])) == 3
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "a.tif")
    said = r"expected one image for .*a\.{}, got .*a\.png and .*a\.tif; remove one, or"
    with pytest.raises(LabelError, match=said.format("txt")):
        read_yolo(tmp_path, images, class_names=["tank"])
    with pytest.raises(LabelError, match=said.format("csv")):
        read_point_csvs(tmp_path, images, size_m=1)
    assert len(read_yolo(tmp_path, str(images / "*.png"), class_names=["tank"])) == 2


@pytest.mark.parametrize("name", ["a.png.aux.xml", "a.png.AUX.xml"])
def test_files_that_gdal_adds_are_no_voc(tmp_path: Path, voc_set: Path, name: str) -> None:
    text = "<PAMDataset></PAMDataset>"
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    assert format_of(str(tmp_path)) == "yolo"
    with pytest.raises(LabelError, match=r"expected \.xml files in the folder, found none"):
        read_voc(tmp_path)
    (voc_set / "Annotations" / name).write_text(text)
    assert format_of(str(voc_set)) == "voc"
    (item,) = read_voc(voc_set)
    assert item.raster == str(voc_set / "JPEGImages" / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.PNG 1"])
def test_lists_of_voc_may_name_images_with_their_endings(
    voc_set: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (voc_set / "ImageSets" / "Main" / "train.txt").write_text(f"{name}\n")
    (voc_set / "ImageSets" / "Main" / "val.txt").write_text("\n")
    assert [item.split for item in read_voc(voc_set)] == ["train"]
    assert not caplog.text
    (voc_set / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    with pytest.raises(LabelError, match=r"names a, which train\.txt names too"):
        read_voc(voc_set)


def test_a_list_of_voc_in_another_encoding_is_refused(voc_set: Path) -> None:
    (voc_set / "ImageSets" / "Main" / "train.txt").write_bytes("Höhe\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"train\.txt: expected a text file .* in UTF-8"):
        read_voc(voc_set)


def test_a_name_in_a_list_of_voc_may_look_like_an_ending(voc_set: Path) -> None:
    (voc_set / "Annotations" / "a.xml").rename(voc_set / "Annotations" / "a.png.xml")
    (voc_set / "ImageSets" / "Main" / "train.txt").write_text("a.png\n")
    assert [item.split for item in read_voc(voc_set)] == ["train"]


def test_a_list_of_voc_without_any_xml_is_warned_of(
    voc_set: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (voc_set / "ImageSets" / "Main" / "val.txt").write_text("b\nc.jpg\n")
    assert [item.split for item in read_voc(voc_set)] == ["train"]
    assert "val.txt: none of the images it names (b, c) has an XML file" in caplog.text
    assert "train.txt: none" not in caplog.text


@pytest.mark.parametrize(
    ("label_format", "name", "text"),
    [
        ("yolo", "a.TXT", "0 0.5 0.5 0.25 0.5"),
        ("dota", "a.TXT", "1 5 5 1 9 5 5 9 tank 0"),
        ("points", "a.CSV", "x,y\n8,9\n"),
        ("voc", "a.XML", voc_text((1, 2, 10, 12))),
    ],
)
def test_endings_may_be_capitals(
    tmp_path: Path, write_raster_at: Callable[..., Path], label_format: str, name: str, text: str
) -> None:
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    for image in ("a.png", "b.png"):
        write_raster_at(tmp_path / "images" / image, np.zeros((3, HEIGHT, WIDTH), np.uint8))
    (tmp_path / "labels" / name).write_text(text)
    (tmp_path / "labels" / name.lower().replace("a", "b", 1)).write_text(
        text.replace("a.png", "b.png")
    )
    source = LabelSource(
        path=str(tmp_path / "labels"),
        images=str(tmp_path / "images"),
        class_names=["tank"],
        vector=VectorOptions(point_size_m=1),
    )
    found = read_labels(source, label_format=label_format)
    assert [(Path(item.raster).name, len(item.labels)) for item in found] == [
        ("a.png", 1),
        ("b.png", 1),
    ]


@pytest.mark.parametrize(
    "size", [(WIDTH * 2, HEIGHT * 2), (HEIGHT, WIDTH)], ids=["other", "turned"]
)
def test_boxes_on_a_copy_of_another_size_are_refused(
    tmp_path: Path, images: Path, size: tuple[int, int]
) -> None:
    coco, voc = tmp_path / "labels.json", tmp_path / "a.xml"
    message = (
        rf"a\.png has {size[0]} x {size[1]} px, it has {WIDTH} x {HEIGHT}: the boxes were drawn"
    )
    for stated, refused in ((size, True), ((WIDTH, HEIGHT), False), ((0, 0), False)):
        content = coco_dict()
        content["images"][1] |= {"width": stated[0], "height": stated[1]}
        coco.write_text(json.dumps(content))
        of_voc = f"<size><width>{stated[0]}</width><height>{stated[1]}</height></size>"
        voc.write_text(voc_text((1, 2, 10, 12)).replace("<object>", f"{of_voc}<object>"))
        for read, labels in ((read_coco, coco), (read_voc, voc)):
            if refused:
                with pytest.raises(LabelError, match=message):
                    read(labels, images)
            else:
                assert read(labels, images)[-1].raster == str(images / "a.png")


@pytest.mark.parametrize(
    ("rotation", "box"), [(90.0, [4, 1, 8, 11]), (0.0, [1, 4, 11, 8]), ("north", [1, 4, 11, 8])]
)
def test_boxes_that_cvat_turned_become_upright_ones_around_them(
    tmp_path: Path, rotation: object, box: list[float]
) -> None:
    content = coco_dict()
    content["annotations"] = [
        {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 4, 10, 4],
         "attributes": {"occluded": False, "rotation": rotation}},
    ]  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(content))
    np.testing.assert_allclose(read_coco(tmp_path / "labels.json")[1].labels.boxes, [box])
    attributes = (
        "<attributes><attribute><name>occluded</name><value>0</value></attribute><attribute>"
        f"<name>rotation</name><value>{rotation}</value></attribute></attributes></object>"
    )
    text = voc_text((1, 4, 11, 8)).replace("</object>", attributes)
    (tmp_path / "a.xml").write_text(text)
    np.testing.assert_allclose(read_voc(tmp_path / "a.xml")[0].labels.boxes, [box])


def test_a_list_with_folders_tells_images_of_one_name_apart(tmp_path: Path) -> None:
    rasters = ["set/train/a.png", "set/val/a.png", "set/val/b.png", "a.png"]
    labelled = [LabelledRaster(raster, Labels.empty(["tank"])) for raster in rasters]
    for line, taken in (
        ("train/a.png", [0]),
        ("./set/val/a", [1]),
        ("other/b.png", [2]),
        ("a.png", [0, 1, 3]),
        ("elsewhere/a.png", [0, 1, 3]),
    ):
        (tmp_path / "only.txt").write_text(f"{line}\n")
        assert choose_listed(labelled, tmp_path / "only.txt") == [
            labelled[index] for index in taken
        ]


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "csv"])
def test_labels_of_a_picture_that_exif_turns_are_refused(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    """Annotation programs show it turned: its boxes would lie elsewhere on the stored pixels."""
    upright, turned = Image.Exif(), Image.Exif()
    upright[ORIENTATION], turned[ORIENTATION] = 1, orientation
    shown = (20, 40) if orientation == 6 else (40, 20)
    files = {
        "coco": json.dumps(
            {
                "images": [
                    {"id": 1, "file_name": "a.jpg", "width": shown[0], "height": shown[1]},
                ],
                "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
                "categories": [{"id": 1, "name": "car"}],
            }
        ),
        "voc": voc_text((1, 2, 4, 6)).replace("a.png", "a.jpg").replace("tank", "car"),
        "yolo": "0 0.5 0.5 0.25 0.5\n",
        "csv": "image_path,xmin,ymin,xmax,ymax,label\na.jpg,1,2,4,6,car\n",
    }
    names = {"coco": "a.json", "voc": "a.xml", "yolo": "a.txt", "csv": "a.csv"}
    (tmp_path / names[kind]).write_text(files[kind])
    path = tmp_path if kind == "yolo" else tmp_path / names[kind]
    source = LabelSource(path=str(path), images=str(tmp_path), class_names=("car",))
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=turned)
    with pytest.raises(LabelError, match=r"1 image with labels that EXIF turns .*a\.jpg.*mogrify"):
        read_labels(source)
    Image.new("RGB", shown).save(tmp_path / "a.jpg", exif=upright)
    assert len(read_labels(source)[0].labels) == 1


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": "3"}, r"ids of categories \(.*\), got '3'"),
        ({"bbox": [1, 2, 3, 4, 0.5]}, "must be x, y, width, height"),
        ({"bbox": None, "segmentation": {"counts": [1], "size": [20, 40]}}, "mask in RLE"),
        ({"bbox": [], "segmentation": []}, "got neither of that with id 7;"),
    ],
)
def test_coco_says_which_object_is_wrong(
    tmp_path: Path, annotation: dict[str, object], message: str
) -> None:
    content = coco_dict()
    content["annotations"][0] |= {"id": 7} | annotation
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(LabelError, match=message):
        read_coco(tmp_path / "labels.json")


@pytest.mark.parametrize("bbox", [None, []])
def test_an_empty_coco_box_is_that_around_its_polygons(tmp_path: Path, bbox: object) -> None:
    content = coco_dict()
    content["annotations"][0] |= {"bbox": bbox, "segmentation": [[1, 2, 9, 2, 9, 8]]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert read_coco(tmp_path / "labels.json")[1].labels.boxes[0].tolist() == [1, 2, 9, 8]


def test_a_list_of_coco_results_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]')
    with pytest.raises(LabelError, match=r"a list, as of COCO results: .* of the labels"):
        format_of(str(tmp_path / "results.json"))
