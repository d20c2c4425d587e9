"""How labelled rasters are divided into train and val: the `[divide]` table of a recipe."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from geo_retina.errors import LabelError
from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.splits import (
    TRAIN,
    VAL,
    KeyOf,
    by_block,
    by_file,
    by_site,
    fold_shares,
    split_ground,
    split_rasters,
)
from geo_retina.plain import Plain
from geo_retina.wording import counted

_log = logging.getLogger(__name__)

_MANY_LABELS = 200
"""As many are enough to choose weights and a score by, whatever their share is."""
_SEEDS_TRIED = 20


class _Shares(Plain):
    shares: dict[str, float] = Field(default_factory=lambda: {TRAIN: 0.8, VAL: 0.2})
    """Share of the groups that each split gets; splits other than train and val are left out."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives another division."""


class ByColumn(Plain):
    """As the labels themselves say: a column `split`."""

    kind: Literal["column"]
    train: str = TRAIN
    """What they call the rasters to learn from."""
    val: str = VAL
    """What they call the rasters to measure on."""

    def divide(self, labelled: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Give each raster the split `train`, `val`, or another."""
        unused = {name: f"({name})" for name in (TRAIN, VAL)}
        return _renamed(labelled, unused | {self.train: TRAIN, self.val: VAL})


class ByRaster(_Shares):
    """Rasters stay whole: each by its file name, or all of a site together."""

    kind: Literal["file", "site"]

    def divide(self, labelled: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Give each raster a split."""
        key_of = {"file": by_file, "site": by_site}[self.kind]
        return split_rasters(labelled, key_of=key_of, shares=self.shares, seed=self.seed)


class ByBlock(_Shares):
    """Rasters stay whole; those whose centres lie in the same square of ground stay together."""

    kind: Literal["block"]
    block_m: float = Field(gt=0)
    """Side of the squares, metres."""

    def divide(self, labelled: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Give each raster a split."""
        key_of = by_block(self.block_m)
        return split_rasters(labelled, key_of=key_of, shares=self.shares, seed=self.seed)


class ByGround(_Shares):
    """Large rasters are divided into squares of ground with a guard distance between splits."""

    kind: Literal["ground"]
    block_m: float = Field(gt=0)
    """Side of the squares, metres."""
    guard_m: float = Field(ge=0)
    """Least distance between ground of two splits, metres: at least the size of a chip."""

    def divide(self, labelled: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Give each part of each raster a split."""
        return split_ground(
            labelled,
            block_m=self.block_m,
            guard_m=self.guard_m,
            shares=self.shares,
            seed=self.seed,
        )


class Folds(Plain):
    """k-fold: one of `folds` equal parts is val, the others are train; train once for each."""

    kind: Literal["folds"]
    folds: int = Field(ge=2)
    fold: int = Field(ge=0)
    """Number of the part that is val, from 0."""
    by: Literal["file", "site", "block"] = "file"
    """What stays together."""
    block_m: float | None = Field(default=None, gt=0)
    """Side of the squares of `by = "block"`, metres."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be in 0..{self.folds - 1}, got {self.fold}")
        if (self.by == "block") != (self.block_m is not None):
            raise ValueError("block_m belongs to by = 'block': state both or neither")
        return self

    def divide(self, labelled: Sequence[LabelledRaster]) -> list[LabelledRaster]:
        """Give each raster a split."""
        shares = fold_shares(self.folds)
        divided = split_rasters(labelled, key_of=self._key_of(), shares=shares, seed=self.seed)
        names = {name: VAL if number == self.fold else TRAIN for number, name in enumerate(shares)}
        return _renamed(divided, names)

    def _key_of(self) -> KeyOf:
        if self.block_m is not None:
            return by_block(self.block_m)
        return by_site if self.by == "site" else by_file


Division = Annotated[ByColumn | ByRaster | ByBlock | ByGround | Folds, Field(discriminator="kind")]


def divide_sources(
    division: Division, sources: Sequence[Sequence[LabelledRaster]]
) -> list[list[LabelledRaster]]:
    """Give the rasters of several sources a split as if they were of one.

    So a group has the same split in every source, and none is moved to a split that another source
    has groups of.
    """
    if isinstance(division, ByGround):  # several parts of a raster, by nothing but their place
        return [division.divide(items) for items in sources]
    divided = iter(division.divide([item for items in sources for item in items]))
    return [list(islice(divided, len(items))) for items in sources]


def refuse_empty_side(labelled: Sequence[LabelledRaster], division: Division) -> None:
    """Refuse a division without rasters to learn from, or without objects to measure on.

    Args:
        labelled: As they were divided.
        division: How.

    Raises:
        LabelError: Train or val is empty.
    """
    for side in (TRAIN, VAL):
        members = [item for item in labelled if item.split == side]
        if not any(len(item.labels) for item in members):
            found = ", ".join(sorted({item.split or "(none)" for item in labelled})) or "none"
            raise LabelError(
                f"{side} has {counted(len(members), 'raster')} and no object "
                f"(splits found: {found}); {_remedy(labelled, division)}"
            )


def warn_of_few_labels(labelled: Sequence[LabelledRaster], division: Division) -> None:
    """Warn where val got much less of few labels than its share; name a seed that gives more.

    Args:
        labelled: The rasters of train and val.
        division: How they were divided; into more than these two, nothing is said.
    """
    if not isinstance(division, ByRaster | ByBlock) or set(division.shares) != {TRAIN, VAL}:
        return
    known = _labels_on(VAL, labelled)
    wanted = division.shares[VAL] * sum(len(item.labels) for item in labelled)
    if known >= min(wanted / 2, _MANY_LABELS):
        return
    others = {
        seed: _labels_on(VAL, division.model_copy(update={"seed": seed}).divide(labelled))
        for seed in range(_SEEDS_TRIED)
    }
    best = min(others, key=lambda seed: abs(others[seed] - wanted))
    advice = f"divide.seed={best} gives it {others[best]}"
    if others[best] <= known:
        advice = "no other divide.seed would help: label more, or divide into more groups"
    _log.warning(
        "val holds %s, where its share is about %.0f: weights and score chosen on so few are left "
        "to chance; %s", counted(known, "label"), wanted, advice,
    )  # fmt: skip


def _labels_on(side: str, labelled: Sequence[LabelledRaster]) -> int:
    return sum(len(item.labels) for item in labelled if item.split == side)


def _remedy(labelled: Sequence[LabelledRaster], division: Division) -> str:
    """What may help where a side of a division is empty."""
    if isinstance(division, ByColumn):
        return "mend the split column, or state what it calls them: divide.train, divide.val"
    if isinstance(division, ByGround):
        return (
            f"the labels lie on few blocks of {division.block_m:g} m: state smaller ones "
            f"(divide.block_m), another divide.seed (now {division.seed}), or other shares"
        )
    if len({item.raster for item in labelled}) == 1:
        return (
            "a single raster is divided by its ground: divide.kind = 'ground', with blocks "
            "(block_m) of which it holds many, and shares of train and val"
        )
    return f"choose another divide.seed (now {division.seed}), other shares or smaller groups"


def _renamed(labelled: Sequence[LabelledRaster], names: dict[str, str]) -> list[LabelledRaster]:
    return [replace(item, split=names.get(item.split, item.split)) for item in labelled]
