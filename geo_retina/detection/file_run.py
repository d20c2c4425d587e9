"""Runs to files: with a ledger beside the output, so that a broken run can go on."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geo_retina.detection.backends import find_device, load_detector
from geo_retina.detection.file_writer import MultiWriter, Writer
from geo_retina.detection.fingerprints import LedgerHeader, hash_file, raster_fingerprint
from geo_retina.detection.job import Job, open_job
from geo_retina.detection.ledger import Ledger
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.pipeline import Counts, run_strips
from geo_retina.detection.run import OnProgress, new_stitcher, report
from geo_retina.detection.stitch import StitchState
from geo_retina.detection.vector import open_writer, open_writers
from geo_retina.detection.writers.layer import Geometry
from geo_retina.errors import LedgerError, OutputError
from geo_retina.space.detections import Detections

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How detections are written."""

    crs: str | None = None
    """CRS of the coordinates; None = the raster's, WGS 84 for GeoJSON."""
    geometry: Geometry = "polygon"
    """Outlines of the boxes, or their centres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """How the work is done; nothing here changes the result."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    batch: int | None = None
    """Chips at once; None chooses by device."""
    resume: bool = False
    """Go on with a broken run, if there is one."""
    restart: bool = False
    """Throw away what a broken run left."""
    skip_errors: bool = False
    """Go on past windows that cannot be read."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run read, found and wrote."""

    raster: str
    outputs: tuple[str, ...]
    model: str
    megapixels: float
    """Size of the raster."""
    windows: int
    counts: Counts
    objects_by_class: dict[str, int]
    seams: dict[str, Any]
    """What happened where windows meet: see `detection.seams.SeamAudit`."""
    seconds: float = 0.0
    failed_windows_file: str | None = None
    """GeoJSON or similar with the areas that could not be read."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def detect_to_files(
    raster: str | os.PathLike[str],
    outputs: Sequence[str | Path],
    *,
    model: str | Path = "tree-crowns",
    options: DetectOptions | None = None,
    output_options: OutputOptions | None = None,
    work: WorkOptions | None = None,
    also: Sequence[Writer] = (),
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Detect objects in a raster of any size and write them to vector files.

    What is found is kept strip by strip in a ledger beside the first output, so that a broken run
    can go on. The outputs appear under their names when all are whole; then the ledger goes.

    Args:
        raster: File, URL or GDAL path.
        outputs: Files to write; the extension chooses the format.
        model: Name of a bundled model, or path of a checkpoint.
        options: What changes the result.
        output_options: How detections are written.
        work: How the work is done.
        also: Further writers that get the same detections, such as a picture.
        on_progress: Called after each strip.

    Raises:
        UsageError: One of its kinds, for whatever is wrong with the input; before the model loads.
        RasterReadError: A window cannot be read and `work.skip_errors` is not set.
        WriteError: The disk is full or lost.
    """
    started = time.monotonic()
    work = work or WorkOptions()
    if not outputs:
        raise OutputError("expected at least one output file, got none")
    with open_job(raster, model, options or DetectOptions()) as job:
        writers = _writers(job, outputs, output_options or OutputOptions())
        find_device(work.device)  # an unknown device fails here, before a ledger is made
        with _open_ledger(Path(f"{outputs[0]}.ledger"), _header(job), work) as ledger:
            counts, seams = _compute(job, ledger, work, on_progress)
            by_class = _render(job, ledger, [*also, writers])
            failed_file = _write_failed_windows(job, outputs[0], counts)
            ledger.remove()
        grid = job.source.raster.grid
        return RunSummary(
            raster=job.raster_path,
            outputs=tuple(str(path) for path in outputs),
            model=job.info.card.name,
            megapixels=grid.width * grid.height / 1e6,
            windows=len(job.plan),
            counts=counts,
            objects_by_class=by_class,
            seams=seams,
            seconds=time.monotonic() - started,
            failed_windows_file=failed_file,
        )


def _compute(
    job: Job, ledger: Ledger, work: WorkOptions, on_progress: OnProgress | None
) -> tuple[Counts, dict[str, Any]]:
    """Run the strips that the ledger lacks; the counts and the seam audit of all strips."""
    before = ledger.counters
    counts, state = Counts(), None
    if before:
        counts = Counts.from_dict(before["counts"])
        state = StitchState.restore(job.plan, ledger.carried, before["stitcher"])
    stitcher = new_stitcher(job, state)
    if ledger.next_strip < len(job.plan.row_offs):
        detector = load_detector(job.info, device=work.device, batch=work.batch)
        strips = run_strips(
            job,
            detector,
            stitcher,
            start=ledger.next_strip,
            counts=counts,
            skip_errors=work.skip_errors,
        )
        for strip in strips:
            counts = strip.counts
            notes = {"counts": counts.to_dict(), "stitcher": stitcher.state.notes()}
            ledger.commit(strip.index, strip.final, stitcher.carried, notes)
            report(on_progress, job, strip.index, counts)
    return counts, stitcher.audit.to_dict()


def _render(job: Job, ledger: Ledger, writers: Sequence[Writer]) -> dict[str, int]:
    """Write all detections of a finished ledger; how many there are of each class."""
    names = job.info.card.class_names
    by_class = np.zeros(len(names), dtype=np.int64)
    with ExitStack() as stack:
        opened = [stack.enter_context(writer) for writer in writers]
        for detections in ledger.replay():
            for writer in opened:
                writer.write(detections)
            by_class += np.bincount(detections.class_ids, minlength=len(names))
    return dict(zip(names, by_class.tolist(), strict=True))


def _writers(job: Job, outputs: Sequence[str | Path], how: OutputOptions) -> MultiWriter:
    """Prepare the outputs; nothing is touched yet."""
    card, options = job.info.card, job.options
    metadata = {
        "software": f"geo_retina {version('geo-retina')}",
        "model": card.name,
        "model_hash": hash_file(job.info.path),
        "raster": Path(job.raster_path).name,
        "options": options.to_dict(),
    }
    return open_writers(
        outputs,
        grid=job.source.raster.grid,
        class_names=card.class_names,
        metadata=metadata,
        crs=how.crs,
        geometry=how.geometry,
        pixel_coordinates=job.source.raster.grid.crs is None,
    )


def _header(job: Job) -> LedgerHeader:
    """Everything that the result of a run depends on."""
    aoi = job.options.aoi
    return LedgerHeader(
        model={"name": job.info.card.name, "hash": hash_file(job.info.path)},
        options={
            **job.options.to_dict(),
            "chip_px": job.plan.chip_px,
            "overlap_px": job.plan.overlap_px,
            "aoi_hash": hash_file(aoi) if aoi and Path(aoi).is_file() else None,
            "software": version("geo-retina"),
        },
        raster=raster_fingerprint(job.raster_path, job.source.raster.grid),
    )


def _open_ledger(path: Path, header: LedgerHeader, work: WorkOptions) -> Ledger:
    if work.restart:
        path.unlink(missing_ok=True)
    if not path.exists():
        return Ledger.create(path, header)
    if work.resume:
        ledger = Ledger.resume(path, header)
        _log.info("going on with strip %d of an earlier run", ledger.next_strip)
        return ledger
    raise LedgerError(
        f"an earlier run was broken and left {path}; go on with --resume, or begin again with "
        "--restart"
    )


def _write_failed_windows(job: Job, output: str | Path, counts: Counts) -> str | None:
    """Write the areas that could not be read to a side file of the first output."""
    if not counts.failed_windows:
        return None
    output = Path(output)
    path = output.with_name(f"{output.stem}.failed_windows{output.suffix}")
    windows = np.array(counts.failed_windows, dtype=np.float64)
    boxes = np.concatenate([windows[:, :2], windows[:, :2] + windows[:, 2:]], axis=1)
    holes = Detections.of(boxes, np.zeros(len(boxes)), np.zeros(len(boxes)))
    writer = open_writer(
        path,
        grid=job.source.raster.grid,
        class_names=("failed_window",),
        pixel_coordinates=job.source.raster.grid.crs is None,
    )
    with writer as opened:
        opened.write(holes.scale(x=job.source.scale_x, y=job.source.scale_y))
    return str(path)
