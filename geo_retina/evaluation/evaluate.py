"""Compare detections of whole rasters with labels: all numbers in one value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geo_retina.defaults import MATCH_IOU
from geo_retina.errors import LabelError
from geo_retina.evaluation.calibration import calibration, fit_score_map
from geo_retina.evaluation.confusion import confusion_matrix
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import Matches, match_pairs
from geo_retina.evaluation.metrics import (
    COCO_IOUS,
    OperatingPoint,
    as_detected,
    average_precision,
    best_f1,
    coco_average_precision,
    precision_recall,
)
from geo_retina.evaluation.mistakes import NearThresholds, count_mistakes
from geo_retina.evaluation.pairs import Pair, detection_boxes, label_boxes, rasters_of_sites
from geo_retina.evaluation.rules import (
    COCO_BOUNDS_PX,
    Candidates,
    DistanceRule,
    IouRule,
    MatchRule,
    Sizes,
    ground_size_ranges,
    ready_pairs,
    size_ranges,
)
from geo_retina.evaluation.summary import Evaluation, Quality, RasterCount, SizeQuality
from geo_retina.evaluation.thresholds import best_thresholds, choose_groups
from geo_retina.space import boxes as box_arrays

_NAN = float("nan")
_SEVERAL = 2
_SAME_SIDE = 0.01
"""Sides of boxes that differ by less, as a share, are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Details of an evaluation that rarely change."""

    size_bounds_px: tuple[float, ...] = COCO_BOUNDS_PX
    """Where small objects end and large ones begin: square root of the area, pixels."""
    size_bounds_m: tuple[float, ...] | None = None
    """The same in metres; takes the place of `size_bounds_px`."""
    bootstrap_samples: int = 1000
    """Draws for the intervals; 0 leaves them out."""
    block_px: float | None = None
    """Draw blocks of this side, pixels; None draws whole rasters where there are enough of them,
    and otherwise blocks of a side that `thresholds.choose_groups` takes."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        if self.block_px is not None and not self.block_px > 0:
            raise LabelError(f"blocks need a side of over 0 px, got {self.block_px}")
        self.sizes()  # bounds that do not rise fail here

    def sizes(self) -> tuple[Sizes, ...]:
        """Ranges of sizes that average precision is told for.

        Raises:
            LabelError: The bounds do not rise.
        """
        if self.size_bounds_m is not None:
            return ground_size_ranges(self.size_bounds_m)
        return size_ranges(self.size_bounds_px)


def check_score(score: float | None) -> None:
    """Refuse what is no score, before the work.

    Raises:
        LabelError: It is given, and not in [0, 1].
    """
    if score is not None and not 0 <= score <= 1:
        raise LabelError(f"a score lies in 0 to 1, got {score}")


def evaluate_detections(
    pairs: Sequence[Pair],
    *,
    iou: float = MATCH_IOU,
    distance_m: float | None = None,
    score: float | None = None,
    class_scores: Mapping[str, float] | None = None,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Compare what was found with what is there.

    Args:
        pairs: Detections and labels of each raster, with the same class names throughout.
        iou: Least intersection over union of a match. AP50 and AP50:95 do not depend on it.
        distance_m: Match by the distance of centres up to this one instead, metres: for labels that
            are points. Such an evaluation has no AP50 and AP50:95.
        score: Threshold at which precision, recall, counts and mistakes are taken; None = the one
            with the best F1 on these very data, which flatters: better choose it on others. Without
            any hit none is best, and all detections are taken.
        class_scores: Classes with another threshold than a stated `score`; names that are not among
            the class names are passed over.
        options: Details.

    Raises:
        LabelError: The class names differ, metres are asked for without a georeference, or a number
            is out of range.
    """
    options = options or EvaluationOptions()
    check_score(score)
    rule = match_rule(iou=iou, distance_m=distance_m)
    pairs, changes = ready_pairs(pairs, rule)
    candidates = [rule.candidates(pair) for pair in pairs]
    matches = match_pairs(pairs, candidates, threshold=rule.threshold)
    tables = _Tables(
        matches,
        _at_coco_ious(pairs, candidates, rule),
        [
            (sizes, match_pairs(pairs, candidates, threshold=rule.threshold, sizes=sizes))
            for sizes in ([] if _are_points(pairs, rule) else options.sizes())
        ],
    )
    cut = _cut_at(score, class_scores or {}, matches)
    groups = choose_groups(pairs, matches, block_px=options.block_px)
    counted = ~matches.ignored
    return Evaluation(
        rule=rule,
        score=cut.score,
        class_scores=_others(cut, matches.class_names),
        score_is_best_f1=score is None and bool(matches.hits.any()),
        quality=_quality("all", tables, cut),
        classes=_by_class(tables, cut),
        sites=_by_site(pairs, tables, cut),
        thresholds=best_thresholds(
            matches, groups, samples=options.bootstrap_samples, seed=options.seed
        ),
        mistakes=count_mistakes(
            pairs,
            candidates,
            matches,
            thresholds=NearThresholds(rule.threshold, rule.near_threshold),
            cut=cut,
        ),
        calibration=calibration(matches.scores[counted], matches.hits[counted]),
        score_map=fit_score_map(
            matches.scores[counted],
            matches.hits[counted],
            groups=groups.of_detections[counted],
        ),
        drawn=groups.what,
        offset_px=_offset(pairs, matches, cut),
        rasters=_counts(pairs, matches, cut),
        changes=changes,
        confusion=None
        if len(matches.class_names) < _SEVERAL
        else confusion_matrix(pairs, candidates, matches, threshold=rule.threshold, cut=cut),
    )


def _cut_at(score: float | None, class_scores: Mapping[str, float], matches: Matches) -> Cut:
    """The thresholds that are stated, or else the one with the best F1."""
    if score is None:
        best = best_f1(precision_recall(matches)).score
        return Cut(0.0 if math.isnan(best) else best)
    each = tuple(as_detected(class_scores.get(name, score)) for name in matches.class_names)
    if len(set(each)) < _SEVERAL:
        return Cut(each[0] if each else as_detected(score))
    return Cut(as_detected(score), each)


def _others(cut: Cut, class_names: Sequence[str]) -> dict[str, float]:
    """Classes whose threshold is not the one of all, and that."""
    scores = {name: cut.of(class_id) for class_id, name in enumerate(class_names)}
    return {name: score for name, score in scores.items() if score != cut.score}


def _point(matches: Matches, cut: Cut) -> OperatingPoint:
    """What is left of the detections that count."""
    kept = ~matches.ignored & matches.kept(cut)
    hits = int((kept & matches.hits).sum())
    return OperatingPoint(cut.score, int(kept.sum()), hits, matches.counted_labels)


def match_rule(*, iou: float, distance_m: float | None) -> MatchRule:
    """The rule that `evaluate_detections` matches by.

    Raises:
        LabelError: The IoU or the distance is out of range.
    """
    return IouRule(iou) if distance_m is None else DistanceRule(distance_m)


def _are_points(pairs: Sequence[Pair], rule: MatchRule) -> bool:
    """Whether the labels are matched by distance and all have one size on the ground."""
    if not isinstance(rule, DistanceRule):
        return False
    sides = [
        np.sqrt(box_arrays.area(pair.labels.boxes) * np.prod(pair.grid.gsd_m()))
        for pair in pairs
        if pair.grid is not None and len(pair.labels)
    ]
    known = np.concatenate([np.zeros(0), *sides])
    return not len(known) or bool(np.ptp(known) <= _SAME_SIDE * known.max())


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The same detections and labels, matched in all the ways that metrics need."""

    matches: Matches
    at_ious: Sequence[Matches]
    by_size: Sequence[tuple[Sizes, Matches]]

    def of_class(self, class_id: int) -> "_Tables":
        return _Tables(
            self.matches.of_class(class_id),
            [table.of_class(class_id) for table in self.at_ious],
            [(sizes, table.of_class(class_id)) for sizes, table in self.by_size],
        )

    def of_rasters(self, raster_ids: Sequence[int]) -> "_Tables":
        return _Tables(
            self.matches.of_rasters(raster_ids),
            [table.of_rasters(raster_ids) for table in self.at_ious],
            [(sizes, table.of_rasters(raster_ids)) for sizes, table in self.by_size],
        )


def _at_coco_ious(
    pairs: Sequence[Pair], candidates: Sequence[Candidates], rule: MatchRule
) -> list[Matches]:
    """Matches at IoU 0.50 to 0.95; none for points, whose boxes mean nothing."""
    if isinstance(rule, DistanceRule):
        return []
    return [match_pairs(pairs, candidates, threshold=IouRule(iou).threshold) for iou in COCO_IOUS]


def _quality(name: str, tables: _Tables, cut: Cut) -> Quality:
    curve = precision_recall(tables.matches)
    present = np.unique(tables.matches.label_class_ids[~tables.matches.label_ignored]).tolist()
    coco = [_coco_ap(table, present) for table in tables.at_ious]
    return Quality(
        name=name,
        labels=curve.labels,
        detections=len(curve.scores),
        ap=_mean(
            [average_precision(precision_recall(tables.matches.of_class(key))) for key in present]
        ),
        ap_coco=_coco_ap(tables.matches, present),
        ap50=coco[0] if coco else _NAN,
        ap50_95=_mean(coco),
        by_size=tuple(
            SizeQuality(sizes.name, table.counted_labels, _coco_ap(table, present))
            for sizes, table in tables.by_size
        ),
        best=best_f1(curve),
        at_score=_point(tables.matches, cut),
    )


def _coco_ap(matches: Matches, class_ids: Sequence[int]) -> float:
    """101-point average precision, mean over the classes that have labels."""
    values = [coco_average_precision(precision_recall(matches.of_class(key))) for key in class_ids]
    return _mean([value for value in values if not math.isnan(value)])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else _NAN


def _by_class(tables: _Tables, cut: Cut) -> tuple[Quality, ...]:
    names = tables.matches.class_names
    if len(names) == 1:
        return ()
    return tuple(
        _quality(name, tables.of_class(class_id), Cut(cut.of(class_id)))
        for class_id, name in enumerate(names)
    )


def _by_site(pairs: Sequence[Pair], tables: _Tables, cut: Cut) -> tuple[Quality, ...]:
    sites = rasters_of_sites(pairs)
    if len(sites) == 1:
        return ()
    return tuple(
        _quality(site or "(no site)", tables.of_rasters(members), cut)
        for site, members in sites.items()
    )


def _counts(pairs: Sequence[Pair], matches: Matches, cut: Cut) -> tuple[RasterCount, ...]:
    kept = ~matches.ignored & matches.kept(cut)
    known = ~matches.label_ignored
    size = len(pairs)
    detections = np.bincount(matches.raster_ids[kept], minlength=size).tolist()
    hits = np.bincount(matches.raster_ids[kept & matches.hits], minlength=size).tolist()
    labels = np.bincount(matches.label_raster_ids[known], minlength=size).tolist()
    return tuple(
        RasterCount(
            pair.name, pair.site, labels[index], detections[index], hits[index], pair.hectares()
        )
        for index, pair in enumerate(pairs)
    )


def _offset(pairs: Sequence[Pair], matches: Matches, cut: Cut) -> tuple[float, float]:
    """Median of detection less label centre over the hits, x and y in pixels."""
    hits = matches.hits & matches.kept(cut)
    if not hits.any():
        return _NAN, _NAN
    found = box_arrays.centres(detection_boxes(pairs))[hits]
    known = box_arrays.centres(label_boxes(pairs))
    x, y = np.median(found - known[matches.label_of[hits]], axis=0).tolist()
    return x, y
