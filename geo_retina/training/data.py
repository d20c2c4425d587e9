"""All that a training learns from and is measured on, read and checked before it starts."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geo_retina.card import ModelCard
from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.leakage import LeakageReport, audit_splits
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.training.class_counts import tell_classes
from geo_retina.training.contradictions import refuse_contradictions
from geo_retina.training.division import (
    ByColumn,
    divide_sources,
    refuse_empty_side,
    warn_of_few_labels,
)
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
    """All rasters as their files say, with their split; with those that are divided off, too."""


@dataclass(frozen=True, slots=True, eq=False)
class _Divided:
    """A source with the side of each of its rasters as their split."""

    source: Source
    labelled: list[LabelledRaster]

    def side(self, split: str) -> list[LabelledRaster]:
        """Those of one side."""
        return [item for item in self.labelled if item.split == split]


def read_data(settings: TrainingSettings, folder: Path) -> TrainingData:
    """Read all labels and open all rasters of a recipe.

    Args:
        settings: The recipe.
        folder: Folder that its paths are relative to.

    Raises:
        LabelError: Labels are missing or wrong, train or val is empty or holds no object, they
            share pixels or ground, or sources contradict each other.
        UsageError: Another of its kinds, for a raster that does not fit the card.
    """
    parts = _divided(settings, folder)
    for split in (TRAIN, VAL):
        refuse_contradictions([item for part in parts for item in part.side(split)])
    if settings.divide is not None:
        warn_of_few_labels(
            [item for part in parts for item in (*part.side(TRAIN), *part.side(VAL))],
            settings.divide,
        )
    train, val, measurable, everything = [], [], [], []
    for part in parts:
        learned_from, measured_on = part.side(TRAIN), part.side(VAL)
        train += _prepared(part.source, learned_from, settings.card)
        measurable += _prepared(part.source, measured_on, settings.card)
        val += [ValRaster(item, part.source.reading) for item in measured_on]
        # a column may name rasters that are of no use here; what a recipe divides off is for tests
        by_column = isinstance(settings.divide, ByColumn)
        everything += [*learned_from, *measured_on] if by_column else part.labelled
    _refuse_objectless(train, TRAIN, "nothing can be learned")
    if val:
        _refuse_objectless(
            measurable, VAL, "nothing can be measured; label some of them, or train without val"
        )
    tell_classes(everything, settings.card.class_names)
    leakage = _audit(everything) if val else None
    return TrainingData(tuple(train), tuple(val), leakage, tuple(everything))


def read_sides(
    settings: TrainingSettings, folder: Path, splits: Sequence[str]
) -> list[tuple[ValRaster, ...]]:
    """Some sides of a recipe alone, as `read_data` gives val; they are not compared.

    Args:
        settings: The recipe.
        folder: Folder that its paths are relative to.
        splits: Names of the sides, such as `val`, or `test` where it divides one off.

    Raises:
        LabelError: Labels are missing or wrong, or the recipe has no such side.
    """
    if settings.divide is None:  # told before labels are read that may not be here
        _expect_sides(splits, {TRAIN, VAL} if settings.val else {TRAIN})
    parts = _divided(settings, folder)
    _expect_sides(splits, {item.split for part in parts for item in part.labelled})
    return [
        tuple(ValRaster(item, part.source.reading) for part in parts for item in part.side(split))
        for split in splits
    ]


def _expect_sides(splits: Sequence[str], known: set[str]) -> None:
    lacking = [split for split in splits if split not in known]
    if lacking:
        raise LabelError(
            f"the recipe has no {lacking[0]} side, only {', '.join(sorted(known))}: name labels to "
            "evaluate on (--labels)"
        )


def _divided(settings: TrainingSettings, folder: Path) -> list[_Divided]:
    names = settings.card.class_names
    found = [(source, source.read(folder, names)) for source in settings.train]
    if settings.divide is None:
        parts = [_Divided(source, _as_side(items, TRAIN)) for source, items in found]
        return parts + [
            _Divided(source, _as_side(source.read(folder, names), VAL)) for source in settings.val
        ]
    divided = divide_sources(settings.divide, [items for _, items in found])
    refuse_empty_side([item for items in divided for item in items], settings.divide)
    return [_Divided(source, items) for source, items in zip(settings.train, divided, strict=True)]


def _as_side(labelled: Iterable[LabelledRaster], split: str) -> list[LabelledRaster]:
    return [replace(item, split=split) for item in labelled]


def _prepared(
    source: Source, labelled: list[LabelledRaster], card: ModelCard
) -> list[TrainingRaster]:
    if not labelled:
        return []
    return prepare_rasters(labelled, source.reading, card, source=source.name, weight=source.weight)


def _refuse_objectless(rasters: Sequence[TrainingRaster], side: str, so: str) -> None:
    """Refuse a side on which no object counts.

    Raises:
        LabelError: All labels are ignored or fell to the cleaning, or there are none.
    """
    if not any((~item.ignored).any() for item in rasters):
        raise LabelError(f"the {side} rasters ({len(rasters):,}) hold no object: {so}")


def _audit(labelled: list[LabelledRaster]) -> LeakageReport:
    """Compare the sides.

    Raises:
        LabelError: Two of them share pixels or ground.
    """
    sides = ", ".join(sorted({item.split for item in labelled}))
    _log.info("comparing pixels and places of %s", sides)
    report = audit_splits(labelled)
    for line in report.to_text().splitlines():
        _log.info("%s", line)
    if report.leaks:
        first = report.same_pixels[0] if report.same_pixels else report.overlaps[0]
        raise LabelError(
            f"{first.split} and {first.other_split} share pixels or ground, such as "
            f"{first.raster} and {first.other}, so nothing measured would be true; divide them by "
            "site, block or ground, or remove the doubles"
        )
    return report
