"""How many of the machine's cores are ours."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # as a container sees its own control group


def usable_cores() -> int:
    """Cores that this process may use: a cluster or a container may give it a few of many."""
    cores = visible_cores()
    return min(cores, _cores_of_quota() or cores)


def visible_cores() -> int:
    """Cores that this process may run on, whatever share of their time it is given."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to_usable_cores() -> None:
    """Let libraries that are not loaded yet, torch above all, start a thread a usable core."""
    if usable_cores() < visible_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def _cores_of_quota() -> int | None:
    """What a container may use in all, as with `docker run --cpus 2`; None where nothing limits it.

    Libraries do not look at it: on a large machine they start a thread a core, which then wait for
    each other, and take memory for each.
    """
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, 1
        try:
            quota, period = " ".join((_CGROUP / file).read_text() for file in files).split()
            if int(quota) > 0:
                return math.ceil(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # no such version; or quota is "max"
            continue
    return None
