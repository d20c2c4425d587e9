"""Labels of the xView challenge: one GeoJSON for all images, with boxes in pixels."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster, Labels, class_ids_of

_log = logging.getLogger(__name__)

STRAY_TYPE_IDS = (75, 82)
"""Type ids that occur in the published file but name no class; they are left out."""

_BOX_NUMBERS = 4

# Class list of the challenge, arXiv 1802.07856, in the order of the type ids.
TYPE_NAMES = {
    11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter",
    17: "Passenger Vehicle", 18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck",
    23: "Truck", 24: "Cargo Truck", 25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer",
    28: "Truck w/Flatbed", 29: "Truck w/Liquid", 32: "Crane Truck", 33: "Railway Vehicle",
    34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car", 38: "Locomotive",
    40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge",
    47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker",
    53: "Engineering Vehicle", 54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker",
    57: "Straddle Carrier", 59: "Mobile Crane", 60: "Dump Truck", 61: "Haul Truck",
    62: "Scraper/Tractor", 63: "Front loader/Bulldozer", 64: "Excavator", 65: "Cement Mixer",
    66: "Ground Grader", 71: "Hut/Tent", 72: "Shed", 73: "Building", 74: "Aircraft Hangar",
    76: "Damaged Building", 77: "Facility", 79: "Construction Site", 83: "Vehicle Lot",
    84: "Helipad", 86: "Storage Tank", 89: "Shipping container lot", 91: "Shipping Container",
    93: "Pylon", 94: "Tower",
}  # fmt: skip


def read_xview(
    geojson: str | PathLike[str],
    image_folder: str | PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
) -> list[LabelledRaster]:
    """Read the xView labels of the images that lie in `image_folder`.

    Boxes come from `bounds_imcoords`, which are pixels of the image.

    Args:
        geojson: `xView_train.geojson`.
        image_folder: Holds the images; those of the file that are not there are left out.
        class_names: Names of class ids 0..K-1; objects of other classes are left out. None = the
            60 classes of the challenge.

    Returns:
        One entry an image, in alphabetical order.

    Raises:
        LabelError: The file is not in xView form, or none of its images is in the folder.
    """
    known = tuple(TYPE_NAMES.values()) if class_names is None else tuple(class_names)
    strange = sorted(set(known) - set(TYPE_NAMES.values()))
    if strange:
        raise LabelError(f"no xView class is called {', '.join(strange)}")
    objects: defaultdict[str, list[tuple[list[float], str]]] = defaultdict(list)
    for image, box, name in _features(Path(geojson)):
        objects[image].extend([(box, name)] if name in known else [])
    found = [image for image in sorted(objects) if (Path(image_folder) / image).is_file()]
    if not found:
        raise LabelError(
            f"{geojson}: none of its {len(objects)} images lies in {image_folder}; pass the folder "
            "with the .tif files"
        )
    labelled = []
    for image in found:
        boxes, names = [row[0] for row in objects[image]], [row[1] for row in objects[image]]
        ids, _ = class_ids_of(names, known, source=str(geojson))
        labelled.append(
            LabelledRaster(str(Path(image_folder) / image), Labels.of(boxes, ids, known))
        )
    return labelled


def _features(geojson: Path) -> Iterator[tuple[str, list[float], str]]:
    """Image, pixel box and class name of each object of a known type."""
    strays = 0
    try:
        for feature in json.loads(geojson.read_text(encoding="utf-8-sig"))["features"]:
            row = feature["properties"]
            type_id = int(row["type_id"])
            if type_id in STRAY_TYPE_IDS:
                strays += 1
                continue
            box = _box(row["bounds_imcoords"])
            yield str(row["image_id"]), box, TYPE_NAMES[type_id]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelError(
            f"{geojson}: expected xView GeoJSON with image_id, type_id and bounds_imcoords: "
            f"{type(error).__name__} {error}"
        ) from error
    if strays:
        _log.warning("%s: left out %d objects whose type id names no class", geojson, strays)


def _box(bounds: str) -> list[float]:
    """Pixel edges x_min, y_min, x_max, y_max; a ValueError for another number of numbers."""
    values = [float(value) for value in bounds.split(",")]
    if len(values) != _BOX_NUMBERS:
        raise ValueError(f"expected 4 numbers in bounds_imcoords, got {bounds!r}")
    return values
