"""A run and its ledger: what the ledger is told, and how a broken run goes on from it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shapely import to_wkb

from geo_retina.detection.backends import Runner
from geo_retina.detection.fingerprints import LedgerHeader, hash_bytes, raster_fingerprint
from geo_retina.detection.job import Job
from geo_retina.detection.ledger import Ledger
from geo_retina.detection.options import WorkOptions
from geo_retina.detection.pipeline import Counts, StripDone
from geo_retina.detection.run import new_stitcher
from geo_retina.detection.seams import SeamAudit
from geo_retina.detection.stitch import Stitcher, StitchState
from geo_retina.errors import LedgerError, RasterReadError, WriteError

_log = logging.getLogger(__name__)


def ledger_path(outputs: Sequence[str | Path]) -> Path:
    """Where a run to these outputs keeps what it found until they are whole."""
    return Path(f"{outputs[0]}.ledger")


def refuse_leftover(path: Path, work: WorkOptions) -> None:
    """Raise where a broken run left a ledger, and `work` does not say what shall become of it.

    Raises:
        LedgerError: It did, or that run is still at work.
    """
    if path.exists() and not (work.resume or work.restart):
        Ledger.refuse_in_use(path)
        raise LedgerError(
            f"an earlier run was broken and left {path}; go on with --resume, or begin again with "
            "--restart"
        )


@contextmanager
def run_ledger(
    job: Job, runner: Runner, outputs: Sequence[str | Path], work: WorkOptions
) -> Iterator[Ledger]:
    """The ledger of a run, begun or gone on with; what fails in the context tells how to go on.

    Raises:
        LedgerError: It is in use, damaged, of another job, or see `refuse_leftover`.
        WriteError: It cannot be written.
    """
    path = ledger_path(outputs)
    with _opened(path, _header(job, runner), work) as ledger, _kept(ledger, path, work):
        yield ledger


def strip_notes(strip: StripDone, stitcher: Stitcher, before: SeamAudit) -> dict[str, Any]:
    """What the ledger keeps of a strip besides detections; of a size that does not add up.

    Totals are few numbers. Lists (seams, unreadable windows) hold only what this strip added.
    """
    return {
        "counts": asdict(strip.counts),
        "stitcher": stitcher.state.notes(since=before),
        "failed_windows": [astuple(window) for window in strip.failed],
    }


def restore(job: Job, ledger: Ledger) -> tuple[Counts, Stitcher]:
    """Counts and stitcher as they were after the last strip in the ledger."""
    last = ledger.counters
    if not last:
        return Counts(), new_stitcher(job)
    changes = (notes["stitcher"]["audit"] for notes in ledger.counters_of_strips())
    audit = SeamAudit.of_changes(job.plan, changes)
    state = StitchState.restore(ledger.carried, last["stitcher"], audit)
    return Counts(**last["counts"]), new_stitcher(job, state)


def _opened(path: Path, header: LedgerHeader, work: WorkOptions) -> Ledger:
    refuse_leftover(path, work)
    if work.restart:
        Ledger.discard(path)
    if not (work.resume and path.exists()):
        return Ledger.create(path, header)
    ledger = Ledger.resume(path, header)
    _log.info("going on with strip %d of an earlier run", ledger.next_strip)
    return ledger


def _header(job: Job, runner: Runner) -> LedgerHeader:
    """Everything that the result of a run depends on."""
    raster = job.source.raster
    return LedgerHeader(
        model={
            "name": job.card.name,
            "hash": runner.model_hash,
            "backend": runner.name,
        },
        options={
            **job.options.to_dict(),
            "chip_px": job.plan.chip_px,
            "overlap_px": job.plan.overlap_px,
            "aoi_hash": None if job.aoi is None else hash_bytes(to_wkb(job.aoi.geometry)),
            "software": version("geo-retina"),
        },
        raster=raster_fingerprint(raster.path, raster.grid, files=raster.files),
    )


@contextmanager
def _kept(ledger: Ledger, path: Path, work: WorkOptions) -> Iterator[None]:
    """Tell, when the work fails, how to go on; leave no ledger that holds nothing."""
    try:
        yield
    except BaseException as error:
        if ledger.next_strip == 0:
            ledger.remove()
            raise
        kept = f"what was done is kept in {path}: go on with --resume"
        if isinstance(error, RasterReadError):
            skip = "" if work.skip_errors else ", and add --skip-errors to leave such windows out"
            raise RasterReadError(f"{error}; {kept}{skip}") from error
        if isinstance(error, WriteError):
            raise WriteError(f"{error}; {kept}") from error
        raise
