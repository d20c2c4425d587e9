"""What a training tells: a CSV file with the losses, and its progress."""

import csv
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from geo_retina.errors import WriteError
from geo_retina.wording import duration, three_digits

_log = logging.getLogger(__name__)

METRICS_NAME = "metrics.csv"
"""File in the run folder with the losses, one row for each `EVERY_STEPS` steps."""
EVERY_STEPS = 10
_DIVERGED = 10
"""Times the first loss."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is."""

    step: int
    steps: int
    loss: float
    """Of the last batch."""
    quality: float | None
    """Last average precision on val; None before the first measurement or without val."""


OnProgress = Callable[[TrainingProgress], None]


class StepTable:
    """A CSV file of numbers by step that a resumed run continues as if it had never stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_after(self, step: int) -> None:
        """Drop the rows of later steps, which will be made again.

        Raises:
            WriteError: The file cannot be written.
        """
        rows = [row for row in self.rows() if int(float(row["step"])) <= step]
        with _writing(self.path):
            self.path.unlink(missing_ok=True)
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, object]) -> None:
        """Add one row; the first one names the columns, and what has none is left out.

        So a run that an earlier version began keeps the columns of that.

        Raises:
            WriteError: The file cannot be written.
        """
        with _writing(self.path), self.path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            known = csv.DictReader(file).fieldnames
            file.seek(0, os.SEEK_END)
            writer = csv.DictWriter(file, known or list(row), extrasaction="ignore")
            if known is None:
                writer.writeheader()
            writer.writerow(row)

    def rows(self) -> list[dict[str, str]]:
        """All rows; none where there is no file."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class LossRecord(pl.Callback):
    """Writes mean losses and learning rates, and tells the progress."""

    def __init__(self, folder: Path, *, steps: int, on_progress: OnProgress | None) -> None:
        self._table = StepTable(folder / METRICS_NAME)
        self._steps = steps
        self._on_progress = on_progress
        self._losses: list[dict[str, float]] = []
        self._last_step = 0
        self._epoch_start = (0, 0.0)
        self._told = 0
        self._loss = float("nan")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Forget what a broken run wrote after its last state."""
        self._last_step = trainer.global_step
        if trainer.global_step:
            _log.info("going on after step %d of %d", trainer.global_step, self._steps)
        if trainer.is_global_zero:
            self._table.cut_after(trainer.global_step)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Take the time: what val took since is no part of a step."""
        self._epoch_start = (trainer.global_step, time.monotonic())

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401  Lightning's own loose type
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Take note of a batch; write a row now and then."""
        if not trainer.is_global_zero:
            return
        losses = {name: float(value) for name, value in outputs.items() if _is_scalar(value)}
        losses["loss"] *= trainer.accumulate_grad_batches  # by which Lightning has divided it
        self._losses.append(losses)
        step = trainer.global_step
        if self._on_progress is not None:
            quality = trainer.callback_metrics.get("val_ap")
            self._on_progress(
                TrainingProgress(
                    step,
                    self._steps,
                    losses["loss"],
                    None if quality is None else float(quality),
                )
            )
        if step > self._last_step and step % EVERY_STEPS == 0:
            self._write(trainer)
            if not self._told:
                self._tell(step)
        self._last_step = step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Write what is left: a resumed run starts its means anew; tell how far it is."""
        if self._losses:
            self._write(trainer)
        if trainer.is_global_zero:
            self._tell(trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Say so where the training diverged without an end in numbers that are not finite."""
        losses = [float(row["loss"]) for row in self._table.rows()]
        if trainer.is_global_zero and losses and losses[-1] > _DIVERGED * losses[0]:
            _log.warning(
                "the loss rose from %.3g to %.3g: the training diverged; lower "
                "schedule.learning_rate, or raise schedule.warm_up_steps",
                losses[0], losses[-1],
            )  # fmt: skip

    def _tell(self, step: int) -> None:
        """Log how far it is, for runs without a progress bar, and how long the rest will take."""
        if step == self._told:
            return
        first, start = self._epoch_start
        seconds = (time.monotonic() - start) / max(step - first, 1)
        left = self._steps - step
        rest = f", {duration(seconds * left)} of learning to go" if left > 0 else ""
        _log.info(
            "step %d of %d: loss %.3f, %s s a step%s",
            step, self._steps, self._loss, three_digits(seconds), rest,
        )  # fmt: skip
        self._told = step

    def _write(self, trainer: pl.Trainer) -> None:
        means = _means(self._losses)
        self._loss = means["loss"]
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self._table.add(
            {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                **{name: f"{value:.6g}" for name, value in means.items()},
                "learning_rate": f"{max(rates):.6g}",
            }
        )
        self._losses = []


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error}; free space or mend its permissions, then go on with "
            "--resume"
        ) from error
