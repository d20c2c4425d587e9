"""`geo-retina evaluate`: how good detections are, against labels."""

import json
from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli.reporting import exit_codes


def evaluate(
    labels: Annotated[Path, typer.Option(help="Label file or folder, any known format.")],
    images: Annotated[
        Path | None, typer.Option(help="Raster, or folder of the rasters. [default: by the labels]")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")
    ] = "tree-crowns",
    detections: Annotated[
        Path | None,
        typer.Option(
            help="CSV of detections with scores (DeepForest's layout) instead of a model."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only rasters of this split of the labels.")
    ] = None,
    iou: Annotated[float, typer.Option(help="Least overlap of a match.")] = 0.4,
    score: Annotated[
        float | None,
        typer.Option(help="Score to take precision and recall at. [default: the best F1]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Compare detections on whole rasters with labels."""
    with exit_codes(quiet=quiet):
        from geo_retina.evaluation.evaluate import evaluate_detections
        from geo_retina.evaluation.runs import choose_split, detect_pairs, read_pairs
        from geo_retina.evaluation.tables import evaluation_markdown
        from geo_retina.labels.formats import LabelSource, read_labels
        from geo_retina.model.checkpoint import read_info

        names = None if detections is not None else read_info(model).card.class_names
        source = LabelSource(
            path=str(labels), images=None if images is None else str(images), class_names=names
        )
        labelled = choose_split(read_labels(source), split)
        if detections is None:
            pairs = list(detect_pairs(labelled, model, device=device))
        else:
            pairs = read_pairs(labelled, detections)
        evaluation = evaluate_detections(pairs, iou=iou, score=score)
        print(evaluation_markdown(evaluation), end="")
        if as_json is not None:
            as_json.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n")
