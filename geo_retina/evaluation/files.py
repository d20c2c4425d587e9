"""Evaluate files: detections of any format against labels of any format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import Pair, pair_up, raster_of
from geo_retina.labels.choice import choose_listed, choose_split, refuse_no_rows
from geo_retina.labels.csv_table import header_of
from geo_retina.labels.features import PARQUET_SUFFIXES, VECTOR_SUFFIXES
from geo_retina.labels.files import read_grid
from geo_retina.labels.formats import (
    COCO,
    DEEPFOREST,
    VECTOR,
    YOLO,
    LabelSource,
    format_of,
    read_labels,
)
from geo_retina.labels.image_paths import refuse_missing_images
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.vector import VectorOptions, read_vector
from geo_retina.wording import counted

_OF_FOLDERS = (*VECTOR_SUFFIXES, ".csv")
"""Endings of the files that a folder of detections may hold; a CSV has outlines as text."""

_EXPECTED = (
    f"expected one vector file ({' '.join(_OF_FOLDERS)}) of detections for each raster, of the "
    "raster's name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFiles:
    """Labels and detections in files, and which part of them to compare."""

    labels: LabelSource
    detections: LabelSource
    """With scores; their format is told by the file. For vector files, `images` may be left out:
    the labels name the rasters. May be a folder with one vector file a raster, of the raster's
    name, with COCO files, as `detect` writes one a raster, or with YOLO's files beside labels in
    YOLO."""
    label_format: str | None = None
    """A key of `geo_retina.labels.formats.READERS`; None = told by the file."""
    detections_class_column: str | None = None
    """Column with the class of the detections; None = the labels' column where the detections have
    it, otherwise what their format takes by default."""
    split: str | None = None
    """Only rasters of this split; None = all. Detections on others are left out."""
    only: str | Path | None = None
    """Text file that names the rasters to take, one a line; None = all. Detections on others are
    left out."""
    class_agnostic: bool = False
    """Count all labels and all detections as one class, whatever their names."""


def read_pairs(files: ComparedFiles) -> list[Pair]:
    """Read labels and detections, and put them side by side.

    The rasters are opened for their grid, but no pixel is read.

    Raises:
        LabelError: A file cannot be read, detections have no scores, or the two do not fit.
        RasterError: A raster cannot be opened.
    """
    label_format = files.label_format or format_of(files.labels.path)
    detection_format = _detection_format(files.detections.path, label_format)
    labels = files.labels
    column, own = labels.vector.class_column, files.detections_class_column
    vector = replace(files.detections.vector, class_option="--detections-class-column")
    labels_have_it = label_format == VECTOR or (
        label_format == DEEPFOREST and column in header_of(Path(labels.path))
    )
    column_is_theirs = detection_format == VECTOR and not labels_have_it
    if own is not None:
        vector = replace(vector, class_column=own)
    elif column_is_theirs:
        labels = replace(labels, vector=replace(labels.vector, class_column=None))
    detections = replace(files.detections, vector=vector)
    labelled = read_labels(labels, label_format=label_format)
    refuse_no_rows(labelled, source=labels.path)
    listed = labelled if files.only is None else choose_listed(labelled, files.only)
    known = choose_split(listed, files.split, source=labels.path)
    refuse_missing_images(known, source=labels.path, some_may_lack=False)
    found = _read_detections(
        detections, detection_format, known, column_is_sure=own is not None or column_is_theirs
    )
    one_file = detection_format == VECTOR and not Path(detections.path).is_dir()
    if one_file:  # which names no raster, but tells which ones have objects
        found = [item for item in found if len(item.labels)]
    wanted = {item.raster for item in known}
    places = raster_of([item.raster for item in found], [item.raster for item in labelled])
    found = [
        item
        for item, place in zip(found, places, strict=True)
        if place is None or labelled[place].raster in wanted
    ]
    for item in found:
        item.labels.check_scores(files.detections.path)
    if files.class_agnostic:
        known = [replace(item, labels=item.labels.as_one_class()) for item in known]
        found = [replace(item, labels=item.labels.as_one_class()) for item in found]
    return pair_up(known, found, grid_of=partial(read_grid, crs=labels.vector.raster_crs))


def _detection_format(path: str, label_format: str) -> str:
    """The format of the detections.

    Raises:
        LabelError: A folder does not tell its format, and cannot have that of the labels.
    """
    folder = Path(path)
    if not folder.is_dir():
        return format_of(path)
    coco = _coco_files(folder)
    if any(file.suffix.lower() in _OF_FOLDERS and file not in coco for file in folder.iterdir()):
        return VECTOR
    if coco:
        return COCO
    if label_format == YOLO and any(folder.glob("*.txt")):
        return YOLO
    raise LabelError(
        f"{folder}: {_EXPECTED}, COCO files (.coco.json), or YOLO text files beside labels in YOLO"
    )


def _read_detections(
    source: LabelSource,
    name: str,
    known: Sequence[LabelledRaster],
    *,
    column_is_sure: bool,
) -> list[LabelledRaster]:
    """Read detections in one of the formats.

    Args:
        source: What to read.
        name: The format.
        known: The rasters that vector files are read for.
        column_is_sure: The stated column is that of the detections; otherwise it is the labels'
            and taken where the detections have it too.
    """
    folder = Path(source.path)
    options = source.vector
    if name == VECTOR and folder.is_dir():
        of_rasters = {item.raster: _files_of(folder, Path(item.raster).stem) for item in known}
        if not any(of_rasters.values()):
            raise LabelError(
                f"{folder}: {_EXPECTED}, such as {Path(known[0].raster).stem}.gpkg; none of its "
                f"files is called like one of {counted(len(known), 'raster')}"
            )
        return [
            item
            for raster, files in of_rasters.items()
            for file in files
            for item in read_vector(
                file,
                [raster],
                class_names=source.class_names,
                options=options if column_is_sure else _with_own_column(options, file),
            )
        ]
    if name != VECTOR and options.crs is not None:
        raise LabelError(
            f"{source.path}: --detections-crs would have no effect on {name} detections, which are "
            "in pixels: leave it out"
        )
    if name != VECTOR:  # what else is stated is of the labels
        has_it = name == DEEPFOREST and options.class_column in header_of(folder)
        vector = VectorOptions(
            score_column=options.score_column,
            point_size_m=options.point_size_m,
            class_column=options.class_column if has_it or column_is_sure else None,
            class_option=options.class_option,
        )
        files = _coco_files(folder) if name == COCO and folder.is_dir() else [folder]
        sources = (replace(source, path=str(file), vector=vector, first_pixel=0) for file in files)
        return [item for one in sources for item in read_labels(one, label_format=name)]
    if not column_is_sure:
        options = _with_own_column(options, folder)
    if source.images is not None:
        return read_labels(replace(source, vector=options), label_format=name)
    return read_vector(
        source.path,
        [item.raster for item in known],
        class_names=source.class_names,
        options=options,
    )


def _coco_files(folder: Path) -> list[Path]:
    """The COCO files of a folder, called as `detect` calls them."""
    return sorted(folder.glob("*.coco.json"))


def _with_own_column(options: VectorOptions, file: Path) -> VectorOptions:
    """Without the column of classes, where the file lacks it: then it is `class`, if any."""
    if options.class_column is None or options.class_column in columns_of(file):
        return options
    return replace(options, class_column=None)


def columns_of(file: Path) -> list[str]:
    """Names of the columns of a vector file; none where it cannot be read."""
    import pyogrio

    try:
        if file.suffix.lower() in PARQUET_SUFFIXES:
            from pyarrow.parquet import read_schema

            return [str(name) for name in read_schema(file).names]
        return [str(name) for name in pyogrio.read_info(file)["fields"]]
    except (OSError, ValueError, RuntimeError):  # whoever reads it says why
        return []


def _files_of(folder: Path, stem: str) -> list[Path]:
    """The vector file of a raster, if there is one.

    Raises:
        LabelError: There are several.
    """
    found = [folder / f"{stem}{suffix}" for suffix in _OF_FOLDERS]
    found = [file for file in found if file.is_file()]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise LabelError(f"{folder}: several files of detections for {stem}: {names}; keep one")
    return found
