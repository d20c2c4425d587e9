"""Evaluate files: detections of any format against labels of any format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.evaluation.pairs import Pair, pair_up
from geo_retina.labels.choice import refuse_no_rows
from geo_retina.labels.csv_table import header_of
from geo_retina.labels.features import VECTOR_SUFFIXES
from geo_retina.labels.files import read_grid
from geo_retina.labels.formats import (
    DEEPFOREST,
    VECTOR,
    YOLO,
    LabelSource,
    VectorOptions,
    format_of,
    read_labels,
)
from geo_retina.labels.image_paths import refuse_missing_images
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.listing import choose_listed
from geo_retina.labels.vector import read_vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFiles:
    """Labels and detections in files, and which part of them to compare."""

    labels: LabelSource
    detections: LabelSource
    """With scores. For vector files, `images` may be left out: the labels name the rasters. May be
    a folder with one vector file a raster, of the raster's name."""
    label_format: str | None = None
    """A key of `geo_retina.labels.formats.READERS`; None = told by the file."""
    detection_format: str | None = None
    """Likewise; a folder holds vector files, or YOLO's beside labels in YOLO."""
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
    detection_format = _detection_format(files, label_format)
    labels = files.labels
    detections = files.detections
    column = labels.vector.class_column
    if label_format == DEEPFOREST and column in header_of(Path(labels.path)):
        if detection_format == VECTOR:  # the column of classes is that of the labels
            detections = _with_class_column(detections, None)
    elif detection_format == VECTOR and label_format != VECTOR:  # or that of the detections
        labels = _with_class_column(labels, None)
    labelled = read_labels(labels, label_format=label_format)
    refuse_no_rows(labelled, source=labels.path)
    listed = labelled if files.only is None else choose_listed(labelled, files.only)
    known = [item for item in listed if files.split in (None, item.split)]
    if not known:
        splits = ", ".join(sorted({item.split or "(none)" for item in labelled})) or "(none)"
        raise LabelError(f"{files.labels.path}: no raster of split {files.split!r}; has {splits}")
    refuse_missing_images(known, source=labels.path, some_may_lack=False)
    found = _read_detections(detections, detection_format, known)
    left_out = {Path(item.raster).name for item in labelled} - {
        Path(item.raster).name for item in known
    }
    found = [item for item in found if Path(item.raster).name not in left_out]
    for item in found:
        item.labels.check_scores(files.detections.path)
    if files.class_agnostic:
        known = [replace(item, labels=item.labels.as_one_class()) for item in known]
        found = [replace(item, labels=item.labels.as_one_class()) for item in found]
    return pair_up(known, found, grid_of=partial(read_grid, crs=labels.vector.raster_crs))


def _with_class_column(source: LabelSource, column: str | None) -> LabelSource:
    return replace(source, vector=replace(source.vector, class_column=column))


def _detection_format(files: ComparedFiles, label_format: str) -> str:
    """The format of the detections.

    Raises:
        LabelError: A folder does not tell its format, and cannot have that of the labels.
    """
    folder = Path(files.detections.path)
    if files.detection_format is not None:
        return files.detection_format
    if not folder.is_dir():
        return format_of(files.detections.path)
    if any(file.suffix.lower() in VECTOR_SUFFIXES for file in folder.iterdir()):
        return VECTOR
    if label_format == YOLO and any(folder.glob("*.txt")):
        return YOLO
    raise LabelError(
        f"{folder}: expected one vector file ({' '.join(VECTOR_SUFFIXES)}) of detections for each "
        "raster, of the raster's name, or YOLO text files beside labels in YOLO"
    )


def _read_detections(
    source: LabelSource, name: str, known: Sequence[LabelledRaster]
) -> list[LabelledRaster]:
    folder = Path(source.path)
    if name == VECTOR and folder.is_dir():
        return [
            item
            for raster in (item.raster for item in known)
            for file in _files_of(folder, Path(raster).stem)
            for item in read_vector(
                file, [raster], class_names=source.class_names, options=source.vector
            )
        ]
    if name == VECTOR and source.images is None:
        return read_vector(
            source.path,
            [item.raster for item in known],
            class_names=source.class_names,
            options=source.vector,
        )
    if name != VECTOR:  # what else is stated is of the labels
        stated = source.vector
        column = stated.class_column if name == DEEPFOREST else None
        vector = VectorOptions(
            score_column=stated.score_column,
            point_size_m=stated.point_size_m,
            class_column=column if column in header_of(Path(source.path)) else None,
        )
        source = replace(source, vector=vector, first_pixel=0)
    return read_labels(source, label_format=name)


def _files_of(folder: Path, stem: str) -> list[Path]:
    """The vector file of a raster, if there is one.

    Raises:
        LabelError: There are several.
    """
    found = [folder / f"{stem}{suffix}" for suffix in VECTOR_SUFFIXES]
    found = [file for file in found if file.is_file()]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise LabelError(f"{folder}: several files of detections for {stem}: {names}; keep one")
    return found
