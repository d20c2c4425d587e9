"""Runs to files: with a ledger beside the output, so that a broken run can go on."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geo_retina import defaults
from geo_retina.detection.aoi_file import files_of_aoi
from geo_retina.detection.backends import Model, Runner, runner_of
from geo_retina.detection.file_writer import MultiWriter, Writer
from geo_retina.detection.formats import CSV, output_files, split_extension
from geo_retina.detection.holes import holes_path, remove_holes, write_holes
from geo_retina.detection.job import Job, open_job
from geo_retina.detection.ledger import Ledger
from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions, expect_kind
from geo_retina.detection.paths import raster_name, refuse_overwriting
from geo_retina.detection.pipeline import Counts, OnProgress, check_progress, run_strips
from geo_retina.detection.reading import ReadingOrder
from geo_retina.detection.resuming import (
    ledger_path,
    refuse_leftover,
    restore,
    run_ledger,
    strip_notes,
)
from geo_retina.detection.run_summary import RunSummary
from geo_retina.detection.seams import SeamAudit
from geo_retina.detection.vector import check_output, open_writers, take_crs
from geo_retina.errors import OutputError
from geo_retina.space.detections import Detections
from geo_retina.space.windows import Window
from geo_retina.wording import shown

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run would read and write, before it begins."""

    megapixels: float
    """Size of the raster."""
    read: tuple[str, ...]
    """The raster's files, the AOI and the model."""
    written: tuple[Path, ...]
    """Every file that is written or removed."""


def detect_to_files(
    raster: str | os.PathLike[str],
    outputs: Sequence[str | Path],
    *,
    model: str | Path | Model = defaults.MODEL,
    options: DetectOptions | None = None,
    output_options: OutputOptions | None = None,
    work: WorkOptions | None = None,
    also: Sequence[Writer] = (),
    further_files: Sequence[str | Path] = (),
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Detect objects in a raster of any size and write them to vector files.

    What is found is kept strip by strip in a ledger beside the first output, so that a broken run
    can go on, and goes to the outputs at once. They appear under their names when all are whole;
    then the ledger goes.

    Args:
        raster: File, URL or GDAL path.
        outputs: Files to write; the extension chooses the format.
        model: Name of a bundled model, path of a checkpoint, or what `load_model` gave: loaded once
            for many rasters.
        options: What changes the result.
        output_options: How detections are written.
        work: How the work is done.
        also: Further writers that get the same detections, such as a picture.
        further_files: What they and the caller write, so that it takes the place of no input.
        on_progress: Called at the start and after each window with the megapixels that are done,
            those of the raster, and the objects so far.

    Returns:
        What was read, found and written.

    Raises:
        UsageError: One of its kinds, for whatever is wrong with the input; before the model loads.
        RasterReadError: A window cannot be read and `work.skip_errors` is not set.
        WriteError: The disk is full or lost.
    """
    started = time.monotonic()
    work, how = work or WorkOptions(), output_options or OutputOptions()
    expect_kind("work", work, WorkOptions)
    expect_kind("output_options", how, OutputOptions)
    check_progress(on_progress)
    outputs = _listed(outputs)
    _check_outputs(outputs, how)
    _tell_fixed_frames(outputs, how)
    with open_job(raster, model, options or DetectOptions()) as job:
        # an unknown backend or device fails here, before a ledger is made
        runner = runner_of(model, device=work.device, backend=work.backend, batch=work.batch)
        _refuse_overwriting(job, outputs, further_files)
        writers = _writers(job, outputs, how, runner.model_hash)
        _tell_crs_of_csv(job, outputs, how)
        with run_ledger(job, runner, outputs, work) as ledger:
            with _rendering([writers, *also], job.card.class_names) as rendering:
                counts, seams = _compute(
                    job, ledger, runner, rendering=rendering, work=work, on_progress=on_progress
                )
                crs = how.crs if take_crs(outputs)[0] else None
                failed_file = _write_holes(job, ledger, outputs[0], counts, crs=crs)
            ledger.remove()
        return RunSummary(
            raster=job.raster_path,
            outputs=tuple(str(path) for path in outputs),
            model=job.card.name,
            megapixels=job.source.raster.grid.megapixels,
            windows=len(job.plan),
            counts=counts,
            objects_by_class=rendering.by_class,
            seams=seams.to_dict(),
            seconds=time.monotonic() - started,
            failed_windows_file=None if failed_file is None else str(failed_file),
        )


def check_run(
    raster: str | os.PathLike[str],
    outputs: Sequence[str | Path],
    *,
    model: str | Path | Model,
    options: DetectOptions,
    output_options: OutputOptions,
    work: WorkOptions,
    further_files: Sequence[str | Path] = (),
) -> RunFiles:
    """Find out whether `detect_to_files` would begin with these arguments; nothing is logged.

    Raises:
        UsageError: What `detect_to_files` would raise before it loads the model.
    """
    _check_outputs(outputs, output_options)
    with open_job(raster, model, options, tell=False) as job:
        files = _refuse_overwriting(job, outputs, further_files)
        _writers(job, outputs, output_options, model_hash="")
        refuse_leftover(ledger_path(outputs), work)
        return files


def _listed(outputs: Sequence[str | Path]) -> tuple[str | Path, ...]:
    if isinstance(outputs, str | os.PathLike):  # a text is a sequence of texts too
        raise OutputError(f"expected a list of output files, got one: give [{str(outputs)!r}]")
    files = tuple(outputs or ())
    if not files:
        raise OutputError("expected at least one output file, got none")
    for file in files:
        if not isinstance(file, str | os.PathLike):
            raise OutputError(f"expected the path of an output file, got {shown(file)}")
    return files


def _check_outputs(outputs: Sequence[str | Path], how: OutputOptions) -> None:
    """Raise for what is wrong with the outputs, before anything is opened."""
    for path, takes in zip(outputs, take_crs(outputs), strict=True):
        check_output(path, crs=how.crs if takes else None, geometry=how.geometry)


def _tell_fixed_frames(outputs: Sequence[str | Path], how: OutputOptions) -> None:
    for path, takes in zip(outputs, take_crs(outputs), strict=True):
        if how.crs is not None and not takes:
            _, kind = split_extension(Path(path))
            _log.info("%s is not written in %s: %s", path, how.crs, kind.fixed_frame)


def _compute(
    job: Job,
    ledger: Ledger,
    runner: Runner,
    *,
    rendering: "_Rendering",
    work: WorkOptions,
    on_progress: OnProgress | None,
) -> tuple[Counts, SeamAudit]:
    """Run the strips that the ledger lacks; the counts and the seam audit of all strips."""
    counts, stitcher = restore(job, ledger)
    for detections in ledger.replay():
        rendering.write(detections)
    if ledger.next_strip == len(job.plan.row_offs):
        return counts, stitcher.audit
    detector = runner.load()
    strips = run_strips(
        job,
        detector,
        stitcher,
        start=ledger.next_strip,
        counts=counts,
        skip_errors=work.skip_errors,
        order=ReadingOrder.of(job.source, job.plan, readers=work.readers),
        on_progress=on_progress,
    )
    audit = stitcher.audit
    with closing(strips):
        for strip in strips:
            ledger.commit(
                strip.index, strip.final, stitcher.carried, strip_notes(strip, stitcher, audit)
            )
            rendering.write(strip.final)
            counts, audit = strip.counts, stitcher.audit
    return counts, audit


class _Rendering:
    """All outputs of a run while they are written, and a count of what they got."""

    def __init__(self, writers: Sequence[Writer], class_names: Sequence[str]) -> None:
        self._writers = writers
        self._class_names = class_names
        self._counts = np.zeros(len(class_names), dtype=np.int64)

    @property
    def by_class(self) -> dict[str, int]:
        """Objects of each class name so far; class ids may share one, such as `N/A`."""
        found = dict.fromkeys(self._class_names, 0)
        for name, count in zip(self._class_names, self._counts.tolist(), strict=True):
            found[name] += count
        return found

    def write(self, detections: Detections) -> None:
        """Append the final objects of a strip to every output."""
        for writer in self._writers:
            writer.write(detections)
        self._counts += np.bincount(detections.class_ids, minlength=len(self._counts))


@contextmanager
def _rendering(writers: Sequence[Writer], class_names: Sequence[str]) -> Iterator[_Rendering]:
    """Open all outputs; they are closed, and appear, in the opposite order."""
    with ExitStack() as stack:
        yield _Rendering([stack.enter_context(writer) for writer in writers], class_names)


def _writers(
    job: Job, outputs: Sequence[str | Path], how: OutputOptions, model_hash: str
) -> MultiWriter:
    """Prepare the outputs; nothing is touched yet."""
    card, options, grid = job.card, job.options, job.source.raster.grid
    metadata = {
        "software": f"geo_retina {version('geo-retina')}",
        "model": card.name,
        "model_hash": model_hash,
        "raster": raster_name(job.raster_path),
        "options": options.to_dict() | how.to_dict(),
    }
    return open_writers(
        outputs,
        grid=grid,
        class_names=card.class_names,
        metadata=metadata,
        crs=how.crs,
        geometry=how.geometry,
    )


def _tell_crs_of_csv(job: Job, outputs: Sequence[str | Path], how: OutputOptions) -> None:
    grid = job.source.raster.grid
    crs = how.crs or (None if grid.crs is None else grid.crs.to_string())
    for path in outputs:
        if crs is not None and split_extension(Path(path))[1] is CSV:
            _log.info("%s: coordinates are in %s; CSV has no place to say so", path, crs)


def _refuse_overwriting(
    job: Job, outputs: Sequence[str | Path], further: Sequence[str | Path]
) -> RunFiles:
    """What is read and written; raise where a file would be both."""
    aoi = job.options.aoi
    read = [job.raster_path, *job.source.raster.files]
    read += [] if job.model_file is None else [str(job.model_file)]
    read += [] if aoi is None else files_of_aoi(aoi)
    files = [file for path in outputs for file in output_files(Path(path))]
    files += [*output_files(holes_path(outputs[0])), ledger_path(outputs), *map(Path, further)]
    refuse_overwriting(read, files)
    return RunFiles(job.source.raster.grid.megapixels, tuple(read), tuple(files))


def _write_holes(
    job: Job, ledger: Ledger, output: str | Path, counts: Counts, *, crs: str | None
) -> Path | None:
    """Write the windows that could not be read, or clear away those of an earlier run."""
    if counts.windows_failed:
        strips = (
            [Window(*sides) for sides in notes["failed_windows"]]
            for notes in ledger.counters_of_strips()
        )
        return write_holes(job, output, strips, crs=crs)
    remove_holes(output)
    return None
