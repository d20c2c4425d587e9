"""What each answer to the imbalance of foreground and background is worth on aerial imagery.

    python tools/imbalance_study.py prepare --neon-trees FOLDER --oil-tanks FOLDER --out STUDY
    python tools/imbalance_study.py run --out STUDY [--data neon] [--rows ce,fl-2] [--seeds 0,1]
    python tools/imbalance_study.py count --out STUDY [--data neon]
    python tools/imbalance_study.py table --out STUDY --document docs/imbalance-study.md

Each run is one training of a recipe in tools/imbalance/ with the changes of one row, and ends in
one JSON file in STUDY/results; a run that is there is not made again. `table` writes the tables
between the markers of the document. The same training by hand:

    geo-retina train tools/imbalance/neon.toml --data STUDY/neon KEY=VALUE...
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from imbalance.counts import count_anchors, training_targets
from imbalance.prepare import prepare_neon, prepare_tanks
from imbalance.rows import ROWS, TABLES
from imbalance.runs import Task, run_task
from imbalance.tables import write_tables

DATA = ("neon", "tanks")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it says."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    options = _parser().parse_args(arguments)
    options.action(options)


def prepare(options: argparse.Namespace) -> None:
    """Cut the chips of the data sets whose folders are given."""
    if options.neon_trees is not None:
        prepare_neon(options.neon_trees, options.out / "neon")
    if options.oil_tanks is not None:
        prepare_tanks(options.oil_tanks, options.out / "tanks")


def run(options: argparse.Namespace) -> None:
    """Make the runs that are missing, one after the other, seed by seed."""
    import torch

    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for name in options.rows or TABLES[options.table]:
            task = task_of(options.data, name, seed=seed, steps=options.steps)
            found = run_task(task, options.out)
            outcome = found["failure"] or f"AP50 {found['quality']['ap50']:.3f}"
            print(f"{task.name}: {outcome}, {found['cpu_s']:.0f} s of CPU", flush=True)


def count(options: argparse.Namespace) -> None:
    """Tell how many anchors of each row of levels and assignments are foreground."""
    targets = None
    for name in TABLES["dense"]:
        settings = task_of(options.data, name, seed=0, steps=None).settings()
        if targets is None:
            targets = training_targets(settings, options.out / options.data, chips=options.chips)
        print(f"{options.data} {name}: {count_anchors(settings, targets)}")


def table(options: argparse.Namespace) -> None:
    """Write the tables into the document."""
    for name in write_tables(options.out / "results", options.document):
        print(f"{options.document}: {name}")


def task_of(data: str, row: str, *, seed: int, steps: int | None) -> Task:
    """The run of a row with a seed."""
    overrides = ROWS[row].changes(data)
    return Task(data=data, row=row, overrides=overrides, seed=seed, steps=steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)

    cut = commands.add_parser("prepare", help="cut the chips that all runs share")
    cut.add_argument("--neon-trees", type=Path, metavar="FOLDER")
    cut.add_argument("--oil-tanks", type=Path, metavar="FOLDER")
    cut.set_defaults(action=prepare)

    make = commands.add_parser("run", help="train and measure the rows that are missing")
    make.add_argument("--data", choices=DATA, default=DATA[0])
    make.add_argument("--table", choices=TABLES, default="losses", help="rows of this table")
    make.add_argument("--rows", type=_rows, metavar="A,B", help=f"of {', '.join(ROWS)}")
    make.add_argument("--seeds", type=_numbers, default=[0, 1], metavar="0,1")
    make.add_argument("--steps", type=int, help="instead of the recipe's: to try it out")
    make.add_argument("--threads", type=int, default=1)
    make.set_defaults(action=run)

    tell = commands.add_parser("count", help="count foreground and background anchors")
    tell.add_argument("--data", choices=DATA, default=DATA[0])
    tell.add_argument("--chips", type=int, default=100)
    tell.set_defaults(action=count)

    write = commands.add_parser("table", help="write the tables into the document")
    write.add_argument("--document", type=Path, required=True)
    write.set_defaults(action=table)

    for command in (cut, make, tell, write):
        command.add_argument("--out", type=Path, required=True, help="the folder of the study")
    return parser


def _rows(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown rows {unknown}; known: {', '.join(ROWS)}")
    return names


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
