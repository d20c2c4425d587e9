"""What exporting a network costs in average precision."""

from collections.abc import Sequence
from dataclasses import replace

from geo_retina.detection.backends import Backend
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.evaluate import evaluate_detections
from geo_retina.evaluation.runs import LOWEST_SCORE, detect_pairs
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.artifacts import ApLoss, Artifact
from geo_retina.model.checkpoint import CheckpointInfo

IOU = 0.4
"""Least overlap of a match, as in `geo-retina evaluate`."""


def measure_ap_loss(
    info: CheckpointInfo,
    artifact: Artifact,
    labelled: Sequence[LabelledRaster],
    *,
    images: str,
    distance_m: float | None = None,
    options: DetectOptions | None = None,
) -> ApLoss:
    """Detect on labelled rasters with torch and with a graph, both on the CPU, and compare the AP.

    Args:
        info: The checkpoint.
        artifact: A graph that was exported from it.
        labelled: Rasters that the model did not learn from.
        images: What they are, in words.
        distance_m: Match centres up to so many metres apart, not boxes.
        options: Bands, scale and stretch are taken from them.

    Raises:
        LabelError: The labels' classes are not the model's.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    options = replace(options or DetectOptions(), score=LOWEST_SCORE)
    before, after = (
        evaluate_detections(
            list(detect_pairs(labelled, info.path, options=options, backend=backend)),
            iou=IOU,
            distance_m=distance_m,
        )
        for backend in (Backend("cpu"), Backend("cpu", artifact))
    )
    matched = f"IoU {IOU}" if distance_m is None else f"within {distance_m:g} m"
    return ApLoss(before.quality.ap, after.quality.ap, f"{images}, {matched}")
