"""`geo-retina detect` in many rasters: files of each, one line of each."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from geo_retina.cli.bars import count_bar
from geo_retina.cli.reporting import FAILURE, one_line, progress_bar
from geo_retina.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geo_retina.detection.each import Task
    from geo_retina.detection.file_run import OutputOptions, WorkOptions
    from geo_retina.detection.file_writer import Writer
    from geo_retina.detection.options import DetectOptions
    from geo_retina.detection.run_summary import RunSummary


def detect_many(
    tasks: "Sequence[Task]",
    model: str,
    options: "DetectOptions",
    output_options: "OutputOptions",
    work: "WorkOptions",
    *,
    quiet: bool,
) -> None:
    """Detect in one raster after the other, and tell what became of each.

    Raises:
        typer.Exit: With `FAILURE`, if one could not be read, or not in whole.
    """
    from geo_retina.detection.each import EachRun, tell_fault
    from geo_retina.detection.run_summary import RunSummary

    for task in tasks:
        check_summary(task.summary)
    each = EachRun(
        tasks,
        model=model,
        options=options,
        output_options=output_options,
        work=work,
        also=lambda task: views(
            task.raster,
            picture=task.picture,
            page=task.map,
            model=model,
            options=options,
            skip_errors=work.skip_errors,
        ),
    )
    with count_bar("reading headers", quiet=quiet) as on_check:
        each.check(on_check)
    for task in each.done_before:
        print(f"done before: {', '.join(str(path) for path in task.outputs)}")
    counts: Counter[str] = Counter()
    failed = 0
    with progress_bar(quiet=quiet) as on_progress:
        for done in each.run(on_progress):
            if isinstance(done.result, RunSummary):
                _print_one(done.result)
                counts.update(done.result.objects_by_class)
                failed += done.result.counts.windows_failed > 0
            else:
                text = one_line(tell_fault(done.task, done.result))
                print(f"error: {text}", file=sys.stderr)
                failed += 1
    by_class = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(
        f"found {counts.total():,} objects{f' ({by_class})' if by_class else ''} in "
        f"{counted(len(each.left), 'raster')}"
    )
    if failed:
        print(f"warning: {failed} of them could not be read, or not in whole", file=sys.stderr)
        raise typer.Exit(FAILURE)


def views(
    raster: str,
    *,
    picture: Path | None,
    page: Path | None,
    model: str,
    options: "DetectOptions",
    skip_errors: bool,
) -> "list[Writer]":
    """The picture and the map of a raster, as far as they are wanted."""
    found: list[Writer] = []
    if picture is not None:
        from geo_retina.viewing.overlay import PictureWriter

        found.append(PictureWriter(picture, raster, bands=options.bands, skip_errors=skip_errors))
    if page is not None:
        from geo_retina.model.checkpoint import read_info
        from geo_retina.viewing.html_map import MapWriter

        card = read_info(model).card
        found.append(
            MapWriter(
                page,
                raster,
                class_names=card.class_names,
                model=card.name,
                bands=options.bands,
                raster_crs=options.raster_crs,
                skip_errors=skip_errors,
            )
        )
    return found


def check_summary(path: Path | None) -> None:
    """Refuse a summary that could not be written, before any work starts.

    Raises:
        OutputError: Its folder does not exist.
    """
    if path is not None and not path.absolute().parent.is_dir():
        from geo_retina.errors import OutputError

        raise OutputError(f"the folder of the summary {path} does not exist; make it first")


def _print_one(done: "RunSummary") -> None:
    found = counted(done.counts.objects, "object")
    print(f"{found} in {done.seconds:.1f} s: {', '.join(done.outputs)}")
    warn_of_gaps(done)


def warn_of_gaps(done: "RunSummary") -> None:
    """Tell on stderr where objects may be missing."""
    if done.counts.windows_saturated:
        print(
            f"warning: {done.counts.windows_saturated} windows reached the limit of boxes even in "
            "parts: objects may be missing there",
            file=sys.stderr,
        )
    if done.failed_windows_file is not None:
        print(
            f"warning: {done.counts.windows_failed} windows could not be read; see "
            f"{done.failed_windows_file}",
            file=sys.stderr,
        )
