"""Lightning, as this package runs it."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.utils.data import DataLoader

from geo_retina.training.dataset import EpochSampler, RandomChips, Sample, collate
from geo_retina.training.module import DetectorModule
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.run_folder import STATE_NAME
from geo_retina.training.settings import TrainingSettings

TENSORBOARD_NAME = "tensorboard"
"""Folder in the run folder with the curves for `tensorboard --logdir`."""

_LONGEST_WAIT = timedelta(hours=12)
"""For one process to measure val while the others wait."""


class ChipLoader(pl.LightningDataModule):
    """Chips for this process, once Lightning knows which one it is."""

    def __init__(
        self,
        rasters: Sequence[TrainingRaster],
        settings: TrainingSettings,
        *,
        workers: int,
        processes: int,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._rasters = rasters
        self._workers = workers
        self._processes = processes

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches of one epoch after the other."""
        assert self.trainer is not None  # noqa: S101  # set by Lightning
        settings, schedule = self._settings, self._settings.schedule
        chips = RandomChips(
            self._rasters, card=settings.card, augment=settings.augment, seed=schedule.seed
        )
        count = schedule.epoch_steps * schedule.accumulate * schedule.batch * self._processes
        sampler = EpochSampler(count, process=self.trainer.global_rank, processes=self._processes)
        # Lightning moves the sampler to its epoch too late for the first chips of a resumed run:
        # other processes begin to prepare them as soon as there is a loader.
        progress = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)  # type: ignore[attr-defined]
        return DataLoader(
            chips,
            batch_size=schedule.batch,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,  # they keep what they have read of the rasters
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )


def build_trainer(
    settings: TrainingSettings,
    run_folder: Path,
    callbacks: Sequence[pl.Callback],
    *,
    device: torch.device,
    devices: int,
) -> pl.Trainer:
    """A trainer for a recipe; it keeps the state in the run folder after every epoch.

    Args:
        settings: The recipe.
        run_folder: Where states and logs go.
        callbacks: What is done beside learning, in this order.
        device: To train on.
        devices: How many of its kind, each with a process of its own.
    """
    schedule = settings.schedule
    keeper = ModelCheckpoint(
        dirpath=run_folder,
        filename=Path(STATE_NAME).stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    on_cuda = device.type == "cuda"
    numbered = [device.index] if on_cuda and device.index is not None else devices
    strategy: str | Strategy = "auto" if devices == 1 else DDPStrategy(timeout=_LONGEST_WAIT)
    return pl.Trainer(
        accelerator="gpu" if on_cuda else "cpu",
        devices=numbered,
        strategy=strategy,
        use_distributed_sampler=False,  # ours knows its process
        precision=schedule.precision,
        # Not max_steps: with that, Lightning resumes a finished epoch by one more batch of it.
        max_epochs=schedule.epochs,
        accumulate_grad_batches=schedule.accumulate,
        gradient_clip_val=schedule.clip_norm or None,
        callbacks=[*callbacks, keeper],
        logger=TensorBoardLogger(run_folder, name="", version=TENSORBOARD_NAME),
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def run_trainer(
    trainer: pl.Trainer, module: DetectorModule, loader: ChipLoader, state: Path | None
) -> None:
    """Fit; Ctrl-C comes out as itself, where Lightning would end the program."""
    try:
        trainer.fit(module, datamodule=loader, ckpt_path=state, weights_only=False)
    except SystemExit as error:
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise


@contextmanager
def plain_lightning() -> Iterator[None]:
    """Keep Lightning's greetings and hints for beginners off stderr; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\.")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
