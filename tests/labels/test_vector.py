import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo_retina.errors import LabelError
from geo_retina.labels.features import read_features
from geo_retina.labels.files import read_grid
from geo_retina.labels.formats import LabelSource, format_of, read_labels
from geo_retina.labels.vector import VectorOptions, read_vector

Writer = Callable[..., Path]
UTM33 = "EPSG:32633"
ORIGIN = (500_000.0, 5_400_000.0)
BOXES = np.array([[5.0, 4.0, 15.0, 10.5], [40.0, 30.0, 58.0, 39.0]])


@pytest.fixture
def raster(tmp_path: Path, write_raster_at: Writer) -> Path:
    return write_raster_at(tmp_path / "raster.tif", np.zeros((3, 40, 60), np.uint8), gsd=0.2)


def polygons(raster: Path, boxes: np.ndarray = BOXES, **columns: list[object]) -> gpd.GeoDataFrame:
    grid = read_grid(raster)
    return gpd.GeoDataFrame(
        columns, geometry=shapely.polygons(grid.box_corners(boxes)), crs=grid.crs
    )


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
def test_polygons_of_every_format_come_back_in_pixels(
    tmp_path: Path, raster: Path, suffix: str
) -> None:
    path = tmp_path / f"labels{suffix}"
    frame = polygons(raster, **{"class": ["oak", "ash"], "score": [0.25, 0.5]})
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    (item,) = read_vector(path, [raster])
    order = np.argsort(item.labels.boxes[:, 0])
    np.testing.assert_allclose(item.labels.boxes[order], BOXES, atol=1e-5)
    assert [item.labels.class_names[i] for i in item.labels.class_ids[order]] == ["oak", "ash"]
    assert item.labels.scores is not None
    assert item.labels.scores[order].tolist() == [0.25, 0.5]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32634"])
def test_any_crs_lands_on_the_raster(tmp_path: Path, raster: Path, crs: str) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster).to_crs(crs).to_file(path)
    (item,) = read_vector(path, [raster])
    np.testing.assert_allclose(item.labels.boxes, BOXES, atol=1e-3)
    assert item.labels.class_names == ("object",)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    angle=st.floats(0, 360),
    shear=st.floats(-20, 20),
    scale_y=st.sampled_from([-0.2, 0.2, -0.5]),
)
def test_boxes_of_rotated_rasters_come_back_unchanged(
    tmp_path: Path, angle: float, shear: float, scale_y: float, write_raster_at: Writer
) -> None:
    transform = (
        Affine.translation(*ORIGIN)
        @ Affine.rotation(angle)
        @ Affine.shear(shear, 0)
        @ Affine.scale(0.2, scale_y)
    )
    path = tmp_path / "raster.tif"
    write_raster_at(path, np.zeros((3, 40, 60), np.uint8), transform=transform)
    frame = polygons(path)
    frame.to_file(tmp_path / "labels.gpkg")
    (item,) = read_vector(tmp_path / "labels.gpkg", [path])
    np.testing.assert_allclose(item.labels.boxes, BOXES, atol=1e-5)


def test_one_file_is_shared_out_among_rasters(
    tmp_path: Path, raster: Path, write_raster_at: Writer
) -> None:
    east = Affine.translation(ORIGIN[0] + 12, ORIGIN[1]) @ Affine.scale(0.2, -0.2)
    other = write_raster_at(tmp_path / "east.tif", np.zeros((3, 40, 60), np.uint8), transform=east)
    far = Affine.translation(ORIGIN[0] + 9000, ORIGIN[1]) @ Affine.scale(0.2, -0.2)
    empty = write_raster_at(tmp_path / "far.tif", np.zeros((3, 40, 60), np.uint8), transform=far)
    path = tmp_path / "labels.gpkg"
    polygons(raster, np.array([[5.0, 4, 15, 10], [50, 4, 75, 9], [80, 1, 90, 9]])).to_file(path)
    here, there, nothing = read_vector(path, [raster, other, empty])
    np.testing.assert_allclose(here.labels.boxes, [[5, 4, 15, 10], [50, 4, 75, 9]], atol=1e-6)
    np.testing.assert_allclose(there.labels.boxes, [[-10, 4, 15, 9], [20, 1, 30, 9]], atol=1e-6)
    assert len(nothing.labels) == 0


def test_features_on_no_raster_are_told(
    tmp_path: Path, raster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster).to_file(path)
    read_vector(path, [raster])
    assert not caplog.messages
    polygons(raster, np.concatenate([BOXES + 70, BOXES])).to_file(path)
    (item,) = read_vector(path, [raster])
    assert len(item.labels) == len(BOXES)
    assert "left out 2 of 4 features, which lie on none of the rasters (fid 1, 2)" in caplog.text


def test_points_get_a_size(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "points.gpkg"
    frame = polygons(raster)
    frame.set_geometry(frame.geometry.centroid).to_file(path)
    with pytest.raises(LabelError, match="point_size_m"):
        read_vector(path, [raster])
    (item,) = read_vector(path, [raster], options=VectorOptions(point_size_m=2))
    # 2 m are 10 px of 0.2 m, less the 0.04 % that UTM shrinks here.
    np.testing.assert_allclose(
        item.labels.boxes, [[5, 2.25, 15, 12.25], [44, 29.5, 54, 39.5]], atol=0.01
    )


def test_multipoints_are_several_objects_and_lines_are_refused(
    tmp_path: Path, raster: Path
) -> None:
    path = tmp_path / "odd.gpkg"
    corners = read_grid(raster).box_corners(BOXES)[:, 0]
    several = gpd.GeoDataFrame(geometry=[shapely.multipoints(corners)], crs=UTM33)
    several.to_file(path)
    (item,) = read_vector(path, [raster], options=VectorOptions(point_size_m=1))
    assert len(item.labels) == 2
    gpd.GeoDataFrame(geometry=[shapely.linestrings(corners)], crs=UTM33).to_file(path)
    with pytest.raises(LabelError, match=r"found 1 LineString \(fid 1\); remove it"):
        read_vector(path, [raster])


def test_empty_files_and_null_geometries_are_fine(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    frame = polygons(raster)
    frame.iloc[:0].to_file(path)
    (item,) = read_vector(path, [raster], class_names=["tree"])
    assert len(item.labels) == 0
    assert item.labels.class_names == ("tree",)
    frame.loc[0, "geometry"] = None
    frame.to_file(path)
    (item,) = read_vector(path, [raster])
    assert len(item.labels) == 1


def test_classes_come_from_the_column_that_is_named(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, species=["oak", "ash"]).to_file(path)
    named = VectorOptions(class_column="species")
    (item,) = read_vector(path, [raster], options=named)
    assert item.labels.class_names == ("ash", "oak")
    with pytest.raises(LabelError, match="found also 'ash'"):
        read_vector(path, [raster], class_names=["oak"], options=named)
    with pytest.raises(LabelError, match=r"columns of text: species; .*class_column"):
        read_vector(path, [raster], class_names=["oak", "ash"])
    one = VectorOptions(class_column="")
    with pytest.raises(LabelError, match=r"nothing tells oak, ash apart.*class_column"):
        read_vector(path, [raster], class_names=["oak", "ash"], options=one)
    with pytest.raises(LabelError, match=r"found species; .*--class-column \(class_column"):
        read_vector(path, [raster], options=VectorOptions(class_column="genus"))


def test_a_column_of_class_numbers_is_not_passed_over(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, Classvalue=[1, 2], height=[3, 4]).to_file(path)
    with pytest.raises(LabelError, match=r"columns of numbers: Classvalue; .*class_column"):
        read_vector(path, [raster])
    polygons(raster, Classvalue=[1, 1], height=[3, 4]).to_file(path)
    (item,) = read_vector(path, [raster])
    assert item.labels.class_names == ("object",)


@pytest.mark.parametrize("suffix", [".gdb", ".kml", ".zip"])
def test_labels_of_arcgis_and_google_earth_are_vector_files(
    tmp_path: Path, raster: Path, suffix: str
) -> None:
    path = tmp_path / f"labels{suffix}"
    if suffix == ".zip":
        polygons(raster).to_file(tmp_path / "labels.shp")
        with zipfile.ZipFile(path, "w") as archive:
            for part in tmp_path.glob("labels.*"):
                if part != path:
                    archive.write(part, part.name)
    elif suffix == ".gdb":
        polygons(raster).to_file(path, driver="OpenFileGDB")
    else:
        polygons(raster).to_crs(4326).to_file(path, driver="KML")
    assert format_of(str(path)) == "vector"
    (item,) = read_vector(path, [raster], options=VectorOptions(class_column=""))
    assert len(item.labels) == 2


def test_missing_crs_is_an_error_that_says_which_would_fit(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.shp"
    polygons(raster).set_crs(None, allow_override=True).to_file(path)
    with pytest.raises(LabelError, match=r"states no CRS; pass crs.* as EPSG:32633"):
        read_vector(path, [raster])
    (item,) = read_vector(path, [raster], options=VectorOptions(crs=UTM33))
    np.testing.assert_allclose(item.labels.boxes, BOXES, atol=1e-6)
    with pytest.raises(LabelError, match="expected a CRS such as"):
        read_vector(path, [raster], options=VectorOptions(crs="EPSG:nonsense"))


@pytest.mark.parametrize(
    ("stated", "true", "hint"),
    [
        ("EPSG:32634", "EPSG:32633", r"km away from the raster; as EPSG:32633 \(WGS 84"),
        ("EPSG:4326", "EPSG:32633", "of which its coordinates are none; as EPSG:32633"),
        ("EPSG:32633", "EPSG:4326", "as EPSG:4326"),
        ("EPSG:32633", "EPSG:3857", "as EPSG:3857"),
    ],
)
def test_labels_far_from_the_raster_say_which_crs_would_fit(
    tmp_path: Path, raster: Path, stated: str, true: str, hint: str
) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster).to_crs(true).set_crs(stated, allow_override=True).to_file(path)
    with pytest.raises(LabelError, match=hint):
        read_vector(path, [raster])


def test_national_crs_of_the_place_are_tried(tmp_path: Path, write_raster_at: Writer) -> None:
    munich = Affine.translation(691_000, 5_334_000) @ Affine.scale(0.2, -0.2)
    raster = write_raster_at(
        tmp_path / "raster.tif", np.zeros((3, 40, 60), np.uint8), transform=munich, crs="EPSG:32632"
    )
    frame = polygons(raster).to_crs("EPSG:31468").set_crs("EPSG:32632", allow_override=True)
    frame.to_file(tmp_path / "labels.gpkg")
    with pytest.raises(LabelError, match=r"Gauss-Kruger zone 4.* the coordinates would fit"):
        read_vector(tmp_path / "labels.gpkg", [raster])


def test_pixel_coordinates_beside_a_georeferenced_raster_are_recognised(
    tmp_path: Path, raster: Path
) -> None:
    path = tmp_path / "labels.geojson"
    gpd.GeoDataFrame(geometry=shapely.box(*BOXES.T), crs="EPSG:4326").to_file(path)
    said = r"as pixels of the raster .*no CRS can help\. Write them as COCO"
    with pytest.raises(LabelError, match=said) as refused:
        read_vector(path, [raster])
    assert "--labels-crs" not in str(refused.value)
    path = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame(geometry=shapely.box(*BOXES.T), crs=None).to_file(path)
    with pytest.raises(LabelError, match="no CRS can help") as refused:
        read_vector(path, [raster])
    assert "--labels-crs" not in str(refused.value)


def test_degrees_are_no_pixels_of_a_large_raster(tmp_path: Path, write_raster_at: Writer) -> None:
    raster = write_raster_at(tmp_path / "large.tif", np.zeros((1, 90, 90), np.uint8), gsd=0.2)
    path = tmp_path / "labels.gpkg"
    frame = polygons(raster).to_crs("EPSG:4326").set_crs(UTM33, allow_override=True)
    frame.to_file(path)
    with pytest.raises(LabelError, match="as EPSG:4326"):
        read_vector(path, [raster])


@pytest.mark.parametrize("crs", ["EPSG:4326", UTM33])
def test_swapped_coordinates_are_recognised(tmp_path: Path, raster: Path, crs: str) -> None:
    frame = polygons(raster).to_crs(crs)
    swapped = shapely.transform(frame.geometry.to_numpy(), lambda points: points[:, ::-1])
    path = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame(geometry=swapped, crs=crs).to_file(path)
    with pytest.raises(LabelError, match="x and y look swapped: exchange them") as refused:
        read_vector(path, [raster])
    assert "--labels-crs" not in str(refused.value)


@pytest.mark.parametrize("elsewhere", [0, 9])
def test_swapped_coordinates_of_many_rasters_are_recognised(
    tmp_path: Path, raster: Path, write_raster_at: Writer, elsewhere: int
) -> None:
    """Each raster holds few of the features, and some features lie on no raster."""
    rasters = [
        write_raster_at(
            tmp_path / f"{north}.tif",
            np.zeros((3, 40, 60), np.uint8),
            transform=Affine.translation(ORIGIN[0], ORIGIN[1] + north) @ Affine.scale(0.2, -0.2),
        )
        for north in (3000, 6000)
    ]
    boxes = [BOXES[:1] - [0, north, 0, north] for north in (15000, 30000)]
    boxes += [BOXES + 1000 * step for step in range(1, elsewhere)]
    frame = polygons(raster, np.concatenate(boxes)).to_crs("EPSG:4326")
    swapped = shapely.transform(frame.geometry.to_numpy(), lambda points: points[:, ::-1])
    path = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame(geometry=swapped, crs="EPSG:4326").to_file(path)
    with pytest.raises(LabelError, match=r"EPSG:4326 .* x and y look swapped"):
        read_vector(path, [raster, *rasters])


def test_labels_just_beside_the_raster_leave_it_empty(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, BOXES + 100).to_file(path)
    (item,) = read_vector(path, [raster])
    assert len(item.labels) == 0


def test_without_georeference_coordinates_are_pixels(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    raster = write_raster_at(tmp_path / "raster.tif", np.zeros((3, 40, 60), np.uint8), crs=None)
    path = tmp_path / "labels.geojson"
    gpd.GeoDataFrame(geometry=shapely.box(*BOXES.T), crs="EPSG:4326").to_file(path)
    (item,) = read_vector(path, [raster])
    np.testing.assert_allclose(item.labels.boxes, BOXES)


def test_annotated_area_is_kept_in_pixels(tmp_path: Path, raster: Path) -> None:
    path, area = tmp_path / "labels.gpkg", tmp_path / "area.gpkg"
    polygons(raster).to_file(path)
    polygons(raster, np.array([[-10.0, -10, 30, 40]])).to_crs("EPSG:4326").to_file(area)
    (item,) = read_vector(path, [raster], options=VectorOptions(area=str(area)))
    assert item.area is not None
    np.testing.assert_allclose(item.area.bounds, [0, 0, 30, 40], atol=1e-3)


def test_several_layers_must_be_chosen_from(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster).to_file(path, layer="a")
    polygons(raster, BOXES[:1]).to_file(path, layer="b")
    with pytest.raises(LabelError, match="found 2: a, b"):
        read_vector(path, [raster])
    with pytest.raises(LabelError, match=r"no layer 'c' that .*: 'a', 'b'; state which"):
        read_vector(path, [raster], options=VectorOptions(layer="c"))
    (item,) = read_vector(path, [raster], options=VectorOptions(layer="b"))
    assert len(item.labels) == 1


def test_missing_and_unreadable_files_are_named(tmp_path: Path, raster: Path) -> None:
    with pytest.raises(LabelError, match="no such file"):
        read_vector(tmp_path / "absent.gpkg", [raster])
    (tmp_path / "bad.gpkg").write_text("nonsense")
    with pytest.raises(LabelError, match="expected a vector file"):
        read_vector(tmp_path / "bad.gpkg", [raster])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"class": ["oak", None]}, r"'class', 1 feature without \(fid 2\)"),
        ({"label": ["oak", " "]}, r"'label', 1 feature without \(fid 2\).*class_column"),
        ({"score": ["high", "low"]}, "expected numbers in the column 'score'"),
    ],
)
def test_columns_that_cannot_be_used_are_named(
    tmp_path: Path, raster: Path, columns: dict[str, list[object]], said: str
) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, **columns).to_file(path)
    with pytest.raises(LabelError, match=said):
        read_vector(path, [raster])


@pytest.mark.parametrize("crs", ["EPSG:4326", None])
def test_nothing_leads_to_a_local_crs(
    tmp_path: Path, write_raster_at: Writer, raster: Path, crs: str | None
) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    other = write_raster_at(tmp_path / "local.tif", np.zeros((3, 40, 60), np.uint8), crs=local)
    path = tmp_path / "labels.geojson"
    frame = polygons(raster).to_crs("EPSG:4326")
    frame.set_crs(crs, allow_override=True).to_file(tmp_path / "labels.gpkg")
    path = tmp_path / "labels.gpkg"
    with pytest.raises(LabelError, match=r"nothing leads from|states no CRS"):
        read_vector(path, [other])


def test_rasters_may_be_told_their_crs(tmp_path: Path, write_raster_at: Writer) -> None:
    known = write_raster_at(tmp_path / "known.tif", np.zeros((3, 40, 60), np.uint8))
    polygons(known).to_file(tmp_path / "labels.gpkg")
    place = Affine(0.1, 0, ORIGIN[0], 0, -0.1, ORIGIN[1])
    pixels = np.zeros((3, 40, 60), np.uint8)
    bare = write_raster_at(tmp_path / "bare.tif", pixels, crs=None, transform=place)
    (item,) = read_vector(tmp_path / "labels.gpkg", [bare], options=VectorOptions(raster_crs=UTM33))
    np.testing.assert_allclose(item.labels.boxes, BOXES, atol=1e-6)


def test_an_area_says_what_to_do_without_a_crs_or_with_two_layers(
    tmp_path: Path, raster: Path
) -> None:
    labels, area = tmp_path / "labels.gpkg", tmp_path / "area.gpkg"
    polygons(raster).to_file(labels)
    frame = polygons(raster)
    frame.to_file(area, layer="one")
    frame.to_file(area, layer="two")
    with pytest.raises(LabelError, match=r"found 2: one, two; .*--area-layer \(area_layer in"):
        read_vector(labels, [raster], options=VectorOptions(area=str(area)))
    options = VectorOptions(area=str(area), area_layer="two")
    (item,) = read_vector(labels, [raster], options=options)
    assert item.area is not None
    bare = tmp_path / "bare.gpkg"
    frame.set_crs(None, allow_override=True).to_file(bare)
    with pytest.raises(LabelError, match="ogr2ogr -a_srs"):
        read_vector(labels, [raster], options=VectorOptions(area=str(bare)))


def test_an_area_whose_coordinates_are_none_of_its_crs_is_refused(
    tmp_path: Path, raster: Path
) -> None:
    labels, area = tmp_path / "labels.gpkg", tmp_path / "area.gpkg"
    polygons(raster).to_file(labels)
    polygons(raster).set_crs("EPSG:4326", allow_override=True).to_file(area)  # metres as degrees
    with pytest.raises(LabelError, match=r"area lies on none of the rasters.* check its CRS"):
        read_vector(labels, [raster], options=VectorOptions(area=str(area)))


def test_what_an_edge_of_the_raster_cuts_keeps_its_whole_box(tmp_path: Path, raster: Path) -> None:
    over = [[-4.0, 10, 6, 20], [20, -4, 30, 6], [55, 10, 65, 20], [20, 35, 30, 45]]
    path = tmp_path / "labels.gpkg"
    polygons(raster, np.array(over)).to_file(path)
    (item,) = read_vector(path, [raster])
    np.testing.assert_allclose(item.labels.boxes, over, atol=1e-5)


def test_what_only_touches_the_raster_is_not_on_it(tmp_path: Path) -> None:
    path, plain = tmp_path / "labels.geojson", tmp_path / "plain.tif"
    shape = {"count": 1, "height": 40, "width": 60, "dtype": "uint8"}
    with rasterio.open(plain, "w", driver="GTiff", **shape) as file:
        file.write(np.zeros((1, 40, 60), np.uint8))
    boxes = shapely.box([-9, 60, 5], [2, 2, 5], [0, 70, 9], [8, 8, 9])
    gpd.GeoDataFrame(geometry=boxes, crs="EPSG:4326").to_file(path)
    (item,) = read_vector(path, [plain])
    assert item.labels.boxes.tolist() == [[5, 5, 9, 9]]


def test_a_point_on_the_seam_of_two_rasters_lies_on_one(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    path, tiles = tmp_path / "points.gpkg", [tmp_path / f"{number}.tif" for number in range(4)]
    for number, tile in enumerate(tiles):
        x, y = ORIGIN[0] + 4 * (number % 2), ORIGIN[1] - 4 * (number // 2)
        place = Affine(0.2, 0, x, 0, -0.2, y)
        write_raster_at(tile, np.zeros((3, 20, 20), np.uint8), transform=place)
    seams = np.array([[4, 1], [4, 4], [1, 4], [4, 6.2], [5, 4]])
    points = shapely.points(ORIGIN[0] + seams[:, 0], ORIGIN[1] - seams[:, 1])
    gpd.GeoDataFrame(geometry=points, crs=UTM33).to_file(path)
    found = read_vector(path, tiles, options=VectorOptions(point_size_m=1))
    assert [item.labels.fids.tolist() for item in found] == [[], [1], [3], [2, 4, 5]]  # type: ignore[union-attr]


def test_a_crossed_area_is_mended(tmp_path: Path, raster: Path) -> None:
    path, area = tmp_path / "labels.gpkg", tmp_path / "area.gpkg"
    polygons(raster).to_file(path)
    grid = read_grid(raster)
    ring = grid.pixel_to_world(np.array([[0.0, 0], [20, 20], [20, 0], [0, 20]]))
    other = grid.pixel_to_world(np.array([[5.0, 0], [40, 0], [40, 30], [5, 30]]))
    shapes = [shapely.Polygon(ring), shapely.Polygon(other)]
    gpd.GeoDataFrame(geometry=shapes, crs=grid.crs).to_file(area)
    (item,) = read_vector(path, [raster], options=VectorOptions(area=str(area)))
    assert item.area is not None
    assert item.area.is_valid


def test_labels_just_beside_a_large_raster_are_no_mistake(
    tmp_path: Path, write_raster_at: Callable[..., Path]
) -> None:
    pixels = np.zeros((1, 400, 400), np.uint8)
    raster = write_raster_at(tmp_path / "large.tif", pixels, gsd=20)
    path = tmp_path / "labels.gpkg"
    polygons(raster, np.array([[401.0, 200, 402, 201]])).to_file(path)
    (item,) = read_vector(path, [raster])
    assert len(item.labels) == 0


def test_text_without_a_class_column_is_refused_until_stated(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, height=[3.5, 4], image_path=["raster.tif"] * 2).to_file(path)
    (item,) = read_vector(path, [raster])
    assert item.labels.class_names == ("object",)
    polygons(raster, species=["oak", "ash"], plot=["a", "b"]).to_file(path)
    with pytest.raises(
        LabelError, match=r"'class' nor 'label', but .*species, plot; .*--class-col"
    ):
        read_vector(path, [raster])
    (item,) = read_vector(path, [raster], options=VectorOptions(class_column=""))
    assert item.labels.class_names == ("object",)
    frame = polygons(raster, species=["oak", "ash"], label=["tree", "bush"])
    frame.to_file(path)
    (item,) = read_vector(path, [raster])
    assert item.labels.class_names == ("bush", "tree")
    frame.assign(**{"class": ["a", "b"]}).to_file(path)
    (item,) = read_vector(path, [raster])
    assert item.labels.class_names == ("a", "b")


def test_features_keep_their_number_in_the_file(
    tmp_path: Path, raster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = np.array([[x, 5.0, x + 4, 9] for x in range(0, 50, 5)])
    frame = polygons(raster, boxes, **{"class": ["oak"] * 10})
    frame.loc[[0, 1], "geometry"] = None
    path = tmp_path / "labels.gpkg"
    frame.to_file(path)
    (item,) = read_vector(path, [raster])
    assert "left out 2 features without geometry (fid 1, 2)" in caplog.text
    assert item.labels.fids is not None
    assert item.labels.fids.tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    frame.loc[3:, "class"] = None
    frame.to_file(path)
    said = r"7 features without \(fid 4, 5, 6, 7, 8 and 2 more\)"
    with pytest.raises(LabelError, match=said):
        read_vector(path, [raster])


def test_rows_of_a_parquet_file_are_numbered_whatever_its_index(
    tmp_path: Path, raster: Path
) -> None:
    path = tmp_path / "labels.parquet"
    frame = polygons(raster).set_index([["a", "b"]]).rename_geometry("shape")
    frame.to_parquet(path)
    (item,) = read_vector(path, [raster])
    assert item.labels.fids is not None
    assert item.labels.fids.tolist() == [0, 1]


def test_strays_of_another_kind_are_counted_and_named(tmp_path: Path, raster: Path) -> None:
    path = tmp_path / "labels.gpkg"
    frame = polygons(raster, np.array([[x, 5.0, x + 4, 9] for x in range(0, 25, 5)]))
    frame.loc[[1, 3], "geometry"] = [frame.geometry[at].centroid for at in (1, 3)]
    frame.to_file(path)
    with pytest.raises(LabelError, match=r"2 points \(fid 2, 4\) among polygons; .*point_size_m"):
        read_vector(path, [raster])
    frame.loc[[1, 3], "geometry"] = [frame.geometry[at].boundary for at in (0, 2)]
    frame.to_file(path)
    with pytest.raises(LabelError, match=r"2 LineStrings \(fid 2, 4\); remove them"):
        read_vector(path, [raster])


def test_blanks_around_a_class_are_taken_off(
    tmp_path: Path, raster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, **{"class": ["oak ", "oak"]}).to_file(path)
    (item,) = read_vector(path, [raster], class_names=["oak"])
    assert item.labels.class_ids.tolist() == [0, 0]
    assert "blanks around the class names 'oak '" in caplog.text


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_the_column_image_path_names_the_rasters(
    tmp_path: Path, write_raster_at: Writer, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":  # one place: the ground alone would put all on each
        raster = write_raster_at(folder / f"{name}.tif", np.zeros((3, 40, 60), np.uint8), gsd=0.2)
    path = tmp_path / f"labels{suffix}"
    names = ["a.tif", r"D:\photos\b.png"]
    polygons(raster, image_path=names).to_file(path)
    source = LabelSource(path=str(path), images=str(folder))
    first, second = read_labels(source)
    assert [Path(item.raster).name for item in (first, second)] == ["a.tif", "b.tif"]
    assert "names 2 of the 3 rasters" in caplog.text
    np.testing.assert_allclose(first.labels.boxes, BOXES[:1], atol=1e-5)
    np.testing.assert_allclose(second.labels.boxes, BOXES[1:], atol=1e-5)
    polygons(raster, image_path=["a.tif", None]).to_file(path)
    (only,) = read_labels(source)
    assert len(only.labels) == 2
    polygons(raster, image_path=["a.tif", "d.tif"]).to_file(path)
    with pytest.raises(LabelError, match=r"names 1 raster not in .*: d\.tif"):
        read_labels(source)
    (one,) = read_labels(LabelSource(path=str(path), images=str(raster)))
    assert len(one.labels) == 2


def test_an_image_path_that_may_be_two_images_is_refused(
    tmp_path: Path, write_raster_at: Writer
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.tif", "a.png"):
        raster = write_raster_at(folder / name, np.zeros((3, 40, 60), np.uint8))
    path = tmp_path / "labels.gpkg"
    polygons(raster, image_path=["a.jpg"] * 2).to_file(path)
    source = LabelSource(path=str(path), images=str(folder))
    with pytest.raises(LabelError, match=r"names a\.jpg, which may be any of a\.png, a\.tif"):
        read_labels(source)


def test_image_paths_of_no_image_leave_it_to_the_ground(
    tmp_path: Path, raster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.gpkg"
    polygons(raster, image_path=["mosaic.tif"] * 2).to_file(path)
    (item,) = read_labels(LabelSource(path=str(path), images=str(tmp_path)))
    assert len(item.labels) == 2
    assert "names mosaic.tif" in caplog.text


def test_degrees_on_a_raster_without_crs_are_told(
    tmp_path: Path, write_raster_at: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.zeros((1, 100, 200), np.uint8)
    bare = write_raster_at(tmp_path / "bare.tif", pixels, crs=None)
    path = tmp_path / "labels.geojson"
    frame = gpd.GeoDataFrame({"class": ["tree"]}, geometry=[shapely.box(15, 48, 15.001, 48.001)])
    frame.set_crs(4326).to_file(path)
    read_vector(path, [bare])
    assert "if they are longitude and latitude" in caplog.text
    caplog.clear()
    frame.set_geometry([shapely.box(15, 48, 190, 95)]).set_crs(4326).to_file(path)
    read_vector(path, [bare])
    assert "longitude" not in caplog.text


def test_coco_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    file = tmp_path / "twice.json"
    boxes = [{"image_id": 1, "category_id": key, "bbox": [key, 1, 9, 9]} for key in (0, 1)]
    content = {
        "images": [{"id": 1, "file_name": "a.tif"}],
        "categories": [{"id": 0, "name": "tree"}, {"id": 1, "name": "tree "}],
        "annotations": boxes,
    }
    file.write_text(json.dumps(content))
    (only,) = read_labels(LabelSource(path=str(file), images=str(tmp_path)))
    assert only.labels.class_names == ("tree",)
    assert only.labels.class_ids.tolist() == [0, 0]


def test_dates_and_lists_are_no_classes(tmp_path: Path, raster: Path) -> None:
    with rasterio.open(raster) as opened:
        x, y = opened.transform @ (5, 5)
        crs = opened.crs
    seen = pd.to_datetime(["2026-05-01"])
    frame = gpd.GeoDataFrame(
        {"seen": seen, "dead": [False]}, geometry=[shapely.box(x - 1, y - 1, x, y)], crs=crs
    )
    frame["seen"] = frame["seen"].dt.date.astype(object)
    (only,) = read_vector(written_parquet(frame, tmp_path), [str(raster)])
    assert len(only.labels) == 1


def written_parquet(frame: gpd.GeoDataFrame, folder: Path) -> Path:
    """A file that keeps dates as dates."""
    frame.to_parquet(folder / "dates.parquet")
    return folder / "dates.parquet"


def test_a_csv_is_utf_8_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "cp1252")  # of Windows
    file = tmp_path / "found.csv"
    file.write_text('class,WKT\nL\u00e4rche,"POINT (1 2)"\n', encoding="utf-8")
    assert read_features(file, layer=None, crs=None)["class"].tolist() == ["L\u00e4rche"]


def test_features_are_reprojected_once_for_all_rasters_of_a_crs(
    tmp_path: Path, write_raster_at: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rasters = [
        write_raster_at(
            tmp_path / f"{number}.tif",
            np.zeros((3, 40, 60), np.uint8),
            transform=Affine(0.2, 0, ORIGIN[0] + 50 * number, 0, -0.2, ORIGIN[1]),
        )
        for number in range(3)
    ]
    shapes = np.concatenate([polygons(raster, BOXES[:1]).geometry for raster in rasters])
    frame = gpd.GeoDataFrame(geometry=shapes, crs=UTM33).to_crs("EPSG:4326")
    path = tmp_path / "labels.gpkg"
    frame.to_file(path)
    moved: list[str] = []
    to_crs = gpd.GeoDataFrame.to_crs

    def count(frame: gpd.GeoDataFrame, crs: str) -> gpd.GeoDataFrame:
        moved.append(crs)
        return to_crs(frame, crs)

    monkeypatch.setattr(gpd.GeoDataFrame, "to_crs", count)
    found = read_vector(path, rasters, options=VectorOptions(area=path))
    assert len(moved) == len(["labels", "area"])
    for item in found:
        assert item.area is not None
        np.testing.assert_allclose(item.labels.boxes, BOXES[:1], atol=1e-3)
        np.testing.assert_allclose(item.area.bounds, BOXES[0], atol=1e-3)
