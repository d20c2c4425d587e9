"""A detector of the caller's own, such as a YOLO: what it finds on chips, stitched like ours."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo_retina.card import ModelCard
from geo_retina.detection.backends import Model
from geo_retina.detection.decoding import with_decay
from geo_retina.detection.detector import ChipResult, check_batch, check_chips, fill_chips
from geo_retina.detection.fingerprints import hash_bytes
from geo_retina.errors import ConfigError, ModelError
from geo_retina.model.thresholds import Thresholds
from geo_retina.space import boxes as box_arrays
from geo_retina.space.detections import Detections
from geo_retina.space.nms import nms
from geo_retina.wording import listed, shown

Found = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Of one chip: boxes (M, 4), scores (M,) and class ids (M,)."""
FindOnChips = Callable[[NDArray[Any]], Sequence[Found]]

_A_FEW = 3  # boxes that hardly lie in one pixel together


def wrap_detector(
    find: FindOnChips,
    card: ModelCard,
    *,
    version: str,
    limit: int | None,
    batch: int | None = None,
) -> Model:
    """Make a model for `detect` and `detect_to_files` of a function that finds objects on chips.

    Windows, georeference, stitching, resuming and outputs are those of any model. Chips have
    `card.chip_px` on each side, filled with `card.mean` where the raster ends, so that the
    function sees one scale, unless a larger `chip_px` is asked for.

    Args:
        find: Takes (N, bands, height, width) chips in the card's band order, data type and GSD,
            N from 1 to `batch`, and returns for each chip boxes (M, 4) as `x_min, y_min, x_max,
            y_max` in pixel edges of the chip, scores (M,) in [0, 1] and class ids (M,) from 0, in
            any order. It should return scores as low as anybody will ask for; NMS is not needed.
        card: What the chips look like, and what is found. Its limits are not used.
        version: Names these weights. A broken run is resumed by the same version and card alone,
            and their hash stands in the outputs.
        limit: Most boxes that `find` returns for a chip, such as `max_det` of a YOLO; None where it
            has no limit. A chip with so many boxes that score enough is split, not cut short.
        batch: Most chips at once; None = 1.

    Raises:
        ConfigError: `find` cannot be called, `card` is no ModelCard, `version` is empty, or `limit`
            or `batch` is no number of at least 1.
    """
    check_batch(batch)
    if limit is not None and not (isinstance(limit, int | np.integer) and limit >= 1):
        raise ConfigError(f"limit must be a whole number of at least 1 or None, got {shown(limit)}")
    if not callable(find):
        raise ConfigError(f"expected a function of chips as find, got {shown(find)}")
    if not isinstance(card, ModelCard):
        raise ConfigError(f"expected a geo_retina.ModelCard as card, got {shown(card)}")
    if not isinstance(version, str) or not version:
        raise ConfigError(
            f"expected a name of these weights as version, such as '2026-03', got {shown(version)}"
        )
    detector = OwnDetector(find, card, limit, batch or 1)
    stated = f"{version}\n{card.model_dump_json()}"  # a checkpoint's hash covers its card, too
    return Model(detector, "own", hash_bytes(stated.encode()), chips_grow=False)


@dataclass(frozen=True, slots=True)
class OwnDetector:
    """Calls the function, and makes of what it returns what `Detector` promises."""

    find: FindOnChips
    card: ModelCard
    limit: int | None
    batch: int

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        """Find objects on (N, bands, height, width) chips of the card's data type.

        Raises:
            ModelError: The chips are not what the card states, or what is found is not what
                `wrap_detector` expects.
        """
        check_chips(pixels, self.card)
        height, width = pixels.shape[-2:]
        least = self.card.chip_px
        chips = fill_chips(pixels, self.card, height=max(height, least), width=max(width, least))
        return [
            self._result(_clipped(found, height=height, width=width), thresholds)
            for first in range(0, len(chips), self.batch)
            for found in self._found(chips[first : first + self.batch])
        ]

    def _found(self, chips: NDArray[Any]) -> Iterator[Detections]:
        returned = self.find(chips)
        found = list(returned) if isinstance(returned, Iterable) else []
        if len(found) != len(chips):
            got = shown(returned) if returned is None else f"{len(found)} values"
            raise ModelError(
                f"expected boxes, scores and class ids for each of {len(chips)} chips, the "
                f"detector returned {got}"
            )
        return (_checked(one, self.card) for one in found)

    def _result(self, found: Detections, thresholds: Thresholds) -> ChipResult:
        enough = found.select(found.scores >= np.float32(thresholds.score))
        passed = thresholds.reached(enough)
        groups = thresholds.groups(passed.class_ids)
        kept = nms(passed.boxes, passed.scores, threshold=thresholds.nms_iou, class_ids=groups)
        saturated = self.limit is not None and len(enough) >= self.limit
        return ChipResult(with_decay(passed.select(kept), thresholds), saturated)


def _clipped(found: Detections, *, height: int, width: int) -> Detections:
    """Boxes cut where the raster ends, before NMS compares them: what is filled holds nothing."""
    return replace(found, boxes=box_arrays.clip(found.boxes, width=width, height=height))


def _checked(found: Found, card: ModelCard) -> Detections:
    try:
        boxes, scores, class_ids = (np.asarray(part).astype(np.float64) for part in found)
    except (TypeError, ValueError, RuntimeError) as error:  # torch: on a GPU, or needs a gradient
        raise ModelError(
            "expected boxes, scores and class ids of each chip as arrays of numbers, the detector "
            f"returned {shown(found)}: {error}"
        ) from error
    count = len(scores) if scores.ndim == 1 else -1
    if (boxes.shape != (count, 4) and (count or boxes.size)) or class_ids.shape != (count,):
        raise ModelError(
            "expected boxes (M, 4), scores (M,) and class ids (M,) of each chip, the detector "
            f"returned {boxes.shape}, {scores.shape} and {class_ids.shape}"
        )
    if count == 0:
        return Detections.empty()
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ModelError(
            "expected scores in 0 to 1, the detector returned "
            f"{scores.min():.9g} to {scores.max():.9g}; apply the sigmoid or the softmax first"
        )
    names = card.class_names
    if not np.isin(class_ids, range(len(names))).all():
        raise ModelError(
            f"expected class ids 0 to {len(names) - 1} ({listed(names)}), the detector "
            f"returned {class_ids.min():g} to {class_ids.max():g}; background is not counted: "
            "where the network has it as class 0, subtract 1"
        )
    if not np.isfinite(boxes).all():
        raise ModelError(
            "expected boxes of finite numbers, the detector returned NaN or infinity; look for "
            "damaged weights, or for an overflow in float16"
        )
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if swapped.any():
        sides = ", ".join(f"{side:g}" for side in boxes[swapped][0])
        raise ModelError(
            f"expected boxes as x_min, y_min, x_max, y_max, the detector returned [{sides}]; is it "
            "centre and size, or corner and size?"
        )
    if count >= _A_FEW and boxes.max() <= 1:
        raise ModelError(
            "expected boxes in pixels of the chip, the detector returned boxes that all lie in 0 "
            "to 1; multiply them by the chip's width and height"
        )
    return Detections.of(boxes, scores, class_ids)
