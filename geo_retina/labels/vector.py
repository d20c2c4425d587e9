"""Labels and detections in vector files: polygons, boxes or points in any CRS."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.labels.features import CLASS_OPTION, column_of, read_features
from geo_retina.labels.files import read_grid
from geo_retina.labels.image_paths import IMAGE, named_images
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.parts import separate_objects
from geo_retina.labels.placement import (
    POLYGONS,
    areas_on,
    features_near,
    refuse_far,
    tell_of_degrees,
    tell_of_strays,
)
from geo_retina.labels.points import boxes_around
from geo_retina.labels.vector_classes import SCORE_COLUMN, classes_of
from geo_retina.space.grid import Grid
from geo_retina.wording import counted, fid_list

if TYPE_CHECKING:
    import geopandas as gpd

_log = logging.getLogger(__name__)

_POINT, _MULTIPOINT = 0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """What a vector file does not say about itself."""

    class_column: str | None = None
    """Column with the class name; None = `class`, else `label`, else one class for a file without
    any text. Empty: all features are of one class, whatever the columns."""
    class_option: str = CLASS_OPTION
    """What states `class_column`, for the text of errors."""
    score_column: str | None = None
    """Column with the score in [0, 1]; None = `score` where there is one, otherwise no scores."""
    point_size_m: float | None = None
    """Side of the square box around each point, metres."""
    crs: str | None = None
    """CRS of the coordinates where the file states none, or a wrong one, such as `EPSG:32613`."""
    raster_crs: str | None = None
    """CRS of rasters that state none."""
    layer: str | None = None
    """Layer to read; None = the only one with geometries."""
    area: str | None = None
    """Vector file with the polygons inside which all objects are labelled; None = everywhere."""
    area_layer: str | None = None
    """Layer of `area` to read; None = the only one with geometries."""


def read_vector(
    path: str | PathLike[str],
    rasters: Sequence[str | PathLike[str]],
    *,
    class_names: Sequence[str] | None = None,
    options: VectorOptions | None = None,
    image_folder: str | None = None,
) -> list[LabelledRaster]:
    """Read the features of a vector file that lie on each of `rasters`.

    Polygons become enclosing boxes in the raster's own pixel frame: on a rotated grid a box that
    geo_retina wrote comes back unchanged. Parts of a feature that lie apart are objects of their
    own, see `separate_objects`. An object that the raster's edge cuts keeps its whole
    box; `clean_labels` cuts it. Coordinates for a raster without CRS are its pixels, y down.

    Args:
        path: GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet.
        rasters: One or more rasters, each with its own CRS.
        class_names: Names of class ids 0..K-1; None takes the names that occur in the file, in
            alphabetical order, or `object` where it has one class and does not name it.
        options: What the file does not say about itself.
        image_folder: That `rasters` are all images of. Where the file has a column `image_path`,
            its features lie on the rasters that it names, and only these were labelled.

    Returns:
        One entry a raster, in their order; a raster without features has no objects.

    Raises:
        LabelError: The file cannot be read, states no CRS, holds unknown classes, none, or does not
            tell which column they are in, holds geometries that are neither polygons nor points,
            lies over a kilometre from all rasters, or names some rasters that are there and some
            that are not.
    """
    options = options or VectorOptions()
    frame = read_features(path, layer=options.layer, crs=options.crs)
    area = None if options.area is None else read_area(options.area, layer=options.area_layer)
    named = None
    if image_folder is not None and IMAGE in frame:
        named = named_images(frame[IMAGE], rasters, folder=image_folder, source=str(path))
    if named is not None:
        count, wanted = len(rasters), set(named)
        rasters = [str(raster) for raster in rasters if str(raster) in wanted]
        if len(rasters) < count:
            _log.warning(
                "%s: its column %s names %d of the %d rasters in %s; the others are left out",
                path, IMAGE, len(rasters), count, image_folder,
            )  # fmt: skip
    objects = _Objects.of(frame, class_names, options, images=named, source=str(path))
    grids = [read_grid(raster, crs=options.raster_crs) for raster in rasters]
    tell_of_degrees(frame, grids, source=str(path))
    labels = objects.on([str(raster) for raster in rasters], grids)
    if len(frame) and not any(len(found) for found in labels):
        refuse_far(frame, grids, source=str(path))
    else:
        tell_of_strays(frame, labels, source=str(path))
    areas = [None] * len(grids) if area is None else areas_on(area, grids)
    return [
        LabelledRaster(str(raster), found, area=on_raster)
        for raster, on_raster, found in zip(rasters, areas, labels, strict=True)
    ]


def read_area(path: str | PathLike[str], *, layer: str | None = None) -> "gpd.GeoDataFrame":
    """Read the ground inside which all objects are labelled, for `placement.areas_on`.

    Args:
        path: Vector file with polygons.
        layer: Layer to read; None = the only one with geometries.

    Raises:
        LabelError: The file cannot be read, or has several layers and none was named.
    """
    choose = "state which with --area-layer (area_layer in a recipe)"
    return read_features(path, layer=layer, crs=None, choose=choose)


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """Features of a file with their classes and scores."""

    frame: "gpd.GeoDataFrame"
    class_ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    scores: NDArray[np.float32] | None
    point_size_m: float | None
    source: str
    images: NDArray[np.object_] | None = None
    """(N,) raster of each feature, where the file names it."""

    @classmethod
    def of(
        cls,
        frame: "gpd.GeoDataFrame",
        class_names: Sequence[str] | None,
        options: VectorOptions,
        *,
        images: NDArray[np.object_] | None,
        source: str,
    ) -> "_Objects":
        _refuse_other_kinds(frame, source=source)
        frame, rows = separate_objects(frame)
        _tell_of_parts(frame, source=source)
        _refuse_sizeless(frame, options, source=source)
        ids, names = classes_of(
            frame, class_names, options.class_column, source=source, option=options.class_option
        )
        scores = _scores(frame, options.score_column, source=source)
        return cls(
            frame,
            ids,
            names,
            scores,
            options.point_size_m,
            source,
            None if images is None else images[rows],
        )

    def on(self, rasters: Sequence[str], grids: Sequence[Grid]) -> list[Labels]:
        """The objects that lie at least partly on each raster, and are not of another one."""
        near = features_near(self.frame, grids, source=self.source)
        found = {
            number: self._labels(rows, flat, grids[number], rasters[number])
            for number, rows, flat in near
        }
        return [found[number] for number in range(len(grids))]

    def _labels(
        self, near: NDArray[np.int64], flat: NDArray[np.object_], grid: Grid, raster: str
    ) -> Labels:
        """Of the rows near a raster, with their geometries in its pixels, those that are on it."""
        if self.images is not None:
            own = self.images[near]
            mine = (own == raster) | (own == None)  # noqa: E711  # of each element
            near, flat = near[mine], flat[mine]
        boxes = shapely.bounds(flat)
        points = shapely.get_type_id(flat) == _POINT
        inside = (boxes[:, :2] < [grid.width, grid.height]).all(axis=1)
        # a point on the edge between two rasters lies on the one to the right or below
        inside &= ((boxes[:, 2:] > 0) | (points[:, None] & (boxes[:, 2:] == 0))).all(axis=1)
        if points.any():
            assert self.point_size_m is not None  # noqa: S101  # checked on reading
            boxes[points] = boxes_around(boxes[points, :2], grid, size_m=self.point_size_m)
        kept = near[inside]
        return Labels(
            boxes[inside],
            self.class_ids[kept],
            self.class_names,
            scores=None if self.scores is None else self.scores[kept],
            fids=self.frame.index.to_numpy()[kept].astype(np.int64),
        )


def _refuse_other_kinds(frame: "gpd.GeoDataFrame", *, source: str) -> None:
    """Complain about what is neither polygons nor points."""
    usable = np.isin(
        shapely.get_type_id(frame.geometry.to_numpy()), (_POINT, _MULTIPOINT, *POLYGONS)
    )
    others = frame[~usable]
    if len(others):
        found = ", ".join(
            f"{counted(len(group), str(kind))} ({fid_list(group.index)})"
            for kind, group in others.groupby(others.geom_type)
        )
        them, polygons = ("it", "a polygon") if len(others) == 1 else ("them", "polygons")
        raise LabelError(
            f"{source}: expected polygons or points, found {found}; remove {them}, or make {them} "
            f"{polygons}"
        )


def _refuse_sizeless(frame: "gpd.GeoDataFrame", options: VectorOptions, *, source: str) -> None:
    """Complain about points whose size is not stated."""
    points = shapely.get_type_id(frame.geometry.to_numpy()) == _POINT
    if not points.any() or options.point_size_m is not None:
        return
    some = "" if points.all() else f" ({fid_list(frame.index[points].unique())}) among polygons"
    raise LabelError(
        f"{source}: holds {counted(int(points.sum()), 'point')}{some}; state the side of the box "
        "around each, metres: --point-size-m, or point_size_m in a recipe"
        + ("" if points.all() else "; or remove what is no object")
    )


def _tell_of_parts(frame: "gpd.GeoDataFrame", *, source: str) -> None:
    """Say which features were several polygons apart from each other."""
    polygons = np.isin(shapely.get_type_id(frame.geometry.to_numpy()), POLYGONS)
    fids = frame.index[polygons & frame.index.duplicated(keep=False)]
    if len(fids):
        features = fids.unique()
        _log.warning(
            "%s: %s with parts that lie apart (%s): taken as %s, one for each part",
            source, counted(len(features), "feature"), fid_list(features),
            counted(len(fids), "object"),
        )  # fmt: skip


def _scores(
    frame: "gpd.GeoDataFrame", score_column: str | None, *, source: str
) -> NDArray[np.float32] | None:
    option = "--score-column (score_column in a recipe)"
    column = column_of(frame, score_column, SCORE_COLUMN, source=source, option=option)
    if column is None:
        return None
    try:
        scores: NDArray[np.float32] = column.to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LabelError(
            f"{source}: expected numbers in the column {column.name!r}: {error}"
        ) from error
    return scores
