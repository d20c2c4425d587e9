"""The outcome of an evaluation, as plain data."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from geo_retina.evaluation.about import BEFOREHAND, About
from geo_retina.evaluation.calibration import Calibration, ScoreMap
from geo_retina.evaluation.confusion import Confusion
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.metrics import OperatingPoint
from geo_retina.evaluation.mistakes import Mistakes
from geo_retina.evaluation.rules import MatchRule
from geo_retina.evaluation.thresholds import Threshold
from geo_retina.labels.cleaning import Changes
from geo_retina.wording import scores_text

_SCORE_DIGITS = 7
"""Of a float32: 0.4 is 0.4 again."""


@dataclass(frozen=True, slots=True)
class SizeQuality:
    """Average precision over objects of some sizes."""

    name: str
    labels: int
    ap: float
    """101-point (COCO) average precision; NaN without labels."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the detections are: over all, of one class, or of one site.

    With several classes, average precisions are means over the classes that have labels; hits,
    precision, recall and F1 count all objects alike. A class without labels has NaN.
    """

    name: str
    labels: int
    detections: int
    """All that count, whatever their score."""
    ap: float
    """Area under the interpolated precision-recall curve at the rule's threshold."""
    ap_coco: float
    """101-point (COCO) average precision at the rule's threshold."""
    ap50: float
    """101-point average precision at IoU 0.5."""
    ap50_95: float
    """Mean 101-point average precision over the IoUs 0.50, 0.55, ... 0.95."""
    by_size: tuple[SizeQuality, ...]
    """Empty where labels are points, which have one size."""
    best: OperatingPoint
    """At the score with the best F1 here."""
    at_score: OperatingPoint
    """At the evaluation's score, or that of each class."""


@dataclass(frozen=True, slots=True)
class RasterCount:
    """Objects on one raster, at the evaluation's score, or that of each class."""

    name: str
    site: str
    labels: int
    detections: int
    hits: int
    hectares: float | None
    """Ground that was labelled, invalid pixels included; None without georeference."""


@dataclass(frozen=True, slots=True)
class CountError:
    """How far counts are off; NaN where there is nothing to divide by."""

    mean_absolute: float
    """Mean over rasters of the absolute difference of detections and labels."""
    bias: float
    """Mean over rasters of detections less labels."""
    relative: float
    """Detections less labels in total, as a share of the labels."""
    bias_per_ha: float
    """Detections less labels in total, per hectare; NaN where a raster has no georeference."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All numbers of one comparison of detections with labels."""

    rule: MatchRule
    """When a detection matches a label."""
    score: float
    """Threshold of `at_score`, `mistakes` and `rasters`."""
    class_scores: dict[str, float]
    """Classes that have another threshold than `score`, and that."""
    score_is_best_f1: bool
    """True where `score` was chosen on these data, which flatters what it gives."""
    quality: Quality
    classes: tuple[Quality, ...]
    """Of each class; empty where there is one."""
    sites: tuple[Quality, ...]
    """Of each site; empty where there is one."""
    thresholds: tuple[Threshold, ...]
    """Best score of all classes and of each, with 95 % intervals."""
    mistakes: Mistakes
    calibration: Calibration
    score_map: ScoreMap | None
    """What would make the scores hit rates; None where that cannot be told."""
    drawn: str
    """What the intervals were drawn from, such as `31 rasters` or `48 blocks of 250 px`."""
    offset_px: tuple[float, float]
    """Median of detection centre less label centre over the hits, x and y: far from 0, labels or
    imagery are misplaced."""
    rasters: tuple[RasterCount, ...]
    changes: Changes = field(default_factory=Changes)
    """What was mended in the labels before they were compared."""
    confusion: Confusion | None = None
    """At `score`; None where there is one class."""
    about: About | None = None
    """What was evaluated on what, where the caller told."""

    @property
    def cut(self) -> Cut:
        """The thresholds of all classes."""
        if not self.class_scores:
            return Cut(self.score)
        names = [item.name for item in self.classes]
        return Cut(self.score, tuple(self.class_scores.get(name, self.score) for name in names))

    @property
    def score_origin(self) -> str:
        """Where `score` comes from, for people."""
        if self.score_is_best_f1:
            return "the best F1 on these data"
        if not self.score:
            return "all detections"
        return BEFOREHAND if self.about is None else self.about.score_origin

    @property
    def cut_words(self) -> str:
        """The thresholds for people, such as `0.300, of boat 0.120`."""
        return scores_text(self.score, self.class_scores)

    @property
    def counts(self) -> CountError:
        """How far the counts of objects are off."""
        off = [item.detections - item.labels for item in self.rasters]
        labels = sum(item.labels for item in self.rasters)
        areas = [item.hectares for item in self.rasters if item.hectares is not None]
        known = bool(areas) and len(areas) == len(off) and sum(areas) > 0
        return CountError(
            mean_absolute=sum(map(abs, off)) / len(off) if off else math.nan,
            bias=sum(off) / len(off) if off else math.nan,
            relative=sum(off) / labels if labels else math.nan,
            bias_per_ha=sum(off) / sum(areas) if known else math.nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is undefined (NaN) becomes None."""
        plain: dict[str, Any] = _plain(self)
        return plain | {
            "rule": str(self.rule),
            "score": round(self.score, _SCORE_DIGITS),
            "class_scores": {
                name: round(score, _SCORE_DIGITS) for name, score in self.class_scores.items()
            },
            "counts": _plain(self.counts),
        }


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever JSON knows
    if is_dataclass(value):
        plain = {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        if isinstance(value, OperatingPoint):
            derived = {"precision": value.precision, "recall": value.recall, "f1": value.f1}
            plain |= _plain(derived)
        return plain
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
