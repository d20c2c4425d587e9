"""`geo-retina evaluate`: how good detections are, against labels."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_retina import defaults
from geo_retina.cli import detect_options as shared
from geo_retina.cli import evaluate_about as about
from geo_retina.cli import evaluate_checks as checks
from geo_retina.cli import label_options as options
from geo_retina.cli.bars import count_bar
from geo_retina.cli.groups import takes
from geo_retina.cli.reporting import exit_codes, refuse_given

if TYPE_CHECKING:
    from geo_retina.evaluation.pairs import Pair
    from geo_retina.evaluation.runs import Detecting
    from geo_retina.evaluation.summary import Evaluation
    from geo_retina.labels.choice import LabelChoice
    from geo_retina.training.recipe_side import RecipeSide


@takes(choice=options.label_choice, finding=shared.finding, reading=shared.reading)
def evaluate(
    labels: Annotated[
        str | None,
        typer.Option(
            help="Label file or folder, any known format. [default: the val side, or that of "
            "--split, of the recipe in the checkpoint]"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Bundled model, or path of a checkpoint. [default: {defaults.MODEL}]"),
    ] = None,
    detections: Annotated[
        str | None,
        typer.Option(help="File of detections with scores, any known format, instead of a model."),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            help="Folder that the paths of the checkpoint's recipe are relative to; with "
            "--labels only to find out which rasters the model learned from."
        ),
    ] = Path(),
    iou: Annotated[
        float | None,
        typer.Option(
            help=f"Least overlap of a match. [default: {defaults.MATCH_IOU}; without --labels the "
            "recipe's]"
        ),
    ] = None,
    distance_m: Annotated[
        float | None,
        typer.Option(help="Match by distance instead, up to so many metres: for points."),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            help="Score at which precision and recall are computed. [default: the model's, of each "
            "class its own; with --detections that of the best F1]"
        ),
    ] = None,
    block_px: Annotated[
        float | None,
        typer.Option(
            help="Resample blocks of this side for the 95 % intervals. [default: whole rasters if "
            "ten or more, else blocks]"
        ),
    ] = None,
    sizes_m: Annotated[
        str | None,
        typer.Option(help="AP by object size (root of the area): bounds in metres, such as 3,6."),
    ] = None,
    sizes_px: Annotated[
        str | None, typer.Option(help="The same in pixels. [default: COCO's 32,96]")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report, one HTML file with charts and pictures.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
    calibrated: Annotated[
        Path | None,
        typer.Option(help="Write a copy of the model whose scores are probabilities, fitted here."),
    ] = None,
    score_column: Annotated[
        str | None,
        typer.Option(help="Column of a vector file of detections. [default: score]"),
    ] = None,
    detections_class_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the class of the detections. [default: --class-column where they "
            "have it, else as written by detect]"
        ),
    ] = None,
    detections_crs: Annotated[
        str | None,
        typer.Option(
            help="CRS of detections that state none, as a CSV of detect does; such as EPSG:32633."
        ),
    ] = None,
    *,
    choice: Callable[..., "LabelChoice"],
    finding: Callable[[], dict[str, Any]],
    reading: Callable[[], dict[str, Any]],
    device: shared.Device = "auto",
    backend: shared.Backend = "auto",
    batch: shared.Batch = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs, no progress bar.")] = False,
) -> None:
    """Measure a model, or a file of detections, against labels.

    With --class-agnostic all labels and all detections count as one class, whatever their names.
    """
    with exit_codes(quiet=quiet):
        from geo_retina.detection.options import DetectOptions
        from geo_retina.evaluation.evaluate import (
            EvaluationOptions,
            evaluate_detections,
            match_rule,
        )
        from geo_retina.evaluation.runs import Detecting, lowest_score
        from geo_retina.evaluation.tables import evaluation_markdown

        checks.sources(labels, model, detections, calibrated)
        checks.rule(iou, distance_m, score)
        found_by, read_by, known = finding(), reading(), choice(labels or "")
        name = model or defaults.MODEL
        work: dict[str, Any] = {"device": device, "backend": backend, "batch": batch}
        if labels is None:
            checks.without_labels(read_by, known)
        checks.data_folder(data, labels, detections)
        of_detections = {
            "--score-column": score_column,
            "--detections-class-column": detections_class_column,
            "--detections-crs": detections_crs,
        }
        if detections is None:
            refuse_given(of_detections, "for --detections; leave out")
            known = _sized_as_learned(known, name)
        else:
            checks.with_detections({**found_by, **read_by}, work)
        if calibrated is not None:
            found_by, work = checks.undecayed(found_by), checks.run_as_copy(work)
        details = EvaluationOptions(block_px=block_px, **checks.size_bounds(sizes_m, sizes_px))
        checks.outputs(report, as_json, calibrated, read=(*known.files, model, detections))
        written = [report, as_json, calibrated]
        side = None if labels is not None else _recipe_side(name, data, known.split, written)
        if side is not None and iou is None and distance_m is None:
            iou, distance_m = side.settings.iou, side.settings.distance_m
        iou = defaults.MATCH_IOU if iou is None else iou
        match_rule(iou=iou, distance_m=distance_m)
        known = _placed(_sized(known, distance_m), read_by["raster_crs"])
        read_by["pixel_coordinates"] |= read_by["gsd_m"] is not None
        if detections is None:
            least = lowest_score(name, score)
            detecting = DetectOptions(score=least, **found_by, **read_by)
            how = Detecting(options=detecting, **work)
            pairs = _pairs_by_model(name, side or known, how, quiet=quiet)
            told = (
                about.of_model(name, known, pairs, data)
                if side is None
                else about.of_recipe_side(name, side, pairs, data, score)
            )
        else:
            pairs = _pairs_by_file(
                detections,
                known,
                of_detections,
                class_agnostic=found_by["class_agnostic"],
            )
            told = about.of_file(detections, known, pairs)
        evaluation = evaluate_detections(
            pairs,
            iou=iou,
            distance_m=distance_m,
            options=details,
            **about.scores(name if detections is None else None, score),
        )
        evaluation = replace(evaluation, about=told)
        print(evaluation_markdown(evaluation), end="")
        _write(pairs, evaluation, report=report, as_json=as_json)
        if calibrated is not None:
            from geo_retina.evaluation.calibrated import write_calibrated

            card = write_calibrated(name, evaluation, calibrated)
            print(f"written  {calibrated}: detects from score {card.score:.3f}")


def _write(
    pairs: "list[Pair]", evaluation: "Evaluation", *, report: Path | None, as_json: Path | None
) -> None:
    """Write what was asked for."""
    from geo_retina.detection.paths import refuse_overwriting
    from geo_retina.errors import OutputError
    from geo_retina.evaluation.report import write_report
    from geo_retina.whole_files import write_whole

    refuse_overwriting([pair.name for pair in pairs], [as_json])
    if as_json is not None:
        text = json.dumps(evaluation.to_dict(), indent=2) + "\n"
        write_whole(as_json, text, error=OutputError)
    if report is not None:
        print(f"report   {write_report(pairs, evaluation, report).html}")


def _pairs_by_model(
    model: str, known: "LabelChoice | RecipeSide", how: "Detecting", *, quiet: bool
) -> "list[Pair]":
    """What a model finds beside labels, or beside a side of its recipe."""
    from geo_retina.evaluation.runs import model_pairs
    from geo_retina.labels.choice import LabelChoice

    with count_bar("evaluating", quiet=quiet) as on_progress:
        how = replace(how, on_progress=on_progress)
        if isinstance(known, LabelChoice):
            return model_pairs(known, model, how)
        return known.pairs(model, how)


def _pairs_by_file(
    detections: str,
    known: "LabelChoice",
    stated: dict[str, str | None],
    *,
    class_agnostic: bool,
) -> "list[Pair]":
    """What a file says was found, beside labels.

    Args:
        detections: The file.
        known: The labels.
        stated: Columns and CRS of the detections, by the option that states them.
        class_agnostic: All count as one class.
    """
    from geo_retina.evaluation.files import ComparedFiles, read_pairs
    from geo_retina.labels.vector import VectorOptions

    given = known.source.vector
    vector = VectorOptions(
        class_column=given.class_column,
        score_column=stated["--score-column"],
        point_size_m=given.point_size_m,
        crs=stated["--detections-crs"],
        raster_crs=given.raster_crs,
    )
    return read_pairs(
        ComparedFiles(
            labels=known.source,
            detections=replace(known.source, path=detections, vector=vector),
            label_format=known.label_format,
            split=known.split,
            only=known.only,
            detections_class_column=stated["--detections-class-column"],
            class_agnostic=class_agnostic,
        )
    )


def _sized_as_learned(known: "LabelChoice", model: str) -> "LabelChoice":
    """Labels whose points are as wide as those that a model learned from, unless stated."""
    from geo_retina.training.learned_from import point_size_m

    return _sized(known, point_size_m(model))


def _sized(known: "LabelChoice", size_m: float | None) -> "LabelChoice":
    """Labels whose points are this wide, unless stated."""
    vector = known.source.vector
    if size_m is None or vector.point_size_m is not None:
        return known
    sized = replace(vector, point_size_m=size_m)
    return replace(known, source=replace(known.source, vector=sized))


def _placed(known: "LabelChoice", raster_crs: str | None) -> "LabelChoice":
    """Labels whose rasters have the CRS that they are read with."""
    vector = replace(known.source.vector, raster_crs=raster_crs)
    return replace(known, source=replace(known.source, vector=vector))


def _recipe_side(
    model: str, data: Path, split: str | None, written: Sequence[Path | None]
) -> "RecipeSide":
    """A side of a checkpoint's own recipe; loads the training room, which takes seconds.

    Raises:
        OutputError: Its labels would be overwritten.
    """
    from geo_retina.detection.paths import refuse_overwriting
    from geo_retina.labels.splits import VAL
    from geo_retina.training.recipe_side import recipe_sides

    (side,) = recipe_sides(model, data, [split or VAL])
    refuse_overwriting(side.label_files, written)
    return side
