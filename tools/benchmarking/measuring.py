"""Times of runs, summed up; processes of their own, with their peak memory; the machine."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarking.gpu import gpu_name

TOOLS = Path(__file__).parents[1]

MOST_OTHERS = 0.5
"""A run is disturbed where other programs took more of the processor time than this."""
MOST_TRIES = 3

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least, greatest and number of some measurements."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
        "runs": len(values),
    }


@dataclass(frozen=True, slots=True)
class ChildRun:
    """One run of a program in a process of its own."""

    report: dict[str, Any]
    """The last line that it printed, from JSON."""
    start_up_s: float
    """From the start of the process until all was loaded."""
    work_s: float
    """From then until the result was on the disk."""
    peak_mib: float
    """Most memory that the process held."""
    cpu_s: float
    """Processor time of all its threads."""
    others: float
    """Share of the processor time of its cores that other programs took; 0 where nobody tells."""

    @property
    def whole_s(self) -> float:
        """From the start of the process until the result was on the disk."""
        return self.start_up_s + self.work_s


def run_child(python: Path | str, module: str, job: Mapping[str, Any], *, threads: int) -> ChildRun:
    """Run `benchmarking.<module>` with a job on an interpreter, and wait for it.

    Args:
        python: Interpreter; its environment has what the module measures.
        module: Such as `run_sahi`.
        job: What to do, as JSON.
        threads: Cores that the process may use, where the system can tell it so, and threads of its
            libraries.

    Raises:
        SystemExit: The program failed; its last words are in the message.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": os.pathsep.join([str(TOOLS), *_path_given()]),
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    if job.get("backend") != "torch-cuda":  # all contenders run on the CPU, whatever lies beside it
        environment["CUDA_VISIBLE_DEVICES"] = ""
    text = json.dumps({**job, "threads": threads})
    command = [str(python), "-P", "-m", f"benchmarking.{module}", text]
    started, busy = time.monotonic(), _busy_s()
    with (
        cores(threads),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process,
    ):
        output, complaints = _read_both(process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{module} ended with code {process.returncode}:\n{complaints[-3000:]}")
    report = json.loads(output.strip().splitlines()[-1])
    own = usage.ru_utime + usage.ru_stime
    given = (time.monotonic() - started) * (os.cpu_count() or 1)
    return ChildRun(
        report=report,
        start_up_s=report["ready"] - started,
        work_s=report["done"] - report["ready"],
        peak_mib=report["peak_mib"],
        cpu_s=own,
        others=max(_busy_s() - busy - own, 0) / given,
    )


def run_undisturbed(
    python: Path | str, module: str, job: Mapping[str, Any], *, threads: int
) -> ChildRun:
    """As `run_child`, once more where other programs took more than `MOST_OTHERS` of the cores.

    After `MOST_TRIES` the least disturbed run counts.
    """
    tries: list[ChildRun] = []
    while len(tries) < MOST_TRIES and all(run.others > MOST_OTHERS for run in tries):
        tries.append(run_child(python, module, job, threads=threads))
        if tries[-1].others > MOST_OTHERS:
            share = f"{100 * tries[-1].others:.0f} %"
            print(f"{module}: other programs took {share}: once more", file=sys.stderr, flush=True)
    return min(tries, key=lambda run: run.others)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Let processes that are started here run on so many cores only, where Linux can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def summary(runs: Sequence[ChildRun], *, megapixels: float) -> dict[str, Any]:
    """Several runs of one program on one raster, as plain data."""
    return {
        "start_up_s": spread([run.start_up_s for run in runs]),
        "work_s": spread([run.work_s for run in runs]),
        "whole_s": spread([run.whole_s for run in runs]),
        "mpix_per_s": spread([megapixels / run.work_s for run in runs]),
        "peak_mib": spread([run.peak_mib for run in runs]),
        "cpu_s": spread([run.cpu_s for run in runs]),
        "others": spread([run.others for run in runs]),
        "objects": runs[-1].report["objects"],
    }


def circumstances(packages: Sequence[str], *, threads: int) -> dict[str, Any]:
    """Machine, date, versions and command of what is measured in this process."""
    return {
        "cpu": _cpu(),
        "gpu": gpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "threads": threads,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {"python": platform.python_version(), **versions(packages)},
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed in this environment."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def store(path: Path | None, section: str, value: object) -> None:
    """Put a section into a JSON file of results, beside those that are there; print it anyway."""
    print(json.dumps({section: value}, indent=1))
    if path is None:
        return
    results = json.loads(path.read_text()) if path.exists() else {}
    results[section] = value
    path.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def _read_both(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """All of stdout and stderr. `Popen.communicate` would reap the process, and its usage go."""
    from threading import Thread

    complaints: list[str] = []
    pipe = process.stderr
    reader = Thread(target=lambda: complaints.append(pipe.read() if pipe else ""))
    reader.start()
    output = process.stdout.read() if process.stdout else ""
    reader.join()
    return output, "".join(complaints)


def _busy_s() -> float:
    """Seconds that all cores together have worked since the start of the system; 0 if unknown."""
    file = Path("/proc/stat")
    if not file.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, file.read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _path_given() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _cpu() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
