"""What NVIDIA's driver tells of a GPU."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_EVERY_MS = 50


def gpu_name() -> str | None:
    """The first GPU; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.strip() or None if told.returncode == 0 else None


@contextmanager
def gpu_use(shares: list[float]) -> Iterator[None]:
    """Add to `shares`, at the end, how busy the GPU was at each of many moments, 0 to 1."""
    asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    watching = subprocess.Popen(
        [*asked, f"--loop-ms={_EVERY_MS}"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield
    finally:
        watching.terminate()
        told, _ = watching.communicate()
        shares += [float(line) / 100 for line in told.splitlines() if line.strip().isdigit()]
