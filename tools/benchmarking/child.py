"""What the programs `run_*` have in common: a job comes in as JSON, a report goes out."""

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_job() -> dict[str, Any]:
    """The job that this process was started with."""
    described: dict[str, Any] = json.loads(sys.argv[1])
    return described


def write_report(
    *,
    ready: float,
    done: float,
    objects: int,
    **more: object,
) -> None:
    """Print the report, as the last line on stdout.

    Args:
        ready: `time.monotonic()` when all was loaded and the work began.
        done: The same when the result was on the disk.
        objects: How many were found.
        more: What else there is to tell.
    """
    print()
    told = {"ready": ready, "done": done, "objects": objects, "peak_mib": peak_mib(), **more}
    print(json.dumps(told), flush=True)


def peak_mib() -> float:
    """Most memory that this process has held so far.

    Linux counts what the parent held at the start into `ru_maxrss`, but not into `VmHWM`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def keep_boxes(job: dict[str, Any], found: Sequence[tuple[Sequence[float], float]]) -> None:
    """Write the objects' boxes and scores to where the job wants them kept, if anywhere.

    Args:
        job: As read.
        found: `[x_min, y_min, x_max, y_max]` in pixels of the raster, and score.
    """
    if job.get("keep"):
        rows = [[*map(float, box), float(score)] for box, score in found]
        Path(job["keep"]).write_text(json.dumps(rows))
