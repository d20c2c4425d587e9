"""Where labelled rasters come from: the `[[train]]` and `[[val]]` tables of a recipe."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from geo_retina.errors import LabelError
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.labels.choice import choose_listed
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.formats import LabelSource, read_labels
from geo_retina.labels.image_paths import is_elsewhere
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.vector import VectorOptions
from geo_retina.labels.voc import read_voc
from geo_retina.plain import Plain

_log = logging.getLogger(__name__)


class Reading(Plain):
    """How the rasters of a source are read; left out, as their files say."""

    bands: tuple[int, ...] | None = None
    """Band numbers, from 1, in the order of `card.bands`."""
    scale: tuple[float, float] | None = None
    """Raster values that become the ends of `card.value_range`."""
    stretch: tuple[float, float] | None = None
    """Percentiles of each band that become these ends."""
    gsd_m: float | None = Field(default=None, gt=0)
    """Metres per pixel of rasters without georeference."""
    any_gsd: bool = False
    """Allow rasters coarser than `card.coarsest_gsd_m`."""

    @property
    def options(self) -> ReadOptions:
        """The same for whoever reads; who states a GSD has rasters without georeference."""
        return ReadOptions(**self.model_dump(), pixel_coordinates=self.gsd_m is not None)


class _Source(Plain, ABC):
    names: str = "*"
    """Take only images whose file name matches this pattern, such as `NIWO_*`."""
    only: str | None = None
    """Take only images that this text file names, one a line, with or without ending; relative to
    the data folder."""
    split: str | tuple[str, ...] | None = None
    """Take only images that the labels give this split, or one of these."""
    classes: dict[str, str] = Field(default_factory=dict)
    """Classes of the labels by their names there: the class of the card that each is taken for, or
    empty where its objects are left out, and what they cover is background. Those not named keep
    their names. For labels that only number their classes: all of them, in the order of the
    numbers."""
    least_score: float = Field(default=0, ge=0, le=1)
    """Take only labels with at least this score: for labels that a model made."""
    sure_score: float = Field(default=0, ge=0, le=1)
    """Labels under this score are neither objects nor background: their ground is not shown."""
    weight: float = Field(default=1, gt=0)
    """How often this source is drawn, relative to its share of all pixels and objects."""
    reading: Reading = Reading()
    licence: str = "not stated"
    attribution: str = "not stated"

    @property
    @abstractmethod
    def name(self) -> str:
        """How messages and the card call it."""

    @abstractmethod
    def files(self, folder: Path) -> list[str | Path]:
        """Label files that it names, with paths below `folder`."""

    def read(self, folder: Path, class_names: tuple[str, ...]) -> list[LabelledRaster]:
        """Read the chosen labels; paths are relative to `folder`.

        Raises:
            LabelError: A file is missing or wrong, a class is unknown, or no image is chosen.
        """
        self._refuse_unknown(class_names)
        names = tuple(dict.fromkeys((*self.classes, *class_names)))
        known = self._read_all(folder, names)
        if self.classes:
            known = [_of_classes(item, self.classes, class_names) for item in known]
        if self.only is not None:
            known = choose_listed(known, folder / self.only)
        found = [
            _by_score(item, least=self.least_score, sure=self.sure_score)
            for item in known
            if self._takes(item.split) and fnmatch(Path(item.raster).name, self.names)
        ]
        if not found:
            raise LabelError(
                f"the source {self.name} has no image left: check its paths and its keys names, "
                "only and split"
            )
        return found

    def _refuse_unknown(self, class_names: tuple[str, ...]) -> None:
        """Raise where a class of the labels is to become one that the card does not have."""
        unknown = [item for item in self.classes.items() if item[1] not in ("", *class_names)]
        if unknown:
            told = ", ".join(f"{name!r} = {known!r}" for name, known in unknown)
            raise LabelError(
                f"the source {self.name}: expected classes of card.class_names "
                f"({', '.join(class_names)}), or an empty text to leave a class out, got {told}"
            )

    def _takes(self, split: str) -> bool:
        if self.split is None:
            return True
        return split in ((self.split,) if isinstance(self.split, str) else self.split)

    @abstractmethod
    def _read_all(self, folder: Path, class_names: tuple[str, ...]) -> list[LabelledRaster]: ...


class CsvSource(_Source):
    """Images with boxes in a CSV in DeepForest's layout."""

    kind: Literal["deepforest-csv"]
    labels: str
    """Path of the CSV; relative to the data folder."""
    images: str
    """Folder of the images; relative to the data folder."""
    class_column: str | None = None
    """Column with the class; None = `label`. Empty: all is one class."""

    @property
    def name(self) -> str:
        """How messages and the card call it."""
        return self.labels

    def files(self, folder: Path) -> list[str | Path]:
        """The CSV."""
        return [folder / self.labels]

    def _read_all(self, folder: Path, class_names: tuple[str, ...]) -> list[LabelledRaster]:
        return read_deepforest_csv(
            folder / self.labels,
            folder / self.images,
            class_names=class_names,
            class_column=self.class_column,
        )


class VocSource(_Source):
    """Images with Pascal VOC files beside them."""

    kind: Literal["voc"]
    images: tuple[str, ...] = Field(min_length=1)
    """Paths of the images; the labels have the same name with the ending `.xml`."""

    @property
    def name(self) -> str:
        """How messages and the card call it."""
        return ", ".join(self.images)

    def files(self, folder: Path) -> list[str | Path]:
        """The XML files."""
        return [(folder / image).with_suffix(".xml") for image in self.images]

    def _read_all(self, folder: Path, class_names: tuple[str, ...]) -> list[LabelledRaster]:
        return [
            _of_image(raster, folder / image)
            for image in self.images
            for raster in read_voc((folder / image).with_suffix(".xml"), class_names=class_names)
        ]


class AnySource(_Source):
    """Labels of any format that `geo_retina.labels` reads."""

    kind: Literal["labels"]
    labels: str
    """File or folder; relative to the data folder."""
    images: str | None = None
    """The raster, a folder of rasters, or a URL; left out, beside the labels."""
    format: str | None = None
    """Such as `dota` or `points`; left out, told by the file."""
    class_column: str | None = None
    """Of a vector file or a CSV: column with the class name; None = `class`, else `label`, of a
    CSV `label`. Empty: all is one class."""
    score_column: str | None = None
    """Of a vector file: column with the score."""
    point_size_m: float | None = Field(default=None, gt=0)
    """Side of the square box around each point, metres."""
    crs: str | None = None
    """CRS of the labels where their file states none, such as `EPSG:32613`."""
    layer: str | None = None
    """Of a vector file: layer to read."""
    area: str | None = None
    """Vector file with the polygons inside which all objects are labelled."""
    area_layer: str | None = None
    """Layer of `area` to read."""
    first_pixel: int = Field(default=0, ge=0, le=1)
    """Of VOC files: the number of the first pixel."""

    @property
    def name(self) -> str:
        """How messages and the card call it."""
        return self.labels

    def files(self, folder: Path) -> list[str | Path]:
        """The labels and their area."""
        return [_path(folder, text) for text in (self.labels, self.area) if text is not None]

    def _read_all(self, folder: Path, class_names: tuple[str, ...]) -> list[LabelledRaster]:
        source = LabelSource(
            path=_path(folder, self.labels),
            images=None if self.images is None else _path(folder, self.images),
            class_names=class_names,
            numbered_names=tuple(self.classes) or None,
            vector=VectorOptions(
                class_column=self.class_column,
                score_column=self.score_column,
                point_size_m=self.point_size_m,
                crs=self.crs,
                layer=self.layer,
                area=None if self.area is None else _path(folder, self.area),
                area_layer=self.area_layer,
            ),
            first_pixel=self.first_pixel,
        )
        return read_labels(source, label_format=self.format)


Source = Annotated[CsvSource | VocSource | AnySource, Field(discriminator="kind")]


def _path(folder: Path, text: str) -> str:
    """A path below the data folder; absolute ones, URLs and GDAL's own stay as they are."""
    return text if is_elsewhere(text) else str(folder / text)


def _of_image(labelled: LabelledRaster, image: Path) -> LabelledRaster:
    """The same labels on the image that the recipe states, whatever the labels call it."""
    if Path(labelled.raster).name != image.name:
        _log.warning(
            "%s: its <filename> is %s; taken for the labels of %s, as the recipe states",
            image.with_suffix(".xml"), Path(labelled.raster).name, image,
        )  # fmt: skip
    return replace(labelled, raster=str(image))


def _of_classes(
    raster: LabelledRaster, classes: Mapping[str, str], class_names: tuple[str, ...]
) -> LabelledRaster:
    """The same labels in the classes of the card, without those that are left out."""
    labels = raster.labels
    wanted = [classes.get(name, name) for name in labels.class_names]
    ids = np.array([class_names.index(name) if name else -1 for name in wanted], dtype=np.int64)
    taken = labels.select(ids[labels.class_ids] >= 0)
    return replace(
        raster,
        labels=replace(taken, class_ids=ids[taken.class_ids], class_names=class_names),
    )


def _by_score(raster: LabelledRaster, *, least: float, sure: float) -> LabelledRaster:
    """Labels from `least` up, those under `sure` marked as ignored."""
    scores = raster.labels.scores
    if not (least or sure) or not len(raster.labels):
        return raster
    if scores is None:
        raise LabelError(
            f"{raster.raster}: least_score and sure_score choose labels by their scores, and these "
            "have none; leave the two keys out, or state score_column"
        )
    raster.labels.check_scores(str(raster.raster))
    taken = raster.labels.select(scores >= least)
    doubtful = scores[scores >= least] < sure
    return replace(raster, labels=replace(taken, ignored=doubtful | ~taken.counted))
