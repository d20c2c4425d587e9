"""Progress bars on stderr, where it is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geo_retina.training.records import OnProgress, TrainingProgress


@contextmanager
def count_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many of some things are done, and the time left."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training_bar(*, quiet: bool) -> Iterator["OnProgress"]:
    """Show steps, steps per second, the loss, the quality on val and the time left."""
    if quiet or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "training",
        BarColumn(),
        MofNCompleteColumn(),
        "loss {task.fields[loss]:.3f}",
        "{task.fields[quality]}",
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None, loss=float("nan"), quality="")

        def update(progress: "TrainingProgress") -> None:
            quality = "" if progress.quality is None else f"val AP {progress.quality:.3f}"
            bar.update(
                task,
                completed=progress.step,
                total=progress.steps,
                loss=progress.loss,
                quality=quality,
            )

        yield update
