"""An evaluation for people: Markdown that is also readable as plain text."""

import math

from geo_retina.evaluation.confusion import Confusion
from geo_retina.evaluation.mistakes import Mistakes
from geo_retina.evaluation.summary import CountError, Evaluation, Quality
from geo_retina.evaluation.thresholds import Interval, Threshold
from geo_retina.wording import counted, three_digits

_DEFINITIONS = (
    "AP: area under the interpolated precision-recall curve. AP101, AP50, AP50:95 and AP by size: "
    "COCO's 101 points."
)
_SIZES_OVERLAP = (
    "A bound belongs to both sizes beside it, as in COCO: an object of that very size counts in "
    "both, so the labels by size add up to more than all."
)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Describe what was evaluated, if that is known, and the outcome."""
    head = "" if evaluation.about is None else f"{evaluation.about}\n\n"
    return head + outcome_markdown(evaluation)


def outcome_markdown(evaluation: Evaluation) -> str:
    """Describe the outcome, cautions first."""
    if not evaluation.quality.labels:
        return _false_alarms_only(evaluation)
    rows = [evaluation.quality, *evaluation.classes, *evaluation.sites]
    labels, rasters = evaluation.quality.labels, len(evaluation.rasters)
    parts = [
        *_cautions(evaluation),
        f"{counted(labels, 'label')} on {counted(rasters, 'raster')}, match by {evaluation.rule}.",
        f"Labels were mended: {evaluation.changes}." if evaluation.changes else "",
        _quality_table(rows),
        _point_line(evaluation),
        _confusion_table(evaluation.confusion),
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
    rasters = counted(len(evaluation.rasters), "raster")
    by_score = [item for item in evaluation.calibration.bins if item.detections]
    parts = [
        *_cautions(evaluation),
        f"No labels on {rasters}: only false alarms can be counted.",
        f"Labels were mended: {evaluation.changes}." if evaluation.changes else "",
        f"At score {evaluation.cut_words}: {counted(alarms, 'false alarm')}{ground}.",
        markdown_table(
            ("score", "false alarms"),
            [(f"{item.low:.1f} to {item.high:.1f}", str(item.detections)) for item in by_score],
        )
        if by_score
        else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _point_line(evaluation: Evaluation) -> str:
    quality, point = evaluation.quality, evaluation.quality.at_score
    at = f"At score {evaluation.cut_words} ({evaluation.score_origin})"
    if not quality.detections:
        return "Nothing was found."
    if not quality.best.hits:
        return f"No score gives a hit. {at}: {counted(point.detections, 'detection')}."
    return (
        f"{at}: precision {_number(point.precision)}, recall {_number(point.recall)}, "
        f"F1 {_number(point.f1)}."
    )


def _scores_line(evaluation: Evaluation) -> str:
    better = ""
    found = evaluation.score_map
    if found is not None and math.isfinite(found.ece):  # too few to hold any out: it proves nothing
        better = (
            f" A temperature of {found.temperature:.2f} and a shift of {found.shift:+.2f} would "
            f"bring it to {_number(found.ece)} (held out)."
        )
    return (
        f"Scores: expected calibration error {_number(evaluation.calibration.ece)}, mean score "
        f"less hit rate {_number(evaluation.calibration.bias)}.{better}"
        f"{_offset_words(*evaluation.offset_px)}"
    )


def _offset_words(right_px: float, down_px: float) -> str:
    """Where hits lie from their labels; empty without hits."""
    if math.isnan(right_px):
        return ""
    across, along = ("left", "right")[right_px >= 0], ("above", "below")[down_px >= 0]
    return (
        f" Hits lie {_number(abs(right_px))} px to the {across} and {_number(abs(down_px))} px "
        f"{along} their labels (median)."
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
    if not names:
        return ""
    table = markdown_table(
        ("AP101 by size", *names),
        [(row.name, *(f"{_number(s.ap)} ({s.labels})" for s in row.by_size)) for row in rows],
    )
    twice = sum(size.labels for size in rows[0].by_size) > rows[0].labels
    return f"{table}\n\n{_SIZES_OVERLAP}" if twice else table


def _confusion_table(confusion: Confusion | None) -> str:
    """Rows are labels, columns what was found; empty with one class."""
    if confusion is None:
        return ""
    return markdown_table(
        ("label \\ found as", *confusion.class_names, "missed"),
        [
            (name, *map(str, row))
            for name, row in zip(
                (*confusion.class_names, "false alarm"), confusion.counts, strict=True
            )
        ],
    )


def _cautions(evaluation: Evaluation) -> list[str]:
    told = () if evaluation.about is None else evaluation.about.cautions
    return [f"Caution: {text}" for text in told]


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
        f"Detections: {counted(mistakes.hits, 'hit')}, "
        f"{counted(mistakes.duplicates, 'duplicate')}, "
        f"{mistakes.badly_placed:,} badly placed, {mistakes.confused:,} of the wrong class, "
        f"{mistakes.background:,} on nothing. Labels not found: {mistakes.missed:,} missed, "
        f"{mistakes.missed_but_near:,} with a badly placed or confused detection near."
    )


def _counts_line(counts: CountError) -> str:
    per_ha = ""
    if not math.isnan(counts.bias_per_ha):
        sign = "+" if counts.bias_per_ha > 0 else ""
        per_ha = f", {sign}{three_digits(counts.bias_per_ha)} per hectare"
    return (
        f"Counts: off by {three_digits(counts.mean_absolute)} a raster, bias "
        f"{three_digits(counts.bias)} a raster ({three_digits(100 * counts.relative)} %{per_ha})."
    )


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Table with columns of even width, readable as plain text too; `|` in a cell is escaped."""
    lines = [tuple(cell.replace("|", "\\|") for cell in line) for line in (header, *rows)]
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
