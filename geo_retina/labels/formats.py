"""All label formats, by name."""

import glob
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.coco import read_coco, read_json
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.features import VECTOR_SUFFIXES
from geo_retina.labels.files import list_images, read_grid, refuse_turned
from geo_retina.labels.image_paths import is_elsewhere
from geo_retina.labels.labels import ANY_CLASS, LabelledRaster
from geo_retina.labels.placement import areas_on
from geo_retina.labels.points import read_point_csvs
from geo_retina.labels.text import read_dota, read_yolo
from geo_retina.labels.vector import VectorOptions, read_area, read_vector
from geo_retina.labels.voc import ANNOTATIONS, ARCGIS_LABELS, read_voc, xml_files
from geo_retina.labels.xview import read_xview
from geo_retina.labels.yolo_sets import is_yolo

COCO, DEEPFOREST, VECTOR, VOC, YOLO = "coco", "deepforest", "vector", "voc", "yolo"
"""Names of formats that are treated apart."""
_ALSO_VECTOR = (".gdb", ".kml", ".zip")
"""Endings of vector files that only labels have: geodatabases of ArcGIS, polygons of Google Earth,
zipped Shapefiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
    """A label file or folder, and what it does not say about itself."""

    path: str
    """File, or folder of files."""
    images: str | None = None
    """The raster, or the folder with the rasters; None = beside the labels, where their format
    names the rasters."""
    class_names: Sequence[str] | None = None
    """Names of class ids 0..K-1; None = those of the file."""
    numbered_names: Sequence[str] | None = None
    """For YOLO without names of its own: names of its numbers; None = `class_names`."""
    vector: VectorOptions = field(default_factory=VectorOptions)
    """For vector files; `class_column` also for DeepForest's CSV, `point_size_m` also for CSV files
    of points, `area` for all formats."""
    first_pixel: int = 0
    """For VOC: the number of the first pixel, see `read_voc`."""

    def images_needed(self) -> str:
        """`images`, where the format cannot do without.

        Raises:
            LabelError: It is None.
        """
        if self.images is None:
            raise LabelError(
                f"{self.path}: this format does not name its rasters: pass images (--images, or "
                "images in a recipe)"
            )
        return self.images


def _read_points(source: LabelSource) -> list[LabelledRaster]:
    if source.vector.point_size_m is None:
        raise LabelError(
            f"{source.path}: state the side of the box around each point, metres: --point-size-m, "
            "or point_size_m in a recipe"
        )
    names = tuple(source.class_names or (ANY_CLASS,))
    if len(names) != 1:
        raise LabelError(f"{source.path}: points have one class, got {', '.join(names)}")
    return read_point_csvs(
        source.path,
        source.images_needed(),
        size_m=source.vector.point_size_m,
        class_name=names[0],
    )


def _read_vector(source: LabelSource) -> list[LabelledRaster]:
    images = source.images_needed()
    return read_vector(
        source.path,
        list_images(images),
        class_names=source.class_names,
        options=source.vector,
        image_folder=images if Path(images).is_dir() else None,
    )


READERS: dict[str, Callable[[LabelSource], list[LabelledRaster]]] = {
    COCO: lambda s: read_coco(s.path, s.images, class_names=s.class_names),
    DEEPFOREST: lambda s: read_deepforest_csv(
        s.path,
        s.images,
        class_names=s.class_names,
        class_column=s.vector.class_column,
        class_option=s.vector.class_option,
    ),
    "dota": lambda s: read_dota(s.path, s.images_needed(), class_names=s.class_names),
    "points": _read_points,
    VECTOR: _read_vector,
    VOC: lambda s: read_voc(s.path, s.images, class_names=s.class_names, first_pixel=s.first_pixel),
    "xview": lambda s: read_xview(s.path, s.images_needed(), class_names=s.class_names),
    YOLO: lambda s: read_yolo(
        s.path, s.images, class_names=s.class_names, numbered_names=s.numbered_names
    ),
}


def read_labels(source: LabelSource, *, label_format: str | None = None) -> list[LabelledRaster]:
    """Read labels of any known format.

    Args:
        source: What to read.
        label_format: A key of `READERS`; None = told by the file itself, see `format_of`.

    Raises:
        LabelError: The format is unknown, an option has no effect on it, or the labels cannot be
            read.
    """
    _refuse_missing_labels(source.path)
    name = format_of(source.path) if label_format is None else label_format
    if name not in READERS:
        raise LabelError(f"expected a label format among {', '.join(READERS)}, got {name!r}")
    _refuse_idle(source, name)
    _refuse_missing_folder(source)
    labelled = READERS[name](source)
    if name != VECTOR:  # whose places are those of a GIS, which shows pixels as they are stored
        refuse_turned((item.raster for item in labelled if len(item.labels)), source=source.path)
    if source.vector.area is None or name == VECTOR:  # which knows its grids already
        return labelled
    crs = source.vector.raster_crs
    grids = [read_grid(item.raster, crs=crs) for item in labelled]
    area = read_area(source.vector.area, layer=source.vector.area_layer)
    areas = areas_on(area, grids)
    return [replace(item, area=area) for item, area in zip(labelled, areas, strict=True)]


def _refuse_missing_labels(path: str) -> None:
    """Refuse labels that are not there."""
    if not is_elsewhere(path) and not Path(path).exists():
        raise LabelError(f"{path}: no such file or folder; expected labels there")


def _refuse_missing_folder(source: LabelSource) -> None:
    """Refuse a folder of images that is not there."""
    images = source.images
    if images is None or is_elsewhere(images) or glob.has_magic(images) or Path(images).exists():
        return
    raise LabelError(
        f"{images}: no such file or folder; state with --images (images in a recipe) the raster, "
        "or the folder that the rasters lie in"
    )


def _refuse_idle(source: LabelSource, name: str) -> None:
    """Refuse options that would have no effect on labels of a format."""
    of_vectors = ("class_column", "score_column", "crs", "layer")
    given = [key for key in of_vectors if getattr(source.vector, key) is not None]
    idle = given if name != VECTOR else []
    if name == DEEPFOREST and "class_column" in idle:
        idle.remove("class_column")
    if source.first_pixel and name != VOC:
        idle.append("first_pixel")
    if source.vector.area_layer is not None and source.vector.area is None:
        raise LabelError(
            f"{source.path}: expected an area with the layer {source.vector.area_layer!r}, got "
            "none; name it with --area (area in a recipe)"
        )
    if idle:
        names = ("labels_crs" if key == "crs" else key for key in idle)
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in names)
        raise LabelError(f"{source.path}: {flags} would have no effect on {name} labels: leave out")


def format_of(path: str) -> str:
    """Tell the format of a label file from its ending and, for JSON, from its first keys.

    A folder tells it by XML files (VOC), by a YAML file of a data set, or by text files with a
    class id and shares of the image in each line (YOLO).

    Raises:
        LabelError: The file does not tell. Folders of DOTA's text files and of CSV files (points)
            never do.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix in (".json", ".geojson") and file.is_file():
        return _json_format(file)
    if suffix in VECTOR_SUFFIXES or suffix in _ALSO_VECTOR:
        return VECTOR
    if suffix == ".csv":
        return VECTOR if _has_wkt(file) else DEEPFOREST
    if suffix == ".xml" or _holds_voc(file):
        return VOC
    if is_yolo(file):
        return YOLO
    if xml_files(file / ARCGIS_LABELS):
        return VOC
    _refuse_missing_labels(path)
    files = sorted([*file.glob("*.json"), *file.glob("*/*.json")])
    raise LabelError(
        f"{path}: does not tell its format; "
        + (f"name one file in it, such as {files[0]}, or " if files else "")
        + f"state one of {', '.join(READERS)}: --format (format in a recipe)"
    )


def _holds_voc(folder: Path) -> bool:
    return any(xml_files(place) for place in (folder, folder / ANNOTATIONS))


def _has_wkt(file: Path) -> bool:
    """Whether a CSV file holds features, as `detect` writes them."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return "WKT" in lines.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return False


def _json_format(file: Path) -> str:
    content = read_json(file)
    if isinstance(content, dict) and "images" in content:
        return COCO
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return "xview" if "bounds_imcoords" in _first_properties(content, file) else VECTOR
    if isinstance(content, list):
        raise LabelError(
            f"{file}: expected COCO with images, annotations and categories, got a list, as of "
            "COCO results: make it the annotations of a file with the images and categories of "
            "the labels"
        )
    raise LabelError(f"{file}: neither COCO (no images) nor GeoJSON (no FeatureCollection)")


def _first_properties(content: dict[str, object], file: Path) -> dict[str, object]:
    """Properties of the first feature of a GeoJSON file; none where it has no feature."""
    features = content.get("features") or [{}]
    if not isinstance(features, list):
        raise LabelError(
            f"{file}: expected GeoJSON with a list of features, got {type(features).__name__} in "
            "its place; write the file again"
        )
    first = features[0]
    if not isinstance(first, dict):
        raise LabelError(
            f"{file}: expected GeoJSON with a list of features, got {json.dumps(first)} as the "
            "first of them; remove what is no feature"
        )
    properties = first.get("properties")
    return properties if isinstance(properties, dict) else {}
