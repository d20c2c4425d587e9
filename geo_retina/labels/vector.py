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
from geo_retina.labels.features import column_of, read_features, text_columns
from geo_retina.labels.files import read_grid
from geo_retina.labels.image_paths import IMAGE, named_images
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of
from geo_retina.labels.placement import POLYGONS, areas_on, in_pixels, refuse_far, world_frame
from geo_retina.labels.points import boxes_around
from geo_retina.space.grid import Grid

if TYPE_CHECKING:
    import geopandas as gpd

logger = logging.getLogger(__name__)

CLASS_COLUMN = "class"
"""Column that names the class where no other is stated; geo_retina writes this one."""
SCORE_COLUMN = "score"
"""Column that holds the score where no other is stated; geo_retina writes this one."""

_POINT, _MULTIPOINT = 0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """What a vector file does not say about itself."""

    class_column: str | None = None
    """Column with the class name; None = `class` where there is one, otherwise one class."""
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
    geo_retina wrote comes back unchanged. An object that the raster's edge cuts keeps its whole
    box; `clean_labels` cuts it. Coordinates for a raster without CRS are its pixels, y down.

    Args:
        path: GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet.
        rasters: One or more rasters, each with its own CRS.
        class_names: Names of class ids 0..K-1; None takes the names that occur in the file, in
            alphabetical order, or `object` where it has no class column.
        options: What the file does not say about itself.
        image_folder: That `rasters` are all images of. Where the file has a column `image_path`,
            its features lie on the rasters that it names, and only these were labelled.

    Returns:
        One entry a raster, in their order; a raster without features has no objects.

    Raises:
        LabelError: The file cannot be read, states no CRS, holds unknown classes or geometries that
            are neither polygons nor points, lies over a kilometre from all rasters, or names some
            rasters that are there and some that are not.
    """
    options = options or VectorOptions()
    frame = read_features(path, layer=options.layer, crs=options.crs)
    area = None if options.area is None else read_area(options.area)
    named = None
    if image_folder is not None and IMAGE in frame:
        named = named_images(frame[IMAGE], rasters, folder=image_folder, source=str(path))
    if named is not None:
        count, wanted = len(rasters), set(named)
        rasters = [str(raster) for raster in rasters if str(raster) in wanted]
        if len(rasters) < count:
            logger.warning(
                "%s: its column %s names %d of the %d rasters in %s; the others are left out",
                path, IMAGE, len(rasters), count, image_folder,
            )  # fmt: skip
    objects = _Objects.of(frame, class_names, options, images=named, source=str(path))
    grids = [read_grid(raster, crs=options.raster_crs) for raster in rasters]
    labels = [objects.on(grid, str(raster)) for raster, grid in zip(rasters, grids, strict=True)]
    if len(frame) and not any(len(found) for found in labels):
        refuse_far(frame, grids, source=str(path))
    areas = [None] * len(grids) if area is None else areas_on(area, grids)
    return [
        LabelledRaster(str(raster), found, area=on_raster)
        for raster, on_raster, found in zip(rasters, areas, labels, strict=True)
    ]


def read_area(path: str | PathLike[str]) -> "gpd.GeoDataFrame":
    """Read the ground inside which all objects are labelled, for `placement.area_on`.

    Raises:
        LabelError: The file cannot be read, or has several layers.
    """
    return read_features(path, layer=None, crs=None, choose="export one to a file of its own")


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
        if _multipoints(frame):
            frame = frame.explode(index_parts=False)
            images = None if images is None else images[frame.index.to_numpy()]
            frame = frame.reset_index(drop=True)
        kinds = shapely.get_type_id(frame.geometry.to_numpy())
        if not np.isin(kinds, (_POINT, *POLYGONS)).all():
            found = ", ".join(sorted(set(frame.geom_type)))
            raise LabelError(f"{source}: expected polygons or points, found {found}")
        if (kinds == _POINT).any() and options.point_size_m is None:
            raise LabelError(
                f"{source}: holds points; state the side of the box around each, metres: "
                "--point-size-m, or point_size_m in a recipe"
            )
        ids, names = _classes(frame, class_names, options.class_column, source=source)
        scores = _scores(frame, options.score_column, source=source)
        return cls(
            frame,
            ids,
            names,
            scores,
            options.point_size_m,
            source,
            images,
        )

    def on(self, grid: Grid, raster: str) -> Labels:
        """The objects that lie at least partly on a raster, and are not of another one."""
        world = world_frame(self.frame, grid, source=self.source)
        footprint = shapely.polygons(
            grid.box_corners(np.array([[0.0, 0.0, grid.width, grid.height]]))[0]
        )
        near = np.sort(world.sindex.query(footprint))
        if self.images is not None:
            own = self.images[near]
            near = near[(own == raster) | (own == None)]  # noqa: E711  # of each element
        flat = in_pixels(world.iloc[near], grid)
        boxes = shapely.bounds(flat)
        inside = (boxes[:, :2] < [grid.width, grid.height]).all(axis=1)
        inside &= (boxes[:, 2:] > 0).all(axis=1)
        points = shapely.get_type_id(flat) == _POINT
        if points.any():
            assert self.point_size_m is not None  # noqa: S101  # checked on reading
            boxes[points] = boxes_around(boxes[points, :2], grid, size_m=self.point_size_m)
        kept = near[inside]
        return Labels.of(
            boxes[inside],
            self.class_ids[kept],
            self.class_names,
            scores=None if self.scores is None else self.scores[kept],
        )


def _multipoints(frame: "gpd.GeoDataFrame") -> bool:
    return bool((shapely.get_type_id(frame.geometry.to_numpy()) == _MULTIPOINT).any())


def _scores(
    frame: "gpd.GeoDataFrame", score_column: str | None, *, source: str
) -> NDArray[np.float32] | None:
    column = column_of(frame, score_column, SCORE_COLUMN, source=source)
    if column is None:
        return None
    try:
        scores: NDArray[np.float32] = column.to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LabelError(
            f"{source}: expected numbers in the column {column.name!r}: {error}"
        ) from error
    return scores


def _classes(
    frame: "gpd.GeoDataFrame",
    class_names: Sequence[str] | None,
    class_column: str | None,
    *,
    source: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    column = column_of(frame, class_column, CLASS_COLUMN, source=source)
    if column is not None:
        if column.isna().any():
            raise LabelError(
                f"{source}: feature {int(column.isna().argmax()) + 1} has no class in the column "
                f"{column.name!r}; complete or remove it"
            )
        return class_ids_of(column.astype(str).tolist(), class_names, source=source)
    known = tuple(class_names or ("object",))
    texts = [name for name in text_columns(frame) if name not in (frame.geometry.name, IMAGE)]
    if len(frame) and texts and len(known) == 1:
        logger.warning(
            "%s: has no column %r; all %d features are taken as one class, %r; if the class is "
            "in one of the columns %s, state it with --class-column",
            source, CLASS_COLUMN, len(frame), known[0], ", ".join(texts),
        )  # fmt: skip
    if len(known) > 1:
        raise LabelError(
            f"{source}: has no column {CLASS_COLUMN!r} to tell {', '.join(known)} apart; name the "
            f"column with class_column: {', '.join(frame.columns.drop(frame.geometry.name))}"
        )
    return np.zeros(len(frame), np.int64), known
