"""An evaluation for people: Markdown that is also readable as plain text."""

import math

from geo_retina.evaluation.mistakes import Mistakes
from geo_retina.evaluation.summary import CountError, Evaluation, Quality
from geo_retina.evaluation.thresholds import Interval, Threshold

_DEFINITIONS = (
    "AP: area under the interpolated precision-recall curve. AP101, AP50, AP50:95 and AP by size: "
    "COCO's 101 points."
)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Describe the outcome in Markdown that is also readable as plain text."""
    if not evaluation.quality.labels:
        return _false_alarms_only(evaluation)
    rows = [evaluation.quality, *evaluation.classes, *evaluation.sites]
    labels, rasters = evaluation.quality.labels, len(evaluation.rasters)
    parts = [
        f"{labels} labels on {rasters} rasters, match by {evaluation.rule}.",
        _quality_table(rows),
        _point_line(evaluation),
        _size_table(rows),
        _threshold_table(evaluation.thresholds),
        f"Intervals of 95 % by drawing from {evaluation.drawn}.",
        _mistakes_line(evaluation.mistakes),
        _counts_line(evaluation.counts),
        _scores_line(evaluation),
        _DEFINITIONS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _false_alarms_only(evaluation: Evaluation) -> str:
    """What can be said where there is no label to find."""
    alarms = evaluation.quality.at_score.detections
    per_ha = evaluation.counts.bias_per_ha
    ground = "" if math.isnan(per_ha) else f", {per_ha:.2f} per hectare"
    by_score = [item for item in evaluation.calibration.bins if item.detections]
    parts = [
        f"No labels on {len(evaluation.rasters)} rasters: only false alarms can be counted.",
        f"At score {evaluation.score:.3f}: {alarms} false alarms{ground}.",
        markdown_table(
            ("score", "false alarms"),
            [(f"{item.low:.1f} to {item.high:.1f}", str(item.detections)) for item in by_score],
        )
        if by_score
        else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _point_line(evaluation: Evaluation) -> str:
    origin = "the best F1 on these data" if evaluation.score_is_best_f1 else "chosen beforehand"
    point = evaluation.quality.at_score
    return (
        f"At score {evaluation.score:.3f} ({origin}): precision {_number(point.precision)}, "
        f"recall {_number(point.recall)}, F1 {_number(point.f1)}."
    )


def _scores_line(evaluation: Evaluation) -> str:
    right, down = map(_number, evaluation.offset_px)
    better = ""
    if evaluation.score_map is not None:
        found = evaluation.score_map
        better = (
            f" A temperature of {found.temperature:.2f} and a shift of {found.shift:+.2f} would "
            f"bring it to {_number(found.ece)} (held out)."
        )
    return (
        f"Scores: expected calibration error {_number(evaluation.calibration.ece)}, mean score "
        f"less hit rate {_number(evaluation.calibration.bias)}.{better} Hits lie {right} px to "
        f"the right and {down} px below their labels (median)."
    )


def _quality_table(rows: list[Quality]) -> str:
    return markdown_table(
        ("", "labels", "AP", "AP101", "AP50", "AP50:95", "best F1", "at score", "P", "R"),
        [
            (
                row.name,
                str(row.labels),
                *map(_number, (row.ap, row.ap_coco, row.ap50, row.ap50_95)),
                *map(_number, (row.best.f1, row.best.score)),
                *map(_number, (row.best.precision, row.best.recall)),
            )
            for row in rows
        ],
    )


def _size_table(rows: list[Quality]) -> str:
    names = [size.name for size in rows[0].by_size]
    return markdown_table(
        ("AP101 by size", *names),
        [(row.name, *(f"{_number(s.ap)} ({s.labels})" for s in row.by_size)) for row in rows],
    )


def _threshold_table(thresholds: tuple[Threshold, ...]) -> str:
    return markdown_table(
        ("", "best score", "95 %", "F1", "95 %", "AP 95 %", "groups"),
        [
            (
                row.name,
                _number(row.best.score),
                _interval(row.score),
                _number(row.best.f1),
                _interval(row.f1),
                _interval(row.ap),
                str(row.groups),
            )
            for row in thresholds
        ],
    )


def _mistakes_line(mistakes: Mistakes) -> str:
    return (
        f"Detections: {mistakes.hits} hits, {mistakes.duplicates} duplicates, "
        f"{mistakes.badly_placed} badly placed, {mistakes.confused} of the wrong class, "
        f"{mistakes.background} on nothing. Labels not found: {mistakes.missed} missed, "
        f"{mistakes.missed_but_near} with a badly placed or confused detection near."
    )


def _counts_line(counts: CountError) -> str:
    per_ha = "" if math.isnan(counts.bias_per_ha) else f", {counts.bias_per_ha:+.2f} per hectare"
    return (
        f"Counts: off by {_number(counts.mean_absolute)} a raster, bias {_number(counts.bias)} a "
        f"raster ({_number(100 * counts.relative)} %{per_ha})."
    )


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Table with columns of even width, readable as plain text too."""
    lines = [header, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    drawn = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(interval: Interval) -> str:
    return f"{_number(interval.low)} to {_number(interval.high)}"
