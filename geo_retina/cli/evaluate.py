"""`geo-retina evaluate`: how good detections are, against labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from geo_retina.cli import label_options as options
from geo_retina.cli.bars import count_bar
from geo_retina.cli.reporting import band_numbers, exit_codes

_READING = "Reading the rasters"
_BUNDLED = "tree-crowns"


def evaluate(
    labels: Annotated[str, typer.Option(help="Label file or folder, any known format.")],
    images: options.Images = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Bundled model, or path of a checkpoint. [default: {_BUNDLED}]"),
    ] = None,
    detections: Annotated[
        str | None,
        typer.Option(help="File of detections with scores, any known format, not a model."),
    ] = None,
    iou: Annotated[float, typer.Option(help="Least overlap of a match.")] = 0.4,
    distance_m: Annotated[
        float | None,
        typer.Option(help="Match centres up to so many metres apart instead: for points."),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(help="Score to take precision and recall at. [default: the best F1]"),
    ] = None,
    block_px: Annotated[
        float | None,
        typer.Option(help="Draw blocks of this side for the intervals, not whole rasters."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report, one HTML file with charts and pictures.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
    label_format: options.Format = None,
    classes: options.Classes = None,
    class_column: options.ClassColumn = None,
    point_size_m: options.PointSize = None,
    crs: options.LabelCrs = None,
    layer: options.Layer = None,
    area: options.Area = None,
    first_pixel: options.FirstPixel = 0,
    only: options.Only = None,
    split: options.Split = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Band numbers from 1, such as 3,2,1.", rich_help_panel=_READING),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="MIN MAX", help="Raster values of black and white.", rich_help_panel=_READING
        ),
    ] = None,
    stretch: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="P1 P2", help="Percentiles of black and white.", rich_help_panel=_READING
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            help="Metres per pixel of rasters without georeference.", rich_help_panel=_READING
        ),
    ] = None,
    any_gsd: Annotated[
        bool,
        typer.Option(
            "--any-gsd", help="Allow rasters too coarse for the model.", rich_help_panel=_READING
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs.")] = False,
) -> None:
    """Compare what a model, or a file of detections, finds on whole rasters with labels."""
    with exit_codes(quiet=quiet):
        from geo_retina.detection.options import DetectOptions
        from geo_retina.errors import ConfigError
        from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
        from geo_retina.evaluation.files import ComparedFiles, read_pairs
        from geo_retina.evaluation.report import write_report
        from geo_retina.evaluation.runs import LOWEST_SCORE, model_pairs
        from geo_retina.evaluation.tables import evaluation_markdown

        if model is not None and detections is not None:
            raise ConfigError("--model and --detections exclude each other; pass one of them")
        for path in (report, as_json):
            if path is not None:
                options.writable(path)
        known = options.label_choice(
            labels,
            images,
            label_format=label_format,
            classes=classes,
            class_column=class_column,
            point_size_m=point_size_m if point_size_m is not None else distance_m,
            crs=crs,
            layer=layer,
            area=area,
            first_pixel=first_pixel,
            only=only,
            split=split,
        )
        reading = DetectOptions(
            score=LOWEST_SCORE,
            bands=band_numbers(bands),
            scale=scale,
            stretch=stretch,
            gsd_m=gsd,
            any_gsd=any_gsd,
            pixel_coordinates=gsd is not None,
        )
        if detections is None:
            with count_bar("evaluating", quiet=quiet) as on_progress:
                pairs = model_pairs(
                    known,
                    model or _BUNDLED,
                    options=reading,
                    device=device,
                    on_progress=on_progress,
                )
        else:
            found = replace(known.source, path=detections)
            pairs = read_pairs(
                ComparedFiles(
                    labels=known.source,
                    detections=found,
                    label_format=known.label_format,
                    split=known.split,
                    only=known.only,
                )
            )
        evaluation = evaluate_detections(
            pairs,
            iou=iou,
            distance_m=distance_m,
            score=score,
            options=EvaluationOptions(block_px=block_px),
        )
        print(evaluation_markdown(evaluation), end="")
        if as_json is not None:
            options.write_text(as_json, json.dumps(evaluation.to_dict(), indent=2) + "\n")
        if report is not None:
            print(f"report   {write_report(pairs, evaluation, report).html}")
