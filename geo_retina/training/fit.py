"""From a recipe to a checkpoint."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pytorch_lightning.utilities import rank_zero_only

from geo_retina.cores import usable_cores
from geo_retina.detection.torch_device import (
    computes_in_bfloat16,
    find_device,
    ran_out_of_memory,
)
from geo_retina.errors import ConfigError, DeviceError
from geo_retina.model.checkpoint import SUFFIX
from geo_retina.training.averaging import AveragedWeights, kept_network
from geo_retina.training.data import TrainingData, read_data
from geo_retina.training.finish import told_card, write_model
from geo_retina.training.memory import advice, refuse_too_large_batch
from geo_retina.training.module import DetectorModule, network_of_state
from geo_retina.training.network import audit_network, audit_text, resolve_network
from geo_retina.training.records import LossRecord, OnProgress
from geo_retina.training.run_folder import find_state, start_run
from geo_retina.training.run_lock import hold_folder
from geo_retina.training.settings import ScheduleSettings, StepDecay, TrainingSettings
from geo_retina.training.split_map import warn_of_changes, write_split_map
from geo_retina.training.start import Start, start_network
from geo_retina.training.surroundings import note_start
from geo_retina.training.trainer import ChipLoader, build_trainer, plain_lightning, run_trainer
from geo_retina.training.validation import Validation
from geo_retina.wording import listed

if TYPE_CHECKING:
    import pytorch_lightning as pl

_log = logging.getLogger(__name__)
_MOST_WORKERS = 8
_FEW_LEARNABLE = 0.9
"""Share of the objects under which it is doubted that the anchors fit."""


def fit(
    settings: TrainingSettings,
    *,
    data_folder: Path,
    run_folder: Path,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train a model.

    The run folder gets the recipe with all defaults, the losses, what was measured on val, a state
    after every epoch and, at the end, the model.

    Args:
        settings: The whole recipe.
        data_folder: Folder that the paths of the sources are relative to.
        run_folder: Where logs, states for resuming and the checkpoint go.
        workers: Processes that prepare chips, for each device; 0 = in the one that trains. None
            chooses: on a CPU, which learns with all cores, none; on a GPU up to 8.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        devices: How many CUDA devices, or processes on the CPU, train together; each takes
            `schedule.batch` chips at once.
        resume: Go on from the last finished epoch in `run_folder`.
        on_progress: Called after each batch.

    Returns:
        Path of the checkpoint, `run_folder/NAME.safetensors`.

    Raises:
        ConfigError: There is a run in the folder and `resume` is not set, or none and it is, or
            it has another recipe, or another training is using the folder.
        OutputError: The folder cannot be written.
        LabelError: Labels are missing or unusable, or train and val share pixels.
        DeviceError: The device is not there, or a batch does not fit its memory.
        UsageError: Another of its kinds, for rasters or weights that do not fit the recipe.
        TrainingError: The loss is not finite.
    """
    chosen = _checked_device(device, devices)
    _check_precision(settings, chosen)
    if not is_first_process():
        logging.getLogger("geo_retina").setLevel(logging.WARNING)  # the first one tells all
    with hold_folder(run_folder) if is_first_process() else nullcontext():
        state = find_state(run_folder, settings, resume=resume)
        data = read_data(settings, data_folder)
        start = _start(settings, data, state)
        network = start.network
        refuse_too_large_batch(network, settings, chosen)
        if is_first_process():
            _warn_of_rates(settings.schedule)
            start_run(run_folder, settings)
            if state is not None:
                warn_of_changes(run_folder, data.sides)
            write_split_map(run_folder, data.sides)
            note_start(run_folder, device=chosen, devices=devices, resumed=state is not None)
        decay = settings.schedule.ema_decay
        averaged = AveragedWeights(decay=decay, device=chosen) if decay > 0 else None
        callbacks: list[pl.Callback] = [
            LossRecord(run_folder, steps=settings.schedule.steps, on_progress=on_progress)
        ]
        callbacks += [] if averaged is None else [averaged]
        if data.val:
            callbacks.append(
                Validation(
                    data.val,
                    run_folder,
                    settings.validation,
                    recipe=settings.model_dump_json(),
                    averaged=averaged,
                    measures_start=start.finds_all,
                )
            )
        card = told_card(settings)
        module = DetectorModule(network, card=card, loss=settings.loss, schedule=settings.schedule)
        with plain_lightning(), _memory_errors(settings, chosen):
            trainer = build_trainer(settings, run_folder, callbacks, device=chosen, devices=devices)
            preparing = _default_workers(chosen, devices) if workers is None else workers
            chips = ChipLoader(data.train, settings, workers=preparing, processes=devices)
            run_trainer(trainer, module, chips, state)
        path = run_folder / f"{settings.card.name}{SUFFIX}"
        if trainer.is_global_zero:
            kept = kept_network(module, averaged)
            write_model(path, kept, card, settings, measured=bool(data.val))
    return path


def _default_workers(device: torch.device, devices: int) -> int:
    """Processes that prepare chips beside each device."""
    if device.type == "cpu":
        return 0
    return max(min(_MOST_WORKERS, (usable_cores() - 1) // devices), 0)


def is_first_process() -> bool:
    """Whether this process speaks for those that train together; Lightning starts the others."""
    return int(getattr(rank_zero_only, "rank", None) or 0) == 0


def _check_precision(settings: TrainingSettings, device: torch.device) -> None:
    """Refuse what Lightning would replace in silence; warn of what is slow.

    Raises:
        ConfigError: float16 on a processor.
    """
    precision = settings.schedule.precision
    if precision == "16-mixed" and device.type == "cpu":
        raise ConfigError(
            "schedule.precision is 16-mixed, which needs a GPU; state bf16-mixed or 32-true"
        )
    if precision == "bf16-mixed" and device.type == "cuda" and not computes_in_bfloat16(device):
        _log.warning(
            "schedule.precision is bf16-mixed, which this GPU only imitates, slowly; 16-mixed is "
            "what it is fast in"
        )


def _warn_of_rates(schedule: ScheduleSettings) -> None:
    """Say which changes of the learning rate come after the last step, as where only steps fell."""
    falls = schedule.decay.at if isinstance(schedule.decay, StepDecay) else ()
    late = [at for at in falls if at >= schedule.steps]
    if late:
        _log.warning(
            "the learning rate will not fall at %s (schedule.decay.at): the training has %d steps; "
            "lower both by the same factor",
            listed(late),
            schedule.steps,
        )
    if schedule.warm_up_steps >= schedule.steps:
        _log.warning(
            "the learning rate still rises when the %d steps end: schedule.warm_up_steps is %d; "
            "lower it",
            schedule.steps,
            schedule.warm_up_steps,
        )


def _start(settings: TrainingSettings, data: TrainingData, state: Path | None) -> Start:
    """The network as the training starts with it; tells what its anchors can learn.

    A resumed run keeps the anchors that it began with: its weights are of use with no others.
    """
    torch.manual_seed(settings.schedule.seed)
    network = resolve_network(settings, data.train)
    begun = None if state is None else network_of_state(state)
    if begun is not None and begun != network:
        _log.warning(
            "the labels, or the model that the run started from, changed since it began: it goes "
            "on with the anchors that it began with, levels %s and sizes %s",
            begun.levels,
            begun.anchors.sizes,
        )
        network = begun
    if settings.validation.calibrate and network.head.objectness:
        raise ConfigError(
            f"validation.calibrate: the network of {settings.start_from} has objectness, and a "
            "score that is a product has no temperature; leave calibrate out"
        )
    audit = audit_network(network, settings, data.train)
    objects = sum(int((~item.ignored).sum()) for item in data.train)
    _log.info("anchors: %s", audit_text(audit, objects=objects))
    learnable = audit.learnable.mean() if len(audit) else 1.0
    if learnable < _FEW_LEARNABLE:
        _log.warning(
            "only %.0f %% of the objects have an anchor that learns them: see whether card.gsd_m "
            "(%g m) is right for objects of the sizes above, and fit the anchors to them "
            "(`geo-retina anchors`, or leave network.levels and network.anchors out)",
            100 * learnable,
            settings.card.gsd_m,
        )
    return start_network(network, settings)


def _checked_device(name: str, devices: int) -> torch.device:
    """The device to train on.

    Raises:
        DeviceError: It is not there.
        ConfigError: Several devices are asked for by the number of one.
    """
    device = find_device(name)
    if devices < 1 or (devices > 1 and device.index is not None):
        raise ConfigError(
            f"expected at least 1 device, and --device cpu or cuda where several train together; "
            f"got {devices} of {name}"
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise DeviceError(
            f"{devices} CUDA devices were asked for, {torch.cuda.device_count()} are visible"
        )
    return device


@contextmanager
def _memory_errors(settings: TrainingSettings, device: torch.device) -> Iterator[None]:
    """Turn torch's out-of-memory errors into one that says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise DeviceError(f"out of memory on {device}: {advice(settings)}") from error
