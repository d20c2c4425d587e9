"""The runs of `geo-retina detect`, in one raster or many, and what they print."""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from geo_retina.cli.bars import count_bar, detection_bar
from geo_retina.cli.reporting import FAILURE, one_line
from geo_retina.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geo_retina.detection.each import Task
    from geo_retina.detection.file_writer import Writer
    from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions
    from geo_retina.detection.run_summary import RunSummary


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks of every raster."""

    model: str
    options: "DetectOptions"
    output_options: "OutputOptions"
    work: "WorkOptions"
    quiet: bool


def detect_one(task: "Task", asked: Asked) -> None:
    """Detect in a raster, and tell what was found and written.

    Raises:
        typer.Exit: With `FAILURE`, if windows were left out.
    """
    from geo_retina.detection.file_run import detect_to_files
    from geo_retina.detection.paths import refuse_overwriting
    from geo_retina.whole_files import check_place

    if task.summary is not None:
        check_place(task.summary)
    refuse_overwriting([task.raster, asked.options.aoi, asked.model], task.files)
    with detection_bar(quiet=asked.quiet) as on_progress:
        done = detect_to_files(
            task.raster,
            task.outputs,
            model=asked.model,
            options=asked.options,
            output_options=asked.output_options,
            work=asked.work,
            also=_views(task, asked),
            further_files=task.further_files,
            on_progress=on_progress,
        )
    if task.summary is not None:
        done.write(task.summary)
    _print_summary(done)
    for what, path in (("picture", task.picture), ("map", task.map)):
        if path is not None:
            print(f"{what:<8} {path}")
    _warn_of_gaps(done)
    if done.counts.windows_failed:
        raise typer.Exit(FAILURE)


def detect_many(tasks: "Sequence[Task]", asked: Asked) -> None:
    """Detect in one raster after the other, and tell what became of each.

    Raises:
        typer.Exit: With `FAILURE`, if one could not be read, or not in whole.
    """
    from geo_retina.detection.each import EachRun, tell_fault
    from geo_retina.detection.run_summary import RunSummary

    each = EachRun(
        tasks,
        model=asked.model,
        options=asked.options,
        output_options=asked.output_options,
        work=asked.work,
        also=lambda task: _views(task, asked),
    )
    with count_bar("reading headers", quiet=asked.quiet) as on_check:
        each.check(on_check)
    for task in each.done_before:
        print(f"done before: {', '.join(str(path) for path in task.outputs)}")
    if not each.left:
        print(f"nothing left to do: {counted(len(tasks), 'raster')} done before")
        return
    counts: Counter[str] = Counter()
    failed = 0
    with detection_bar(quiet=asked.quiet) as on_progress:
        for done in each.run(on_progress):
            if isinstance(done.result, RunSummary):
                found = counted(done.result.counts.objects, "object")
                outputs = ", ".join(done.result.outputs)
                print(f"{found} in {done.result.seconds:.1f} s: {outputs}")
                _warn_of_gaps(done.result)
                counts.update(done.result.objects_by_class)
                failed += done.result.counts.windows_failed > 0
            else:
                print(f"error: {one_line(tell_fault(done.task, done.result))}", file=sys.stderr)
                failed += 1
    by_class = f" ({_by_class(counts)})" if counts else ""
    print(f"found {counts.total():,} objects{by_class} in {counted(len(each.left), 'raster')}")
    if failed:
        print(f"warning: {failed} of them could not be read, or not in whole", file=sys.stderr)
        raise typer.Exit(FAILURE)


def _views(task: "Task", asked: Asked) -> "list[Writer]":
    """The picture and the map of a raster, as far as they are wanted."""
    options, skip_errors = asked.options, asked.work.skip_errors
    found: list[Writer] = []
    if task.picture is not None:
        from geo_retina.viewing.overlay import PictureWriter

        found.append(
            PictureWriter(task.picture, task.raster, bands=options.bands, skip_errors=skip_errors)
        )
    if task.map is not None:
        from geo_retina.model.checkpoint import read_info
        from geo_retina.viewing.html_map import MapWriter

        card = read_info(asked.model).card
        found.append(
            MapWriter(
                task.map,
                task.raster,
                class_names=card.class_names,
                model=card.name,
                bands=options.bands,
                raster_crs=options.raster_crs,
                skip_errors=skip_errors,
            )
        )
    return found


def _by_class(counts: "Mapping[str, int]") -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _print_summary(done: "RunSummary") -> None:
    counts, seams = done.counts, done.seams["totals"]
    found = f"{counted(counts.objects, 'object')} ({_by_class(done.objects_by_class)})"
    print(f"found    {found} in {done.seconds:.1f} s")
    print(
        f"windows  {counts.windows_inferred:,} searched, {counts.windows_empty:,} empty, "
        f"{counts.windows_outside:,} outside the AOI, {counts.windows_split:,} split"
    )
    print(
        f"seams    {counted(seams['merged'], 'box', 'boxes')} merged, {seams['cut']:,} dropped as "
        f"cut, {counted(seams['suspected'], 'suspected duplicate')}"
    )
    for path in done.outputs:
        print(f"written  {path}")


def _warn_of_gaps(done: "RunSummary") -> None:
    """Tell on stderr where objects may be missing."""
    if done.counts.windows_saturated:
        print(
            f"warning: {counted(done.counts.windows_saturated, 'window')} reached the limit of "
            "boxes even in parts: objects may be missing there",
            file=sys.stderr,
        )
    if done.failed_windows_file is not None:
        print(
            f"warning: {counted(done.counts.windows_failed, 'window')} could not be read; see "
            f"{done.failed_windows_file}",
            file=sys.stderr,
        )
