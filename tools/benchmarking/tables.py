"""Markdown tables of measured results, and where they stand in a document.

A document marks a table by `<!-- table NAME -->` and `<!-- end -->`, each on a line of its own;
what is between is replaced.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]

PARTS = {
    "read": "read and decode the chips",
    "forward": "bare forward pass",
    "forward and decode": "forward pass, boxes and NMS of each chip",
    "stitch": "stitch",
    "write gpkg": "write GeoPackage",
    "write fgb": "write FlatGeobuf",
    "write geojson": "write GeoJSON",
    "whole": "the whole, file to file",
}

RATES = {"megapixels": "raster, Mpix/s", "chip_megapixels": "chips, Mpix/s"}


def fill(document: str, tables: Mapping[str, str]) -> str:
    """Put tables between their marks.

    Raises:
        SystemExit: The document asks for a table that there is not.
    """

    def replacement(found: re.Match[str]) -> str:
        name = found[1]
        if name not in tables:
            raise SystemExit(f"no results for the table {name!r}; there are {', '.join(tables)}")
        return f"<!-- table {name} -->\n\n{tables[name]}\n\n<!-- end -->"

    pattern = r"<!-- table ([\w-]+) -->.*?<!-- end -->"
    return re.sub(pattern, replacement, document, flags=re.DOTALL)


def tables_of(results: Results) -> dict[str, str]:
    """All tables that the results are enough for."""
    builders: dict[str, Callable[[Results], str]] = {
        "same_network": _peers,
        "defaults": _peers,
        "stages": _stages,
        "backends": _stages,
        "training": _training,
        "slow": _slow,
        "start": _start,
    }
    found = {name: build(results[name]) for name, build in builders.items() if name in results}
    if growth_rows(results):
        found["growth"] = _growth(growth_rows(results))
    if "same_network" in results:
        found["agreement"] = _agreement(results["same_network"]["agreement"])
    if "nms" in results:
        layouts = dict.fromkeys(row["layout"] for row in results["nms"]["rows"])
        found |= {f"nms-{layout}": _nms(results["nms"], layout) for layout in layouts}
    if "defaults" in results and "same_network" in results:
        found["readme"] = _readme(results)
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _spread(values: Mapping[str, float], decimals: int) -> str:
    """Median, and the least and the greatest where there are several."""
    median = f"{values['median']:,.{decimals}f}"
    if values["runs"] == 1:
        return median
    return f"{median} ({values['least']:,.{decimals}f} to {values['most']:,.{decimals}f})"


def _digits(value: float) -> str:
    """Two or three digits that mean something."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def _peers(section: Results) -> str:
    first = next(iter(section["runs"].values()))
    rows = [
        [
            name,
            _spread(run["start_up_s"], 1),
            _spread(run["work_s"], 2),
            f"{run['mpix_per_s']['median']:.3f}",
            f"{_times(run, first, 'work_s')} / {_times(run, first, 'whole_s')}",
            f"{run['peak_mib']['median']:,.0f}",
            f"{run['objects']:,}",
        ]
        for name, run in section["runs"].items()
    ]
    head = [
        "",
        "start-up, s",
        "raster to file, s",
        "Mpix/s",
        "time as a multiple of the first row: without / with start-up",
        "peak MiB",
        "objects",
    ]
    return _table(head, rows)


def _times(run: Results, first: Results, what: str) -> str:
    return _digits(run[what]["median"] / first[what]["median"])


def _stages(section: Results) -> str:
    columns = list(section["backends"].values())
    rows = [["chips", *(f"{column['chips']} of {column['chip_px']} px" for column in columns)]]
    rows += [
        [text, *(_part(column["parts"][part]) for column in columns)]
        for part, text in PARTS.items()
    ]
    rows += [
        [text, *(f"{column[size] / _whole_s(column):.2f}" for column in columns)]
        for size, text in RATES.items()
    ]
    ratios = [_spread(column["whole_over_forward"], 2) for column in columns]
    rows.append(["rate of the whole / rate of the bare forward pass", *ratios])
    return _table(["seconds; processor seconds", *section["backends"]], rows)


def _part(part: Results) -> str:
    return f"{_spread(part['seconds'], 2)}; {part['processor_s']['median']:.2f}"


def _whole_s(column: Results) -> float:
    return float(column["parts"]["whole"]["seconds"]["median"])


def growth_rows(results: Results) -> list[Results]:
    """Rows of all calls of `benchmark.py growth`, the smallest raster first."""
    sections = [section for name, section in results.items() if name.startswith("growth")]
    rows = [row for section in sections for row in section["rows"]]
    return sorted(rows, key=lambda row: float(row["megapixels"]))


def _agreement(found: Mapping[str, Results]) -> str:
    rows = [
        [
            name,
            f"{shares['theirs']:,}",
            f"{100 * shares['share_of_ours']:.1f} %",
            f"{100 * shares['share_of_theirs']:.1f} %",
        ]
        for name, shares in found.items()
    ]
    first = next(iter(found.values()))
    head = [
        f"beside {first['ours']:,} boxes on torch",
        "boxes",
        "share of torch's that it finds",
        "share of its own that torch finds",
    ]
    return _table(head, rows)


def _growth(rows: Sequence[Results]) -> str:
    cells = [
        [
            f"{row['megapixels']:,.0f}",
            f"{row['windows']:,}",
            f"{row['objects']:,}",
            _spread(row["work_s"], 1),
            _spread(row["mpix_per_s"], 2),
            _spread(row["peak_mib"], 0),
            f"{row['work_s']['runs']}",
        ]
        for row in rows
    ]
    return _table(["Mpix", "windows", "objects", "s", "Mpix/s", "peak MiB", "runs"], cells)


def _slow(section: Results) -> str:
    rows = [
        [
            row["source"],
            str(row["readers"] or "chosen by itself"),
            _spread(row["work_s"], 1),
            _spread(row["mpix_per_s"], 2),
        ]
        for row in section["rows"]
    ]
    return _table(["read from", "readers", "s", "Mpix/s"], rows)


def _training(section: Results) -> str:
    rows, base = [], ("", 0.0)
    for found in section["contenders"]:
        rate = found["images_per_s"]["median"]
        if found["network"] != base[0]:
            base = (found["network"], rate)
        rows.append(
            [
                found["network"],
                found["name"],
                _spread(found["images_per_s"], 2),
                f"{rate / base[1]:.2f}",
                _spread(found["peak_mib"], 0),
            ]
        )
    return _table(["network", "step", "images/s", "of the first", "peak MiB"], rows)


def _start(section: Results) -> str:
    row = [section["raster"], _spread(section["seconds"], 2), str(section["seconds"]["runs"])]
    return _table(["raster", "seconds", "runs"], [row])


def _nms(section: Results, layout: str) -> str:
    rows = [row for row in section["rows"] if row["layout"] == layout]
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    ours = names[0]
    table = []
    for row in rows:
        base = statistics.median(row["seconds"][ours])
        cells = [_nms_cell(row["seconds"].get(name), base) for name in names]
        table.append([f"{row['boxes']:,}", *cells])
    return _table(["boxes", *names], table)


def _nms_cell(seconds: Sequence[float] | None, base: float) -> str:
    if not seconds:
        return "-"
    median = statistics.median(seconds)
    reach = f" ({1e3 * min(seconds):,.1f} to {1e3 * max(seconds):,.1f})" if len(seconds) > 1 else ""
    times = "" if median == base else f", {_digits(median / base)}x"
    return f"{1e3 * median:,.1f}{reach}{times}"


def _readme(results: Results) -> str:
    sections = {"same_network": "one ResNet-50 in all", "defaults": "own defaults"}
    rows = [
        [
            f"{name}; {what}",
            f"{run['mpix_per_s']['median']:.3f}",
            f"{run['whole_s']['median']:.1f}",
            f"{run['peak_mib']['median']:,.0f}",
        ]
        for section, what in sections.items()
        for name, run in results[section]["runs"].items()
    ]
    return _table(["", "Mpix/s", "seconds from process start", "peak MiB"], rows)
