"""How many of the machine's cores are ours."""

import os


def usable_cores() -> int:
    """Cores that this process may use: a cluster or a container may give it a few of many."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
