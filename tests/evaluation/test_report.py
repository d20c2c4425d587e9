import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from geo_retina.errors import OutputError
from geo_retina.evaluation.about import About
from geo_retina.evaluation.calibration import ScoreMap
from geo_retina.evaluation.charts import Axes, Series, bar_chart, line_chart
from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.report import write_report
from geo_retina.evaluation.tables import outcome_markdown
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections

QUICK = EvaluationOptions(bootstrap_samples=20)


@pytest.fixture
def pair(tmp_path: Path, write_raster_at: Callable[..., Path]) -> Pair:
    rng = np.random.default_rng(0)
    raster = write_raster_at(
        tmp_path / "plot<1>.tif", rng.integers(0, 255, (3, 100, 200)).astype(np.uint8)
    )
    known = [[10, 10, 30, 30], [60, 10, 80, 30], [120, 50, 160, 90]]
    found = np.array([[11.0, 10, 31, 30], [60, 50, 80, 70]])
    detections = Detections.of(found, np.array([0.9, 0.8]), np.zeros(2))
    return Pair(str(raster), detections, Labels.of(known, [0] * 3, ("tree",)), site="N")


def test_the_numbers_replace_those_of_an_earlier_report_alone(tmp_path: Path, pair: Pair) -> None:
    evaluation = evaluate_detections([pair], score=0.5, options=QUICK)
    labels = tmp_path / "val.json"
    labels.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(OutputError, match=r"val\.json would be overwritten.*not of an earlier"):
        write_report([pair], evaluation, tmp_path / "val.html")
    assert labels.read_text().startswith('{"images"')
    assert not (tmp_path / "val.html").exists()
    for _ in range(2):
        write_report([pair], evaluation, tmp_path / "report.html")


def test_the_page_stands_alone_and_shows_every_part(tmp_path: Path, pair: Pair) -> None:
    evaluation = evaluate_detections([pair], score=0.5, options=QUICK)
    files = write_report([pair], evaluation, tmp_path / "report.html", title="A & B")
    page = files.html.read_text()
    assert "<h1>A &amp; B</h1>" in page
    assert page.count("<svg") == 4
    assert page.count("data:image/jpeg;base64,") == 1 + 2 + 1  # a false alarm, two misses, a map
    assert "1 found, 2 missed, 1 false alarm" in page
    assert "plot&lt;1&gt;.tif at 60, 50" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(chart)  # noqa: S314  # our own text
    # The largest miss comes first.
    assert page.index("at 120, 50") < page.index("at 60, 10")
    assert json.loads(files.json.read_text()) == evaluation.to_dict()


def test_a_bar_in_the_name_of_a_class_is_no_border_of_a_column(tmp_path: Path, pair: Pair) -> None:
    two = Labels.of(pair.labels.boxes, [0, 0, 1], ("oak | beech", "fir"))
    named = replace(pair, labels=two)
    evaluation = evaluate_detections([named], score=0.5, options=QUICK)
    page = write_report([named], evaluation, tmp_path / "report.html").html.read_text()
    assert "<td>oak | beech</td>" in page
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert len({len(re.findall("<t[dh]>", row)) for row in rows}) == 1


@pytest.mark.parametrize(("ece", "told"), [(0.02, True), (np.nan, False)])
def test_a_calibration_that_could_not_be_held_out_is_not_told(
    pair: Pair, ece: float, *, told: bool
) -> None:
    evaluation = evaluate_detections([pair], score=0.5, options=QUICK)
    fitted = replace(evaluation, score_map=ScoreMap(temperature=0.4, shift=0.2, ece=ece))
    assert ("would bring it to" in outcome_markdown(fitted)) is told


ABOUT = About(
    name="crowns <2>",
    model="runs/x/x.safetensors",
    labels="labels.gpkg",
    part="split test",
    cautions=("the numbers are optimistic.",),
    date="2026-03-31",
    versions={"geo_retina": "0.1.0"},
)


def test_the_page_and_the_json_say_what_was_evaluated(tmp_path: Path, pair: Pair) -> None:
    evaluation = evaluate_detections([pair], iou=0.5, score=0.4, options=QUICK)
    files = write_report([pair], replace(evaluation, about=ABOUT), tmp_path / "report.html")
    page = files.html.read_text()
    assert "<title>Evaluation of crowns &lt;2&gt;</title>" in page
    head = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", page)
    assert dict(head) == {
        "model": "crowns &lt;2&gt; (runs/x/x.safetensors)",
        "labels": "labels.gpkg",
        "part": "split test",
        "number": "3 labels on 1 raster",
        "match by": "IoU 0.5",
        "score": "0.400 (chosen beforehand)",
        "date": "2026-03-31",
        "versions": "geo_retina 0.1.0",
    }
    assert "<p>Caution: the numbers are optimistic.</p>" in page
    numbers = json.loads(files.json.read_text())
    assert numbers["about"]["model"] == "runs/x/x.safetensors"
    assert numbers["about"]["cautions"] == ["the numbers are optimistic."]
    assert (numbers["about"]["part"], numbers["about"]["date"]) == ("split test", "2026-03-31")
    assert (numbers["rule"], numbers["score"]) == ("IoU 0.5", 0.4)


def test_a_file_of_detections_names_the_page(tmp_path: Path, pair: Pair) -> None:
    about = About(name="found.gpkg", detections="x/found.gpkg", labels="labels.gpkg")
    evaluation = replace(evaluate_detections([pair], options=QUICK), about=about)
    page = write_report([pair], evaluation, tmp_path / "report.html").html.read_text()
    assert "<h1>Evaluation of found.gpkg</h1>" in page
    assert "<th>detections</th><td>x/found.gpkg</td>" in page
    assert "(the best F1 on these data)</td>" in page
    assert "<th>part</th><td>all</td>" in page
    assert re.search(r"<th>date</th><td>\d{4}-\d\d-\d\d</td>", page)
    assert "geo_retina " in dict(re.findall(r"<th>(.*?)</th><td>(.*?)</td>", page))["versions"]


def test_the_page_shows_which_class_was_taken_for_which(tmp_path: Path, pair: Pair) -> None:
    two = replace(pair, labels=Labels.of(pair.labels.boxes, [1, 0, 0], ("oak", "pine")))
    evaluation = evaluate_detections([two], iou=0.5, score=0.5, options=QUICK)
    page = write_report([two], evaluation, tmp_path / "report.html").html.read_text()
    assert "<tr><th>label \\ found as</th><th>oak</th><th>pine</th><th>missed</th></tr>" in page
    assert "<tr><td>pine</td><td>1</td><td>0</td><td>0</td></tr>" in page


def test_tables_keep_their_columns(tmp_path: Path, pair: Pair) -> None:
    evaluation = evaluate_detections([pair], options=QUICK)
    page = write_report([pair], evaluation, tmp_path / "report.html").html.read_text()
    for table in re.findall(r"<table>.*?</table>", page):
        rows = re.findall(r"<tr>(.*?)</tr>", table)
        assert len({row.count("<t") for row in rows}) == 1
        assert len(rows) >= 2


def test_a_missing_raster_leaves_its_pictures_out(tmp_path: Path, pair: Pair) -> None:
    Path(pair.name).unlink()
    evaluation = evaluate_detections([pair], options=QUICK)
    page = write_report([pair], evaluation, tmp_path / "report.html").html.read_text()
    assert "<img" not in page
    assert page.count("<svg") == 4


def test_a_report_of_nothing(tmp_path: Path) -> None:
    for pairs in ([], [Pair("a.tif", Detections.empty(), Labels.empty(["tree"]))]):
        evaluation = evaluate_detections(pairs, options=QUICK)
        files = write_report(pairs, evaluation, tmp_path / "report.html")
        assert "NaN" not in files.json.read_text()
        assert "nan" not in files.html.read_text().lower()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, pair: Pair) -> None:
    evaluation = evaluate_detections([pair], options=QUICK)
    with pytest.raises(OutputError, match=r"cannot write .*absent.report\.html: No such file"):
        write_report([pair], evaluation, tmp_path / "absent" / "report.html")


def test_lines_run_from_corner_to_corner() -> None:
    ends = np.array([0.0, 1.0])
    chart = line_chart([Series("a<b", ends, ends)], Axes("x", "y"))
    root = ET.fromstring(chart)  # noqa: S314  # our own text
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    assert line.attrib["points"] == "48.0,278.0 408.0,14.0"
    assert "a&lt;b" in chart


def test_unknown_points_are_left_out() -> None:
    chart = line_chart(
        [Series("a", np.array([0.0, np.nan, 1.0]), np.array([0.0, 0.5, np.nan]), marked=True)],
        Axes("x", "y"),
    )
    assert chart.count("<circle") == 1
    assert "nan" not in chart


def test_large_numbers_at_an_axis_are_written_out() -> None:
    ends = np.array([0.0, 1.0])
    chart = line_chart([Series("n", ends, ends)], Axes("x", "y", y_range=(0.0, 19_210.0)))
    assert ">11526<" in chart
    assert ">0.6<" in chart


@pytest.mark.parametrize("scores", [[0.8, 0.8, 0.4], [1.0, 1.0, 1.0]])
def test_the_chart_of_scores_shows_only_cuts_that_can_be_set(
    tmp_path: Path, pair: Pair, scores: list[float]
) -> None:
    """Between detections of one score F1 would be better than the best that the table tells."""
    boxes = np.array([[10.0, 10, 30, 30], [60, 50, 80, 70], [150, 5, 170, 15]])
    tied = replace(pair, detections=Detections.of(boxes, np.array(scores), np.zeros(3)))
    evaluation = evaluate_detections([tied], score=0.1, options=QUICK)
    page = write_report([tied], evaluation, tmp_path / "report.html").html.read_text()
    chart = next(c for c in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "F1" in c)
    lines = re.findall(r'<polyline points="([^"]*)"', chart)
    shown = [float(point.split(",")[0]) for point in lines[-1].split()]
    assert len(shown) == len(set(scores))
    assert chart.count("<circle") == (3 if len(set(scores)) == 1 else 0)


def test_bars_are_as_high_as_their_values() -> None:
    chart = bar_chart(
        [Series("n", np.zeros(2), np.array([5.0, 10.0]))],
        Axes("x", "y", (0.0, 2.0), (0.0, 10.0)),
        edges=np.array([0.0, 1.0, 2.0]),
        labels=["0", "1", "2"],
    )
    heights = [float(value) for value in re.findall(r'height="([\d.]+)" fill="#0072b2" f', chart)]
    assert heights == [132, 264]
