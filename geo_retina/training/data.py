"""All that a training learns from and is measured on, read and checked before it starts."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from geo_retina.card import ModelCard
from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.leakage import LeakageReport, audit_splits
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.training.class_counts import tell_classes
from geo_retina.training.division import divide_sources, refuse_empty_side, warn_of_few_labels
from geo_retina.training.rasters import TrainingRaster, prepare_rasters
from geo_retina.training.settings import TrainingSettings
from geo_retina.training.sources import Reading, Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ValRaster:
    """A raster to measure on."""

    labelled: LabelledRaster
    """As its file says, in its own pixels: `geo-retina evaluate` measures the same."""
    reading: Reading


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Rasters of both sides, and what the audit said of them."""

    train: tuple[TrainingRaster, ...]
    val: tuple[ValRaster, ...]
    """Empty where nothing is measured while training."""
    leakage: LeakageReport | None
    """None without val."""
    sides: tuple[LabelledRaster, ...] = ()
    """All rasters as their files say, with their split."""


@dataclass(frozen=True, slots=True, eq=False)
class _Divided:
    """What a source gives to train and val."""

    source: Source
    train: list[LabelledRaster]
    val: list[LabelledRaster]


def read_data(settings: TrainingSettings, folder: Path) -> TrainingData:
    """Read all labels and open all rasters of a recipe.

    Args:
        settings: The recipe.
        folder: Folder that its paths are relative to.

    Raises:
        LabelError: Labels are missing or wrong, train or val is empty, or they share pixels or
            ground.
        UsageError: Another of its kinds, for a raster that does not fit the card.
    """
    parts = _divided(settings, folder)
    if settings.divide is not None:
        warn_of_few_labels(
            [item for part in parts for item in (*part.train, *part.val)], settings.divide
        )
    train, val, everything = [], [], []
    for part in parts:
        train += _prepared(part.source, part.train, settings.card)
        _prepared(part.source, part.val, settings.card)  # to check them
        val += [ValRaster(item, part.source.reading) for item in part.val]
        everything += [replace(item, split=TRAIN) for item in part.train]
        everything += [replace(item, split=VAL) for item in part.val]
    if not any((~item.ignored).any() for item in train):
        raise LabelError(f"the {len(train)} train rasters hold no object: nothing can be learned")
    tell_classes(everything, settings.card.class_names)
    leakage = _audit(everything) if val else None
    return TrainingData(tuple(train), tuple(val), leakage, tuple(everything))


def read_val(settings: TrainingSettings, folder: Path) -> tuple[ValRaster, ...]:
    """The val side of a recipe alone, as `read_data` gives it; nothing is compared with train.

    Raises:
        LabelError: Labels are missing or wrong, or the recipe has no val side.
    """
    if settings.divide is None and not settings.val:
        raise LabelError("the recipe has no val side: name the labels to evaluate on (--labels)")
    return tuple(
        ValRaster(item, part.source.reading)
        for part in _divided(settings, folder)
        for item in part.val
    )


def _divided(settings: TrainingSettings, folder: Path) -> list[_Divided]:
    names = settings.card.class_names
    found = [(source, source.read(folder, names)) for source in settings.train]
    if settings.divide is None:
        parts = [_Divided(source, items, []) for source, items in found]
        return parts + [_Divided(source, [], source.read(folder, names)) for source in settings.val]
    divided = divide_sources(settings.divide, [items for _, items in found])
    refuse_empty_side([item for items in divided for item in items], settings.divide)
    return [
        _Divided(source, _side(items, TRAIN), _side(items, VAL))
        for source, items in zip(settings.train, divided, strict=True)
    ]


def _side(labelled: Iterable[LabelledRaster], split: str) -> list[LabelledRaster]:
    return [item for item in labelled if item.split == split]


def _prepared(
    source: Source, labelled: list[LabelledRaster], card: ModelCard
) -> list[TrainingRaster]:
    if not labelled:
        return []
    return prepare_rasters(labelled, source.reading, card, source=source.name, weight=source.weight)


def _audit(labelled: list[LabelledRaster]) -> LeakageReport:
    """Compare train and val.

    Raises:
        LabelError: They share pixels or ground.
    """
    _log.info("comparing train and val: pixels and places")
    report = audit_splits(labelled)
    for line in report.to_text().splitlines():
        _log.info("%s", line)
    if report.leaks:
        first = report.same_pixels[0] if report.same_pixels else report.overlaps[0]
        raise LabelError(
            f"train and val share pixels or ground, such as {first.raster} and {first.other}, so "
            "nothing measured would be true; divide them by site, block or ground, or remove the "
            "doubles"
        )
    return report
