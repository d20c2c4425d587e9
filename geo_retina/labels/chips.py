"""Cut training chips out of labelled rasters: image files and COCO JSON."""

import contextlib
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from geo_retina.errors import LabelError, OutputError, WriteError
from geo_retina.imagery.raster import Raster, open_raster
from geo_retina.imagery.regridded import RegriddedRaster
from geo_retina.labels.cleaning import Changes, clean_labels
from geo_retina.labels.earlier_chips import CHIPS, CUT_HERE, beside, clear_chips, coco_file
from geo_retina.labels.labels import LabelledRaster, Labels, shared_class_names
from geo_retina.labels.splits import hash_share
from geo_retina.space import boxes as box_arrays
from geo_retina.space.windows import Window, WindowPlan
from geo_retina.whole_files import write_whole
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

_Pixels = Raster | RegriddedRaster
ChipFormat = Literal["tif", "png"]

_ALPHA = "alpha"
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
"""What a file name cannot hold on one system or the other."""
_PNG_BANDS = (1, 3, 4)
_PNG_DTYPES = ("uint8", "uint16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipOptions:
    """How chips are cut."""

    chip_px: int
    """Side of a chip, pixels of `gsd_m`."""
    gsd_m: float | None = None
    """Metres per pixel that rasters are resampled to; None keeps their own pixels."""
    overlap_px: int = 0
    """Overlap of neighbouring chips, pixels."""
    min_visible: float = 0.3
    """Of an object cut by the chip's edge, the least share of its area that must be seen for it to
    be a label. What shows less is kept as an ignored one (COCO `iscrowd`)."""
    empty_share: float = 0.1
    """Share of the chips without labels that is kept, chosen by a hash of their name."""
    chip_format: ChipFormat = "tif"
    """`tif` keeps all bands with their names, the data type, the mask and the georeference; `png`
    takes 1, 3 or 4 bands."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px < self.chip_px:
            raise LabelError(
                f"overlap_px must be at least 0 and under chip_px {self.chip_px}, "
                f"got {self.overlap_px}"
            )
        for name in ("min_visible", "empty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise LabelError(f"{name} must be in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class CutChips:
    """What `cut_chips` wrote."""

    annotations: tuple[Path, ...]
    """One COCO file for each split."""
    chips: int
    empty_chips: int
    """Of them without labels."""
    labels: int
    ignored: int
    """Objects that show too little to be labels."""


def cut_chips(
    labelled: Sequence[LabelledRaster],
    folder: str | os.PathLike[str],
    *,
    options: ChipOptions,
    overwrite: bool = False,
) -> CutChips:
    """Cut chips into `folder/chips` and describe each split in `folder/<split>.json`.

    Labels are cleaned first, as for a training, see `clean_labels`; what was mended is logged.
    Chips cover each raster from its upper-left corner. Where a raster has an area, only chips that
    lie wholly in it are cut; chips without any valid pixel never are. Box coordinates are not
    rounded. Cutting again with more rasters gives the same chips and more. All rasters are looked
    at before anything is removed or written; a call that fails or is interrupted leaves no chip.

    Args:
        labelled: Rasters and their labels.
        folder: Made if it is not there.
        options: How to cut.
        overwrite: Remove the chips and COCO files that an earlier call wrote into the folder; other
            files stay.

    Raises:
        LabelError: A raster's bands cannot be written as PNG, the classes differ, a split's name
            is no file's, or no chip fits into the areas of a split.
        OutputError: The folder cannot be written, holds chips of an earlier call, or a file that a
            COCO file would replace.
        GeoreferenceError: A raster cannot be resampled, for its own GSD is unknown.
        RasterError: A raster cannot be opened.
        RasterReadError: Pixels cannot be read.
        WriteError: The disk is full or lost.
    """
    class_names = shared_class_names(item.labels for item in labelled)
    _refuse_what_cannot_be_cut(labelled, options)
    target = Path(folder)
    clear_chips(target, labelled, overwrite=overwrite)
    try:
        (target / CHIPS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: the folder cannot be made: {error}") from error
    books: dict[Path, _Book] = {}
    changes: list[Changes] = []
    with _all_or_none() as begun:
        for item, name in zip(labelled, _chip_stems(labelled), strict=True):
            book = books.setdefault(coco_file(target, item), _Book(class_names))
            with open_raster(item.raster, pixel_coordinates=True) as opened:
                clean = clean_labels(
                    item.labels, width=opened.grid.width, height=opened.grid.height
                )
                changes.append(clean.changes)
                raster, own = _at_gsd(opened, replace(item, labels=clean.labels), options.gsd_m)
                for window, labels in _chosen(own, raster, name, options):
                    file = f"{name}_{window.col_off}_{window.row_off}.{options.chip_format}"
                    if _write_chip(raster, window, target / CHIPS / file, begun):
                        book.add(f"{CHIPS}/{file}", own, window, labels)
        for path, book in books.items():
            begun.append(path)
            write_whole(path, json.dumps(book.content()), error=OutputError)
    _tell_of_mending(labelled, changes, target)
    return CutChips(
        tuple(sorted(books)),
        chips=sum(len(book.images) for book in books.values()),
        empty_chips=sum(book.empty for book in books.values()),
        labels=sum(len(book.annotations) - book.ignored for book in books.values()),
        ignored=sum(book.ignored for book in books.values()),
    )


@contextmanager
def _all_or_none() -> Iterator[list[Path]]:
    """A list of files that go again if what makes them fails: nothing would tell whose they are."""
    begun: list[Path] = []
    try:
        yield begun
    except BaseException:
        for file in [*begun, *map(beside, begun)]:
            with contextlib.suppress(OSError):  # what failed first is what is told
                file.unlink(missing_ok=True)
        raise


def _tell_of_mending(
    labelled: Sequence[LabelledRaster], changes: Sequence[Changes], folder: Path
) -> None:
    """Log what was done to the labels before they were cut."""
    mended = str(sum(changes, Changes()))
    _log.info(
        "%s: cut from %s with %s%s",
        folder, counted(len({item.raster for item in labelled}), "raster"),
        counted(sum(len(item.labels) for item in labelled), "object"),
        f" (mended: {mended})" if mended else "",
    )  # fmt: skip


def labels_in_window(labels: Labels, window: Window, *, min_visible: float) -> Labels:
    """Labels in the frame of a window, cut at its edges.

    Those that show a smaller share of their area than `min_visible` are marked as ignored; those
    that show nothing are left out.
    """
    moved = box_arrays.shift(labels.boxes, x=-window.col_off, y=-window.row_off)
    cut = box_arrays.clip(moved, width=window.width, height=window.height).astype(np.float64)
    shown, whole = box_arrays.area(cut), box_arrays.area(moved)
    kept = shown > 0
    ignored = ~labels.counted | (shown < min_visible * whole)
    return replace(labels, boxes=cut, ignored=ignored).select(kept)


class _Book:
    """The COCO description of one split, as it grows."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.empty = 0
        self.ignored = 0

    def add(self, file: str, item: LabelledRaster, window: Window, labels: Labels) -> None:
        image_id = len(self.images) + 1
        self.images.append(
            {
                "id": image_id,
                "file_name": file,
                "width": window.width,
                "height": window.height,
                "raster": item.raster,
                "window": [window.col_off, window.row_off, window.width, window.height],
                "site": item.site,
            }
        )
        self.empty += not labels.counted.any()
        rows = zip(labels.boxes.tolist(), labels.class_ids.tolist(), labels.counted, strict=True)
        for (x_min, y_min, x_max, y_max), class_id, counts in rows:
            width, height = x_max - x_min, y_max - y_min
            self.ignored += not counts
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1,
                    "bbox": [x_min, y_min, width, height],
                    "area": width * height,
                    "iscrowd": int(not counts),
                }
            )

    def content(self) -> dict[str, Any]:
        return {
            "info": {"description": CUT_HERE},
            "images": self.images,
            "annotations": self.annotations,
            "categories": [
                {"id": number, "name": name} for number, name in enumerate(self.class_names, 1)
            ],
        }


def _at_gsd(
    raster: Raster, item: LabelledRaster, gsd_m: float | None
) -> tuple[_Pixels, LabelledRaster]:
    """What chips are cut from, and the labels and the area in its pixels."""
    if gsd_m is None:
        return raster, item
    source = RegriddedRaster(raster, gsd_m)
    x, y = source.scale
    labels = replace(item.labels, boxes=box_arrays.scale(item.labels.boxes, x=x, y=y))
    area = item.area
    if area is not None:
        area = shapely.transform(area, lambda points: points * np.array([x, y]))
    return source, replace(item, labels=labels, area=area)


def _refuse_what_cannot_be_cut(labelled: Sequence[LabelledRaster], options: ChipOptions) -> None:
    """Open every raster, and find a window for every split."""
    has_windows: dict[str, bool] = {}
    for item in labelled:
        split = item.split or "all"
        if split.startswith(".") or _NO_FILE_NAME.search(split):
            raise LabelError(
                f"{item.raster}: expected a split whose name can be that of a COCO file, got "
                f"{split!r}; rename it in the labels, such as train"
            )
        with open_raster(item.raster, pixel_coordinates=True) as opened:
            raster, own = _at_gsd(opened, item, options.gsd_m)
            if options.chip_format == "png":
                _refuse_for_png(raster)
            if not has_windows.get(split):
                has_windows[split] = next(_windows(own, raster, options), None) is not None
    for split, found in has_windows.items():
        if not found:
            raise LabelError(
                f"no chip of {options.chip_px} px lies wholly in the labelled ground of {split!r}; "
                "cut smaller chips (--chip), or larger squares where ground is divided (--block-m)"
            )


def _windows(item: LabelledRaster, raster: _Pixels, options: ChipOptions) -> Iterator[Window]:
    """Windows that lie in the area."""
    plan = WindowPlan(raster.grid.width, raster.grid.height, options.chip_px, options.overlap_px)
    for strip in plan.strips():
        for window in strip.windows:
            if item.area is None or shapely.covers(item.area, shapely.box(*window.box)):
                yield window


def _chosen(
    item: LabelledRaster, raster: _Pixels, name: str, options: ChipOptions
) -> Iterator[tuple[Window, Labels]]:
    """Windows to cut, with their labels."""
    for window in _windows(item, raster, options):
        labels = labels_in_window(item.labels, window, min_visible=options.min_visible)
        key = f"{name} {window.col_off} {window.row_off}"
        if labels.counted.any() or hash_share(key) < options.empty_share:
            yield window, labels


def _write_chip(raster: _Pixels, window: Window, path: Path, begun: list[Path]) -> bool:
    """Write the pixels of a window, with `path` in `begun`; False where none is valid."""
    import rasterio

    valid, bands = _valid(raster, window), list(range(1, raster.band_count + 1))
    pixels = raster.read(window, bands=bands)
    if not (valid & np.isfinite(pixels).any(axis=0)).any():
        return False
    profile: dict[str, Any] = {
        "driver": "PNG" if path.suffix == ".png" else "GTiff",
        "count": len(bands),
        "height": window.height,
        "width": window.width,
        "dtype": pixels.dtype,
        "nodata": raster.nodata[0],
    }
    if path.suffix == ".tif":
        profile |= {"compress": "deflate", "photometric": _photometric(raster)}
        if raster.grid.crs is not None:
            profile |= {
                "crs": raster.grid.crs.to_wkt(),
                "transform": raster.grid.crop(window).transform,
            }
    begun.append(path)
    try:
        with warnings.catch_warnings():
            # A chip of a picture without georeference has none either.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = rasterio.open(path, "w", **profile)
        with file:
            if path.suffix == ".tif":
                _describe(file, raster)
            file.write(pixels)
        if path.suffix == ".tif":
            _mark_invalid(path, valid)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise WriteError(f"{path}: the chip cannot be written: {error}; make room") from error
    return True


def _describe(file: Any, raster: _Pixels) -> None:  # noqa: ANN401  rasterio has no types
    """Names and colours of the bands, before there are pixels: GDAL stores alpha's beside them."""
    from rasterio.enums import ColorInterp

    file.colorinterp = [ColorInterp[colour] for colour in raster.colours]
    for band, name in enumerate(raster.descriptions, start=1):
        if name:
            file.set_band_description(band, name)


def _mark_invalid(path: Path, valid: NDArray[np.bool_]) -> None:
    """Write a mask into a chip whose pixels alone (nodata, alpha) do not say what is valid."""
    import rasterio

    with open_raster(path, pixel_coordinates=True) as chip:
        said = _valid(chip, Window(0, 0, chip.grid.width, chip.grid.height))
    if np.array_equal(said, valid):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        file = rasterio.open(path, "r+")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), file:
        file.write_mask(valid)


def _valid(raster: _Pixels, window: Window) -> NDArray[np.bool_]:
    """Where any band but alpha is valid: (height, width)."""
    bands = [band for band, colour in enumerate(raster.colours, start=1) if colour != _ALPHA]
    masks = [raster.read_mask(window, band=band) for band in bands]
    valid: NDArray[np.bool_] = np.any(masks, axis=0)
    return valid


def _photometric(raster: _Pixels) -> str:
    return "RGB" if raster.colours[:3] == ("red", "green", "blue") else "MINISBLACK"


def _refuse_for_png(raster: _Pixels) -> None:
    dtypes = sorted(set(raster.dtypes))
    if raster.band_count not in _PNG_BANDS or len(dtypes) > 1 or dtypes[0] not in _PNG_DTYPES:
        raise LabelError(
            f"{raster.path}: PNG holds 1, 3 or 4 bands of uint8 or uint16, this has "
            f"{raster.band_count} of {', '.join(dtypes)}; cut chips as tif"
        )


def _chip_stems(labelled: Sequence[LabelledRaster]) -> list[str]:
    """Name of each raster without folder and ending, with a hash where two would be the same.

    Parts of one raster that belong to different splits share a name: their chips lie apart.
    """
    rasters: dict[str, set[str]] = {}
    for item in labelled:
        rasters.setdefault(Path(item.raster).stem, set()).add(item.raster)
    stems = []
    for item in labelled:
        stem = Path(item.raster).stem
        digest = hashlib.blake2b(item.raster.encode(), digest_size=4).hexdigest()
        stems.append(stem if len(rasters[stem]) == 1 else f"{stem}-{digest}")
    return stems
