"""What exporting a network costs in average precision."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from geo_retina.defaults import MATCH_IOU
from geo_retina.detection.backends import Backend
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting, detect_pairs
from geo_retina.imagery.read_options import READ_AS_STATED, ReadOptions
from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.artifacts import ApLoss, Artifact
from geo_retina.model.checkpoint import CheckpointInfo


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LossMeasure:
    """How the loss is measured, and on what."""

    detect: Callable[[Backend], list[Pair]]
    """Detects on rasters that the model did not learn from, beside their labels."""
    images: str
    """What they are, in words."""
    iou: float = MATCH_IOU
    """Least overlap of a match."""
    distance_m: float | None = None
    """Match centres up to so many metres apart instead, not boxes."""

    def of(self, artifact: Artifact) -> ApLoss:
        """Detect with torch and with a graph, both on the CPU, and compare the AP.

        Raises:
            LabelError: The labels' classes are not the model's.
            UsageError: One of its kinds, for a raster that does not fit the model.
        """
        before, after = (
            evaluate_detections(
                self.detect(backend),
                iou=self.iou,
                distance_m=self.distance_m,
                options=EvaluationOptions(bootstrap_samples=0),
            )
            for backend in (Backend("cpu"), Backend("cpu", artifact))
        )
        by_distance = self.distance_m is not None
        matched = f"within {self.distance_m:g} m" if by_distance else f"IoU {self.iou:g}"
        return ApLoss(before.quality.ap, after.quality.ap, f"{self.images}, {matched}")


def measure_on(
    labelled: Sequence[LabelledRaster],
    info: CheckpointInfo,
    *,
    images: str,
    distance_m: float | None = None,
    options: ReadOptions = READ_AS_STATED,
) -> LossMeasure:
    """Measure on labelled rasters that are all read alike.

    Args:
        labelled: Rasters that the model did not learn from.
        info: The checkpoint.
        images: What they are, in words.
        distance_m: Match centres up to so many metres apart, not boxes.
        options: How the rasters are read.
    """
    detecting = DetectOptions(score=LOWEST_SCORE, **asdict(options))

    def detect(backend: Backend) -> list[Pair]:
        return detect_pairs(labelled, info.path, Detecting(options=detecting, backend=backend))

    return LossMeasure(detect=detect, images=images, distance_m=distance_m)
