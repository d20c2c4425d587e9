"""Progress bars on stderr, where it is a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo_retina.detection.pipeline import OnProgress as OnDetection
    from geo_retina.training.records import OnProgress as OnTraining
    from geo_retina.training.records import TrainingProgress


@contextmanager
def count_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many of some things are done, and the time left."""
    with _bar(title, "{task.fields[count]}", quiet=quiet, count="") as show:
        yield lambda done, total: show(completed=done, total=total, count=f"{done:,}/{total:,}")


@contextmanager
def training_bar(*, quiet: bool) -> Iterator["OnTraining"]:
    """Show steps, the loss, the quality on val and the time left."""
    columns = ("{task.fields[count]}", "loss {task.fields[loss]:.3f}", "{task.fields[quality]}")
    with _bar("training", *columns, quiet=quiet, count="", loss=float("nan"), quality="") as show:

        def update(progress: "TrainingProgress") -> None:
            quality = "" if progress.quality is None else f"val AP {progress.quality:.3f}"
            show(
                completed=progress.step,
                total=progress.steps,
                count=f"{progress.step:,}/{progress.steps:,}",
                loss=progress.loss,
                quality=quality,
            )

        yield update


@contextmanager
def detection_bar(*, quiet: bool) -> Iterator["OnDetection"]:
    """Show the share that is done, Mpix/s, objects and the time left."""
    columns = (
        "{task.percentage:>3.0f} %",
        "{task.fields[rate]:.2f} Mpix/s",
        "{task.fields[found]} objects",
    )
    started = time.monotonic()
    done_before: float | None = None  # by an earlier run that this one goes on with
    with _bar("detecting", *columns, quiet=quiet, rate=0.0, found=0) as show:

        def update(done: float, total: float, found: int) -> None:
            nonlocal done_before
            done_before = done if done_before is None else done_before
            rate = (done - done_before) / max(time.monotonic() - started, 1e-3)
            show(completed=done, total=total, rate=rate, found=f"{found:,}")

        yield update


@contextmanager
def _bar(
    title: str,
    *columns: str,
    quiet: bool,
    **fields: Any,  # noqa: ANN401  as the columns name them
) -> Iterator[Callable[..., None]]:
    """Give a function that shows `completed` of `total`, and the values of the columns' fields."""
    if quiet or not sys.stderr.isatty():
        yield lambda **_values: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    with Progress(
        title,
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file stays there
    ) as bar:
        yield partial(bar.update, bar.add_task("", total=None, **fields))
