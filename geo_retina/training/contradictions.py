"""Rasters that several sources of a recipe label: do they say the same of the same ground?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from geo_retina.errors import LabelError
from geo_retina.labels.image_paths import same_file_key
from geo_retina.labels.labels import LabelledRaster
from geo_retina.space import boxes as box_arrays


def refuse_contradictions(labelled: Sequence[LabelledRaster]) -> None:
    """Refuse labels that make the objects of others background: one file a class, for example.

    Args:
        labelled: The rasters of one side, of all sources.

    Raises:
        LabelError: Two sources label the same ground of a raster with different objects.
    """
    known: dict[str, list[LabelledRaster]] = {}
    for item in labelled:
        others = known.setdefault(same_file_key(item.raster), [])
        for other in others:
            mine, theirs = _objects(item, other), _objects(other, item)
            if mine != theirs:
                raise LabelError(
                    f"several sources label the same ground of {Path(item.raster).name} with "
                    f"different objects ({len(theirs)} and {len(mine)}): those of one would be "
                    "background to the other; join them in one file or layer with a class for each "
                    "object, or state with area the part of the raster that each source labels"
                )
        others.append(item)


def _objects(item: LabelledRaster, other: LabelledRaster) -> set[tuple[float, ...]]:
    """Class and box of the objects of a raster whose centres lie where both sources label it."""
    labels = item.labels
    shared = np.isfinite(labels.boxes).all(axis=1)
    x, y = box_arrays.centres(labels.boxes).T
    for area in (item.area, other.area):
        if area is not None:
            shared &= shapely.contains_xy(area, x, y)
    rows = np.column_stack([labels.class_ids, labels.boxes])[shared]
    return set(map(tuple, rows.tolist()))
