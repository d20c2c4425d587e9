"""From settings to a checkpoint."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from geo_retina.errors import ConfigError, LabelError, OutputError
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.voc import read_voc
from geo_retina.model.checkpoint import SUFFIX, save_checkpoint
from geo_retina.model.pretrained import load_pretrained
from geo_retina.model.retinanet import build_retinanet
from geo_retina.training.dataset import EpochSampler, RandomChips, WeightedRaster, collate
from geo_retina.training.module import DetectorModule
from geo_retina.training.settings import CsvSource, ScheduleSettings, Source, TrainingSettings

_log = logging.getLogger(__name__)


STATE_NAME = "state.ckpt"
"""File in the run folder from which a training goes on."""


def fit(
    settings: TrainingSettings,
    *,
    data_folder: Path,
    run_folder: Path,
    workers: int = 0,
    device: str = "auto",
    resume: bool = False,
    quiet: bool = False,
) -> Path:
    """Train a model.

    Args:
        settings: The whole recipe.
        data_folder: Folder that the paths of the sources are relative to.
        run_folder: Where logs, states for resuming and the checkpoint go.
        workers: Processes that prepare chips; 0 = in this one.
        device: `cpu`, `cuda` or `auto`.
        resume: Go on from the last state in `run_folder`.
        quiet: Show no progress bar.

    Returns:
        Path of the checkpoint, `run_folder/NAME.safetensors`.

    Raises:
        ConfigError: There is a run in the folder and `resume` is not set, or none and it is.
        LabelError: Labels are missing or unusable.
        TrainingError: The loss is not finite.
    """
    state = _state(run_folder, resume=resume)
    schedule = settings.schedule
    pl.seed_everything(schedule.seed, workers=True, verbose=False)
    rasters = read_sources(settings.train, data_folder, settings.card.class_names)
    network = build_retinanet(settings.network)
    if settings.pretrained is not None:
        load_pretrained(network.backbone, settings.pretrained)
    chips = RandomChips(
        rasters, augment=settings.augment, bands=settings.network.in_bands, seed=schedule.seed
    )
    loader = DataLoader(
        chips,
        batch_size=schedule.batch,
        sampler=EpochSampler(schedule.epoch_steps * schedule.batch),
        collate_fn=collate,
        num_workers=workers,
    )
    trainer = _trainer(schedule, run_folder, device=device, quiet=quiet)
    module = DetectorModule(network, card=settings.card, loss=settings.loss, schedule=schedule)
    trainer.fit(module, loader, ckpt_path=state)
    path = run_folder / f"{settings.card.name}{SUFFIX}"
    save_checkpoint(path, network, settings.card)
    _log.info("wrote %s", path)
    return path


def _state(run_folder: Path, *, resume: bool) -> Path | None:
    """The state to go on from; None for a new run."""
    state = run_folder / STATE_NAME
    if resume and not state.is_file():
        raise ConfigError(f"nothing to resume: {state} is not there; leave --resume out")
    if state.is_file() and not resume:
        raise ConfigError(f"{run_folder} holds a run; go on with --resume or choose another --out")
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the run folder {run_folder}: {error}") from error
    return state if resume else None


def _trainer(
    schedule: ScheduleSettings, run_folder: Path, *, device: str, quiet: bool
) -> pl.Trainer:
    keeper = ModelCheckpoint(
        dirpath=run_folder,
        filename=Path(STATE_NAME).stem,
        every_n_epochs=1,
        enable_version_counter=False,
    )
    callbacks: list[pl.Callback] = [keeper]
    if schedule.ema_decay > 0:
        callbacks.append(EMAWeightAveraging(decay=schedule.ema_decay))
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        max_steps=schedule.steps,
        gradient_clip_val=schedule.clip_norm,
        callbacks=callbacks,
        logger=CSVLogger(run_folder, name="", version=""),
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=not quiet,
    )


def read_sources(
    sources: Sequence[Source], folder: Path, class_names: Sequence[str]
) -> list[WeightedRaster]:
    """Read the labels of all sources.

    Raises:
        LabelError: A file is missing, or a source has no image.
    """
    found = []
    for source in sources:
        rasters = _read_source(source, folder, tuple(class_names))
        if not rasters:
            raise LabelError(f"the source {source!r} has no image: check its paths and its split")
        boxes = sum(len(raster.labels.boxes) for raster in rasters)
        _log.info("%d images with %d objects from %s", len(rasters), boxes, source.kind)
        found += [WeightedRaster(raster, source.weight) for raster in rasters]
    return found


def _read_source(
    source: Source, folder: Path, class_names: tuple[str, ...]
) -> list[LabelledRaster]:
    if isinstance(source, CsvSource):
        found = read_deepforest_csv(
            folder / source.labels, folder / source.images, class_names=class_names
        )
        chosen = [
            raster
            for raster in found
            if source.split in (None, raster.split)
            and fnmatch(Path(raster.raster).name, source.names)
        ]
        return [_above_score(raster, source.least_score) for raster in chosen]
    return [
        raster
        for image in source.images
        for raster in read_voc((folder / image).with_suffix(".xml"), class_names=class_names)
    ]


def _above_score(raster: LabelledRaster, least: float) -> LabelledRaster:
    scores = raster.labels.scores
    if scores is None:
        return raster
    return replace(raster, labels=raster.labels.select(scores >= least))
