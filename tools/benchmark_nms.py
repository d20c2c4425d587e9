"""Time our NMS beside others on the same boxes and print a Markdown table.

    python tools/benchmark_nms.py --counts 1e3 1e4 1e5 1e6 --repeats 5

All run in this process, one after the other within each repeat, so that a slow spell of the machine
hits all of them. A cell shows the median in milliseconds, half the distance between the quartiles,
and how many times our median it is. What is not installed is left out: `powerboxes` comes with the
development tools, `sahi` has to be installed by hand. `all pairs` is the textbook loop in NumPy,
which compares each box kept with all that are left, as SAHI does too.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_retina.space.boxes import Overlap
from geo_retina.space.nms import nms

Array = NDArray[np.float64]
Nms = Callable[[Array, Array, float], "NDArray[np.int64]"]

OURS = "geo_retina"


@dataclass(frozen=True, slots=True)
class Contender:
    """One implementation of greedy NMS on IoU."""

    run: Nms
    """Takes boxes (N, 4), scores (N,) and the threshold; returns the positions kept."""
    most: int
    """It is not asked for more boxes than this: it would take minutes or all memory."""
    package: str | None = None
    """Distribution whose version is reported."""


def spread(generator: np.random.Generator, count: int) -> Array:
    """Boxes of 10 to 40 px, one on each 32 x 32 px on average."""
    low = generator.uniform(0, 32 * np.sqrt(count), (count, 2))
    return np.hstack([low, low + generator.uniform(10, 40, (count, 2))])


def heaped(generator: np.random.Generator, count: int) -> Array:
    """Heaps of about 1,000 boxes of 20 to 40 px around one place."""
    places = generator.uniform(0, 32 * np.sqrt(count), (max(count // 1000, 1), 2))
    low = generator.choice(places, count) + generator.normal(0, 4, (count, 2))
    return np.hstack([low, low + generator.uniform(20, 40, (count, 2))])


def mixed(generator: np.random.Generator, count: int) -> Array:
    """Squares of 1 to 10,000 px, as many of each order of magnitude."""
    low = generator.uniform(0, 100 * np.sqrt(count), (count, 2))
    return np.hstack([low, low + 10 ** generator.uniform(0, 4, (count, 1))])


LAYOUTS = {"spread": spread, "heaped": heaped, "mixed": mixed}


def _ours(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    return nms(boxes, scores, threshold=threshold)


def _ours_ios(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    return nms(boxes, scores, threshold=threshold, overlap=Overlap.IOS)


def _powerboxes(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    import powerboxes

    kept = powerboxes.rtree_nms(boxes, scores, threshold, 0.0)
    return np.asarray(kept, np.int64)


def _torchvision(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    import torch
    from torchvision.ops import nms as torchvision_nms

    kept = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    return np.asarray(kept.numpy(), np.int64)


def _sahi(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    sahi_nms = importlib.import_module("sahi.postprocess.combine").nms

    table = np.column_stack([boxes, scores, np.zeros(len(scores))])
    return np.asarray(sahi_nms(table, match_metric="IOU", match_threshold=threshold), np.int64)


def _all_pairs(boxes: Array, scores: Array, threshold: float) -> NDArray[np.int64]:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left, kept = np.argsort(-scores), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        left = left[shared <= threshold * (areas[best] + areas[left] - shared)]
    return np.array(kept, np.int64)


def contenders() -> dict[str, Contender]:
    """All that are installed; ours comes first."""
    everyone = {
        OURS: Contender(_ours, 10**8),
        "geo_retina (IoS)": Contender(_ours_ios, 10**8),
        "powerboxes rtree_nms": Contender(_powerboxes, 10**7, "powerboxes"),
        "torchvision nms": Contender(_torchvision, 10**5, "torchvision"),
        "sahi nms": Contender(_sahi, 10**5, "sahi"),
        "all pairs": Contender(_all_pairs, 10**4),
    }
    return {
        name: contender
        for name, contender in everyone.items()
        if contender.package is None or importlib.util.find_spec(contender.package)
    }


def measure(
    everyone: dict[str, Contender], boxes: Array, scores: Array, *, threshold: float, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each run, interleaved; fails where another than the IoS one keeps other boxes."""
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    expected = set(_ours(boxes, scores, threshold).tolist())
    for _ in range(repeats):
        for name, contender in everyone.items():
            started = time.perf_counter()
            kept = contender.run(boxes, scores, threshold)
            seconds[name].append(time.perf_counter() - started)
            if contender.run is not _ours_ios and set(kept.tolist()) != expected:
                print(f"{name} keeps {len(kept)} boxes, we {len(expected)}", file=sys.stderr)
    return seconds


def _cell(seconds: list[float] | None, ours: float) -> str:
    if not seconds:
        return "-"
    median = statistics.median(seconds)
    low, high = np.quantile(seconds, [0.25, 0.75])
    return f"{1e3 * median:,.1f} ± {500 * (high - low):,.1f} ({median / ours:.2f}x)"


def _machine() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in ("geo-retina", "numpy", "numba", "powerboxes", "torchvision", "sahi"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", nargs="+", type=float, default=[1e3, 1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    everyone = contenders()
    warm = spread(np.random.default_rng(0), 50_000)
    for contender in everyone.values():  # compiles, and loads what is loaded once
        contender.run(warm[: contender.most], np.linspace(0, 1, len(warm))[: contender.most], 0.5)

    print(f"{_machine()}; {datetime.now(UTC):%Y-%m-%d}; {_versions()}.")
    print(f"Threshold {options.threshold}, {options.repeats} repeats; milliseconds.\n")
    print("| boxes | " + " | ".join(everyone) + " |")
    print("|---|" + "---:|" * len(everyone))
    for layout in options.layouts:
        for count in map(int, options.counts):
            generator = np.random.default_rng(options.seed)
            boxes, scores = LAYOUTS[layout](generator, count), generator.random(count)
            able = {name: one for name, one in everyone.items() if count <= one.most}
            seconds = measure(
                able, boxes, scores, threshold=options.threshold, repeats=options.repeats
            )
            ours = statistics.median(seconds[OURS])
            cells = [_cell(seconds.get(name), ours) for name in everyone]
            print(f"| {count:,} {layout} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
