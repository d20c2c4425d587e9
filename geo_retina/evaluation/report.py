"""A report that is one file: HTML with charts and pictures, and the same numbers as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from geo_retina.errors import GeoreferenceError, OutputError
from geo_retina.evaluation.charts import Axes, Series, bar_chart, line_chart
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.examples import Example, example_picture, false_alarms, misses
from geo_retina.evaluation.maps import MistakeMap, map_picture, mistake_maps
from geo_retina.evaluation.match import Matches, match_pairs
from geo_retina.evaluation.metrics import PrecisionRecall, precision_recall
from geo_retina.evaluation.pairs import Pair, label_boxes, rasters_of_sites
from geo_retina.evaluation.rules import ready_pairs
from geo_retina.evaluation.summary import Evaluation
from geo_retina.evaluation.tables import outcome_markdown
from geo_retina.labels.ground import to_lon_lat
from geo_retina.space import boxes as box_arrays
from geo_retina.space.spread import evenly_spread
from geo_retina.whole_files import write_whole
from geo_retina.wording import counted

_CHART_POINTS = 400
_MOST_LINES = 8
_SIZE_STEPS = 10
_MOST_MAPS = 6
_OF_EVALUATIONS = {"rule", "quality", "score"}
"""Keys of the JSON that an evaluation becomes."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 1320px; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left; }}
.row {{ display: flex; flex-wrap: wrap; gap: 1em; }}
figure {{ margin: 0; }} figcaption {{ font-size: 12px; color: #555; max-width: 180px;
overflow-wrap: anywhere; }}
.map figcaption {{ max-width: 640px; }} .map img {{ max-width: 100%; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What `write_report` writes."""

    html: Path

    @property
    def json(self) -> Path:
        """The numbers, beside the page."""
        return self.html.with_suffix(".json")

    def refuse_foreign(self) -> None:
        """Let the numbers, whose file nobody named, take the place of earlier numbers alone.

        Raises:
            OutputError: Another file has that name, such as the labels of a training.
        """
        if not self.json.exists():
            return
        try:
            content = json.loads(self.json.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or not set(content) >= _OF_EVALUATIONS:
            raise OutputError(
                f"{self.json} would be overwritten by the numbers of {self.html.name}, and it is "
                "not of an earlier report; choose another name for the report"
            )


def write_report(
    pairs: Sequence[Pair],
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    pictures: int = 24,
) -> ReportFiles:
    """Write an HTML page that needs no other file and no network, and JSON beside it.

    Args:
        pairs: As they were given to `evaluate_detections`; pictures are read from the rasters that
            their names lead to, and left out where they lead to none.
        evaluation: What came out.
        path: The page, `.html`; the numbers go into the same name with `.json`.
        title: Heading of the page; None names the model or the file of detections, if
            `evaluation.about` does.
        pictures: Most misses, and most false alarms, to show.

    Raises:
        OutputError: The files cannot be written, or the JSON would replace a file that is not of an
            earlier report.
    """
    files = ReportFiles(Path(path))
    files.refuse_foreign()
    rule, cut, at = evaluation.rule, evaluation.cut, f"score {evaluation.cut_words}"
    pairs, _ = ready_pairs(pairs, rule)
    candidates = [rule.candidates(pair) for pair in pairs]
    matches = match_pairs(pairs, candidates, threshold=rule.threshold)
    body = [
        _about(evaluation),
        _markdown_html(outcome_markdown(evaluation)),
        _row([_precision_chart(matches, pairs), _threshold_chart(precision_recall(matches))]),
        _row([_reliability_chart(evaluation), _size_chart(pairs, matches, cut)]),
        _maps(mistake_maps(pairs, matches, cut=cut, most=_MOST_MAPS), at),
        _gallery(
            f"False alarms at {at}, highest score first",
            false_alarms(pairs, matches, cut=cut, most=pictures),
            cut,
        ),
        _gallery(
            f"Missed at {at}, largest first",
            misses(pairs, matches, cut=cut, most=pictures),
            cut,
        ),
    ]
    if title is None:
        title = (
            "Evaluation" if evaluation.about is None else f"Evaluation of {evaluation.about.name}"
        )
    page = _PAGE.format(title=escape(title), body="\n".join(body))
    numbers = json.dumps(evaluation.to_dict(), indent=2, allow_nan=False)
    write_whole(files.html, page, error=OutputError)
    write_whole(files.json, numbers, error=OutputError)
    return files


def _about(evaluation: Evaluation) -> str:
    """Table of what was evaluated on what; empty where the caller did not tell."""
    about = evaluation.about
    if about is None:
        return ""
    labels, rasters = evaluation.quality.labels, len(evaluation.rasters)
    made = "detections" if about.model is None else "model"
    rows = [
        (made, about.source),
        ("labels", about.labels),
        ("part", about.part or "all"),
        ("number", f"{counted(labels, 'label')} on {counted(rasters, 'raster')}"),
        ("match by", str(evaluation.rule)),
        ("score", f"{evaluation.cut_words} ({evaluation.score_origin})"),
        ("date", about.date),
        ("versions", ", ".join(f"{name} {text}" for name, text in about.versions.items())),
    ]
    cells = [f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows]
    return f"<table>{''.join(cells)}</table>"


def _precision_chart(matches: Matches, pairs: Sequence[Pair]) -> str:
    """Precision over recall: all, and each site or class if there are several."""
    parts = [("all", matches)]
    sites = rasters_of_sites(pairs)
    if len(matches.class_names) > 1:
        parts += [(name, matches.of_class(key)) for key, name in enumerate(matches.class_names)]
    elif len(sites) > 1:
        parts += [(site, matches.of_rasters(members)) for site, members in sites.items()]
    series = []
    for name, part in parts[:_MOST_LINES]:
        curve = precision_recall(part)
        kept = evenly_spread(len(curve.scores), _CHART_POINTS)
        series.append(Series(name, curve.recall[kept], curve.precision[kept]))
    left_out = [name for name, _ in parts[_MOST_LINES:]]
    note = f"<p>Not drawn: {escape(', '.join(left_out))}.</p>" if left_out else ""
    return line_chart(series, Axes("recall", "precision")) + note


def _threshold_chart(curve: PrecisionRecall) -> str:
    """Precision, recall and F1 over the score one cuts at."""
    kept = curve.cuts[evenly_spread(len(curve.cuts), _CHART_POINTS)]
    precision, recall, scores = curve.precision[kept], curve.recall[kept], curve.scores[kept]
    f1 = 2 * curve.hits[kept] / (kept + 1 + curve.labels)
    alone = len(kept) == 1  # a line of one point does not show
    return line_chart(
        [
            Series("precision", scores, precision, marked=alone),
            Series("recall", scores, recall, marked=alone),
            Series("F1", scores, f1, marked=alone),
        ],
        Axes("score one cuts at", "share"),
    )


def _reliability_chart(evaluation: Evaluation) -> str:
    bins = evaluation.calibration.bins
    straight = np.array([0.0, 1.0])
    return line_chart(
        [
            Series(
                "hit rate",
                np.array([item.mean_score for item in bins]),
                np.array([item.hit_rate for item in bins]),
                marked=True,
            ),
            Series("calibrated", straight, straight, dashed=True),
        ],
        Axes("mean score of the bin", "share of detections that are right"),
    )


def _size_chart(pairs: Sequence[Pair], matches: Matches, cut: Cut) -> str:
    """Labels by size, and how many of them were found."""
    sides = np.sqrt(np.maximum(box_arrays.area(label_boxes(pairs)), 1))
    counted = ~matches.label_ignored
    low, high = (1.0, 2.0) if not counted.any() else np.quantile(sides[counted], [0, 1]).tolist()
    edges = np.linspace(np.log2(low), max(np.log2(high), np.log2(low) + 0.1), _SIZE_STEPS + 1)
    known = np.histogram(np.log2(sides[counted]), edges)[0].astype(np.float64)
    hits = np.histogram(np.log2(sides[matches.found_labels(cut)]), edges)[0].astype(np.float64)
    return bar_chart(
        [Series("labels", edges[:-1], known), Series("found", edges[:-1], hits)],
        Axes(
            "square root of the area, px",
            "objects",
            (float(edges[0]), float(edges[-1])),
            (0.0, max(float(known.max()), 1.0)),
        ),
        edges=edges,
        labels=[f"{2**edge:.0f}" for edge in edges],
    )


def _gallery(heading: str, examples: Sequence[Example], cut: Cut) -> str:
    shown = [(item, example_picture(item, cut=cut)) for item in examples]
    figures = [
        f'<figure><img src="{picture}" alt=""><figcaption>{escape(item.caption)}, '
        f"{escape(Path(item.pair.name).name)} at {item.box[0]:.0f}, {item.box[1]:.0f}"
        "</figcaption></figure>"
        for item, picture in shown
        if picture is not None
    ]
    if not figures:
        return ""
    legend = "<p>Labels blue, detections orange, the mistake magenta.</p>"
    return f"<h2>{escape(heading)}</h2>{legend}{_row(figures)}"


def _maps(maps: Sequence[MistakeMap], at: str) -> str:
    """Whole rasters with what was found and what not."""
    shown = [(item, map_picture(item)) for item in maps]
    figures = [
        f'<figure class="map"><img src="{picture}" alt=""><figcaption>'
        f"{escape(Path(item.pair.name).name)}: {escape(item.caption)}{_place(item.pair)}"
        "</figcaption></figure>"
        for item, picture in shown
        if picture is not None
    ]
    if not figures:
        return ""
    legend = "<p>Found labels blue, missed ones magenta, false alarms orange.</p>"
    heading = escape(f"Maps at {at}, most mistakes first")
    return f"<h2>{heading}</h2>{legend}{_row(figures)}"


def _place(pair: Pair) -> str:
    """Longitude and latitude of a raster's centre."""
    if pair.grid is None:
        return ""
    middle = np.array([pair.grid.width / 2, pair.grid.height / 2])
    try:
        lon, lat = to_lon_lat(pair.grid, middle).tolist()
    except GeoreferenceError:  # no CRS, or a local one
        return ""
    return f", {abs(lat):.5f}° {'NS'[lat < 0]} {abs(lon):.5f}° {'EW'[lon < 0]}"


def _row(parts: Sequence[str]) -> str:
    return f'<div class="row">{"".join(parts)}</div>'


def _markdown_html(text: str) -> str:
    """HTML of the paragraphs and tables that `evaluation_markdown` makes."""
    return "\n".join(
        _table_html(block) if block.startswith("|") else f"<p>{escape(block)}</p>"
        for block in text.strip().split("\n\n")
    )


def _table_html(block: str) -> str:
    header, _, *rows = (line.strip("| ").split(" | ") for line in block.splitlines())
    width = len(rows[0]) if rows else len(header)
    header = [""] * (width - len(header)) + header
    lines = ["".join(f"<th>{_cell_html(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{_cell_html(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell_html(cell: str) -> str:
    return escape(cell.strip().replace("\\|", "|"))
