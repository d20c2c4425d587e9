"""`geo-retina detect`: a raster in, georeferenced objects out."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from geo_retina import defaults
from geo_retina.cli import detect_options as shared
from geo_retina.cli.detect_runs import Asked, detect_many, detect_one
from geo_retina.cli.groups import takes
from geo_retina.cli.info import print_work
from geo_retina.cli.reporting import exit_codes, refuse_given
from geo_retina.errors import ConfigError


class Shape(StrEnum):
    """What a feature shows of a box."""

    POLYGON = "polygon"
    POINT = "point"


_WORK = "Work"
_INTERRUPTED = "interrupted: run the same again with --resume to go on from what was done"


@takes(finding=shared.finding, reading=shared.reading)
def detect(
    raster: shared.Each,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            help="Vector file to write, its format by extension; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of a bundled model, or path of a checkpoint.")
    ] = defaults.MODEL,
    score: shared.Score = None,
    class_score: shared.ClassScore = None,
    *,
    finding: Callable[[], dict[str, Any]],
    aoi: shared.Aoi = None,
    aoi_layer: shared.AoiLayer = None,
    crs: Annotated[
        str | None,
        typer.Option(help="CRS of the output, such as EPSG:4326. [default: the raster's]"),
    ] = None,
    simplify_to: Annotated[
        Shape, typer.Option(help="Shape of the features: outlines or centres.")
    ] = Shape.POLYGON,
    reading: Callable[[], dict[str, Any]],
    device: shared.Device = "auto",
    backend: shared.Backend = "auto",
    batch: shared.Batch = None,
    readers: shared.Readers = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a run that was interrupted.", rich_help_panel=_WORK
        ),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Begin again; drop what an interrupted run left.",
            rich_help_panel=_WORK,
        ),
    ] = False,
    skip_errors: Annotated[
        bool,
        typer.Option(
            "--skip-errors", help="Go on past unreadable windows; exit 1.", rich_help_panel=_WORK
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="PNG of the raster with its objects.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--map", help="HTML page: zoom into raster and objects, choose a score."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="JSON file with the counts of the run.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only estimate time and memory, as `plan` does.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No logs, no progress bar.")] = False,
) -> None:
    """Detect objects in rasters and write georeferenced features.

    The extension of --output chooses the format. Many rasters take one output pattern, such as
    -o "found/{name}.gpkg", where {name} becomes the name of each raster.

    Exit codes: 0 done, 2 bad usage or input, 1 failure or windows skipped by --skip-errors, 130
    interrupted.
    """
    with exit_codes(quiet=quiet, interrupted=_INTERRUPTED):
        from geo_retina.detection.each import Task, names_each, plan_tasks
        from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions

        options = DetectOptions(
            score=score,
            class_scores=shared.class_scores(class_score),
            aoi=aoi,
            aoi_layer=aoi_layer,
            **finding(),
            **reading(),
        )
        if plan:
            idle = {
                "--picture": picture,
                "--map": page,
                "--summary": summary,
                "--resume": resume,
                "--restart": restart,
                "--batch": batch,
                "--readers": readers,
            }
            refuse_given(idle, "--plan detects nothing; leave them out")
            if len(raster) > 1:
                raise ConfigError(f"--plan takes one raster, got {len(raster):,}; plan them by one")
            from geo_retina.detection.plan import estimate_work

            print_work(estimate_work(raster[0], model, options, device=device, backend=backend))
            return
        if not output:
            raise ConfigError("expected --output FILE, such as -o found.gpkg, got none")
        output_options = OutputOptions(crs=crs, geometry=simplify_to.value)
        work = WorkOptions(
            device=device,
            backend=backend,
            batch=batch,
            readers=readers,
            resume=resume,
            restart=restart,
            skip_errors=skip_errors,
        )
        asked = Asked(model, options, output_options, work, quiet)
        views = {"picture": picture, "map": page, "summary": summary}
        if names_each([*output, *(path for path in views.values() if path is not None)]):
            detect_many(plan_tasks(raster, output, **views), asked)
        else:
            detect_one(Task(shared.one_raster(raster), tuple(output), **views), asked)
