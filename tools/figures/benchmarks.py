"""Draw the chart of measured results and fill the tables of the documents that quote them.

    python tools/figures/benchmarks.py docs/figures/benchmarks.json \
        --chart docs/figures/benchmarks.png --fill docs/benchmarks.md README.md

The results come from `tools/benchmark.py`, `tools/benchmark_peers.py` and `tools/benchmark_nms.py`,
called with `--json docs/figures/benchmarks.json`.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarking.tables import fill, growth_rows, tables_of

OURS, THEIRS = "#1b7837", "#9970ab"


def main() -> None:
    """Draw and fill what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--chart", type=Path, help="PNG to write")
    parser.add_argument("--fill", type=Path, nargs="*", default=[], help="Markdown with marks")
    asked = parser.parse_args()
    results = json.loads(asked.results.read_text())
    tables = tables_of(results)
    for document in asked.fill:
        document.write_text(fill(document.read_text(), tables))
        print(document)
    if asked.chart is not None:
        draw(results).savefig(asked.chart, dpi=110)
        print(asked.chart)


def draw(results: dict[str, Any]) -> Figure:
    """Rates beside the peers', growth with the raster, growth of NMS with the boxes."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    rates, growth, nms = figure.subplots(1, 3, width_ratios=[1.3, 1, 1.2])
    draw_rates(rates, results)
    draw_growth(growth, growth_rows(results))
    draw_nms(nms, results["nms"]["rows"])
    return figure


def draw_rates(axes: Axes, results: dict[str, Any]) -> None:
    """Megapixels of raster a second, on a logarithmic axis."""
    bars = [
        (f"{name}\n({what})", run["mpix_per_s"])
        for section, what in (("same_network", "same network"), ("defaults", "defaults"))
        for name, run in results[section]["runs"].items()
    ][::-1]
    names = [name for name, _ in bars]
    values = [rate["median"] for _, rate in bars]
    reach = [
        [rate["median"] - rate["least"] for _, rate in bars],
        [rate["most"] - rate["median"] for _, rate in bars],
    ]
    colours = [OURS if name.startswith("geo_retina") else THEIRS for name in names]
    drawn = axes.barh(names, values, xerr=reach, color=colours, error_kw={"lw": 1})
    axes.bar_label(drawn, fmt="%.2g", padding=4, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 4)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("Mpix of raster / s, without start-up")
    axes.set_title("Raster on disk to file on disk", fontsize=10)


def draw_growth(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Time and peak memory against the raster's size."""
    sizes = [row["megapixels"] for row in rows]
    for key, label, style, colour in (
        ("peak_mib", "peak memory, MiB", "s--", THEIRS),
        ("work_s", "time, s", "o-", OURS),
    ):
        axes.loglog(sizes, [row[key]["median"] for row in rows], style, color=colour, label=label)
    axes.set_xlabel("Mpix of raster")
    axes.set_ylabel("seconds, or MiB")
    axes.set_title("tree-crowns, growth", fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def draw_nms(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Time of NMS on spread boxes."""
    wanted = [row for row in rows if row["layout"] == "spread"]
    for name in dict.fromkeys(name for row in wanted for name in row["seconds"]):
        points = [
            (row["boxes"], statistics.median(row["seconds"][name]))
            for row in wanted
            if name in row["seconds"]
        ]
        style = {"color": OURS, "lw": 2.5} if name == "geo_retina" else {"lw": 1}
        axes.loglog(*zip(*points, strict=True), "o-", markersize=3, label=name, **style)
    axes.set_xlabel("boxes, spread")
    axes.set_ylabel("seconds")
    axes.set_title("NMS", fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7)


if __name__ == "__main__":
    main()
