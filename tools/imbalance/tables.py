"""From the JSON files of the runs to the tables of the document."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from imbalance.rows import TABLES

_HEADER = (
    "",
    "AP50",
    "AP",
    "AP50, smallest third",
    "loss at step 1",
    "highest loss",
    "diverged",
    "seeds",
    "minutes",
)
_QUALITIES = ("ap50", "ap", "ap50_smallest")

Run = dict[str, Any]


def write_tables(results: Path, document: Path) -> list[str]:
    """Write the tables that a document asks for, as far as there are runs.

    It asks by the lines `<!-- TABLE DATA -->` and `<!-- end -->`, such as `<!-- losses neon -->`;
    what stands between them is replaced.

    Returns:
        Names of the tables that were written.

    Raises:
        SystemExit: There are no runs, or the document asks for none of their tables.
    """
    text = document.read_text(encoding="utf-8")
    found = {
        f"{table} {data}": table_text(read_runs(results, table, data), table)
        for table in TABLES
        for data in ("neon", "tanks")
    }
    written = [name for name, body in found.items() if body and f"<!-- {name} -->" in text]
    if not written:
        known = ", ".join(name for name, body in found.items() if body) or "none"
        raise SystemExit(f"{document} asks for no table that there are runs for ({known})")
    for name in written:
        text = _between_markers(text, name, found[name])
    document.write_text(text, encoding="utf-8")
    return written


def read_runs(results: Path, table: str, data: str) -> dict[str, list[Run]]:
    """What the runs of a table found, by row; only rows that have been run."""
    found = {
        row: [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(results.glob(f"{data}-{row}-*.json"))
            if path.stem.removeprefix(f"{data}-{row}-").isdecimal()
        ]
        for row in TABLES[table]
    }
    return {row: runs for row, runs in found.items() if runs}


def table_text(runs: dict[str, list[Run]], table: str) -> str:
    """A Markdown table, one line a row; empty without runs."""
    if not runs:
        return ""
    lines = [_line(_HEADER), _line(["---"] * len(_HEADER))]
    lines += [_line(_cells(TABLES[table][row].label, found)) for row, found in runs.items()]
    return "\n".join(lines)


def _cells(label: str, runs: Sequence[Run]) -> list[str]:
    whole = [run for run in runs if run["quality"] is not None]
    qualities = [_spread([run["quality"][name] for run in whole], 3) for name in _QUALITIES]
    first = _spread([run["losses"][0] for run in runs if run["losses"]], 1)
    highest = _spread([max(run["losses"]) for run in runs if run["losses"]], 1)
    return [
        label,
        *qualities,
        first,
        highest,
        _diverged(runs),
        str(len(runs)),
        f"{statistics.mean(run['cpu_s'] for run in runs) / 60:.1f}",
    ]


def _diverged(runs: Sequence[Run]) -> str:
    """How many runs ended in a loss that was not finite, and after which steps."""
    broken = [len(run["losses"]) for run in runs if run["failure"]]
    if not broken:
        return "no"
    steps = ", ".join(str(step) for step in broken)
    return f"{len(broken)} of {len(runs)}, after {steps} steps"


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean, lowest and highest."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return mean if low == high else f"{mean} ({low} to {high})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _between_markers(text: str, name: str, body: str) -> str:
    start, end = f"<!-- {name} -->", "<!-- end -->"
    before, _, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not closed:
        raise SystemExit(f"the document lacks the line {end} after {start}")
    return f"{before}{start}\n{body}\n{end}{after}"
