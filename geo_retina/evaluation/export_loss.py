"""What exporting a network costs in average precision."""

from collections.abc import Sequence
from dataclasses import asdict

from geo_retina.defaults import MATCH_IOU
from geo_retina.detection.backends import Backend
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting, detect_pairs
from geo_retina.imagery.read_options import READ_AS_STATED, ReadOptions
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.artifacts import ApLoss, Artifact
from geo_retina.model.checkpoint import CheckpointInfo


def measure_ap_loss(
    info: CheckpointInfo,
    artifact: Artifact,
    labelled: Sequence[LabelledRaster],
    *,
    images: str,
    distance_m: float | None = None,
    options: ReadOptions = READ_AS_STATED,
) -> ApLoss:
    """Detect on labelled rasters with torch and with a graph, both on the CPU, and compare the AP.

    Args:
        info: The checkpoint.
        artifact: A graph that was exported from it.
        labelled: Rasters that the model did not learn from.
        images: What they are, in words.
        distance_m: Match centres up to so many metres apart, not boxes.
        options: How rasters are read.

    Raises:
        LabelError: The labels' classes are not the model's.
        UsageError: One of its kinds, for a raster that does not fit the model.
    """
    detecting = DetectOptions(score=LOWEST_SCORE, **asdict(options))
    before, after = (
        evaluate_detections(
            detect_pairs(labelled, info.path, Detecting(options=detecting, backend=backend)),
            iou=MATCH_IOU,
            distance_m=distance_m,
            options=EvaluationOptions(bootstrap_samples=0),
        )
        for backend in (Backend("cpu"), Backend("cpu", artifact))
    )
    matched = f"IoU {MATCH_IOU}" if distance_m is None else f"within {distance_m:g} m"
    return ApLoss(before.quality.ap, after.quality.ap, f"{images}, {matched}")
