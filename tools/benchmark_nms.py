"""Time our NMS beside others on the same boxes and print a Markdown table.

    python tools/benchmark_nms.py --counts 1e3 1e4 1e5 1e6 --repeats 5
    python tools/benchmark_nms.py --sahi ENVS/sahi/bin/python --json docs/figures/benchmarks.json

All take turns within each repeat, so that a slow spell of the machine hits all of them. A cell
shows the median in milliseconds, half the distance between the quartiles, and how many times our
median it is. What is not installed is left out: `powerboxes` comes with the development tools; for
SAHI, name the interpreter of its environment (`tools/benchmark_peers.py install` makes one), in
which it then runs as a process of its own and times itself. `all pairs` is the textbook loop in
NumPy, which compares each box kept with all that are left.

Only ours uses more than one core; `--threads 1` shows all on one.

Who is expected to need more than `--patience` seconds, from the time that fewer boxes took, is not
asked ("-"), and nobody is asked again whose repeats would need more in all. SAHI may take
`--memory` GiB.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.box_layouts import LAYOUTS, heaped, spread
from benchmarking.measuring import circumstances, cores, store
from benchmarking.nms_contenders import OURS, OURS_IOS, Array, Contender, SahiElsewhere, contenders

PACKAGES = ("geo-retina", "numpy", "numba", "powerboxes", "torchvision")


def measure(
    everyone: dict[str, Contender],
    boxes: Array,
    scores: Array,
    *,
    threshold: float,
    repeats: int,
    patience_s: float,
) -> dict[str, list[float]]:
    """Seconds of each run, interleaved; tells where another than the IoS one keeps other boxes."""
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    _, kept = everyone[OURS].run(boxes, scores, threshold)
    expected, failed = set(kept.tolist()), set()
    for _ in range(repeats):
        for name, contender in everyone.items():
            done = seconds[name]
            if name in failed or (done and sum(done) + done[-1] > patience_s):
                continue
            try:
                elapsed, kept = contender.run(boxes, scores, threshold)
            except MemoryError as error:
                print(f"{name} fails on {len(boxes)} boxes: {error}", file=sys.stderr)
                failed.add(name)
                continue
            seconds[name].append(elapsed)
            if name != OURS_IOS and set(kept.tolist()) != expected:
                print(f"{name} keeps {len(kept)} boxes, we {len(expected)}", file=sys.stderr)
    return {name: times for name, times in seconds.items() if times}


def able(
    everyone: dict[str, Contender],
    before: dict[str, tuple[int, float]],
    count: int,
    *,
    patience_s: float,
) -> dict[str, Contender]:
    """Those of whom `count` boxes can be asked, from the counts and seconds they did before."""
    found = {}
    for name, contender in everyone.items():
        known = before.get(name)
        if known is None:
            continue
        expected = known[1] * (count / known[0]) ** contender.growth
        if expected <= patience_s or name == OURS:
            found[name] = contender
    return found


def _cell(seconds: list[float] | None, ours: float) -> str:
    if not seconds:
        return "-"
    median = statistics.median(seconds)
    low, high = np.quantile(seconds, [0.25, 0.75])
    return f"{1e3 * median:,.1f} ± {500 * (high - low):,.1f} ({median / ours:.2f}x)"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", nargs="+", type=float, default=[1e3, 1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=30, help="seconds, see above")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="cores to use")
    parser.add_argument("--memory", type=float, default=8, help="GiB for SAHI's process")
    parser.add_argument("--sahi", type=Path, help="interpreter of an environment with SAHI")
    parser.add_argument("--json", type=Path, help="file of results to put the numbers into")
    return parser.parse_args()


def run(options: argparse.Namespace, everyone: dict[str, Contender]) -> list[dict[str, Any]]:
    """Measure all layouts and counts; print each row as it comes."""
    warm: dict[str, tuple[int, float]] = {}
    for layout, count in itertools.product((spread, heaped), (1000, 5000)):
        boxes, scores = layout(np.random.default_rng(0), count), np.linspace(0, 1, count)
        for name, contender in everyone.items():  # compiles, and loads what is loaded once
            warm[name] = count, contender.run(boxes, scores, 0.5)[0]
    print("| boxes | " + " | ".join(everyone) + " |")
    print("|---|" + "---:|" * len(everyone))
    rows = []
    for layout in options.layouts:
        before = dict(warm)
        for count in map(int, options.counts):
            generator = np.random.default_rng(options.seed)
            boxes, scores = LAYOUTS[layout](generator, count), generator.random(count)
            seconds = measure(
                able(everyone, before, count, patience_s=options.patience),
                boxes,
                scores,
                threshold=options.threshold,
                repeats=options.repeats,
                patience_s=options.patience,
            )
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            before = {name: (count, median) for name, median in medians.items()}
            cells = [_cell(seconds.get(name), medians[OURS]) for name in everyone]
            print(f"| {count:,} {layout} | " + " | ".join(cells) + " |", flush=True)
            plain = {name: [round(value, 6) for value in times] for name, times in seconds.items()}
            rows.append({"layout": layout, "boxes": count, "seconds": plain})
    return rows


def main() -> None:
    """Run what the command line asks for."""
    options = parse()
    described = circumstances(PACKAGES, threads=options.threads) | {"threshold": options.threshold}
    with ExitStack() as stack:
        sahi = None
        if options.sahi is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            sahi = SahiElsewhere(options.sahi, Path(folder), most_gib=options.memory)
            stack.callback(sahi.close)
        stack.enter_context(cores(options.threads))
        rows = run(options, contenders(sahi))
    if options.json is not None:
        store(options.json, "nms", {**described, "rows": rows})


if __name__ == "__main__":
    main()
