"""What one training is, as plain data; `config.py` reads it from TOML."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from geo_retina.card import ModelCard
from geo_retina.model.criterion import LossSettings
from geo_retina.model.settings import NetworkSettings
from geo_retina.plain import Plain
from geo_retina.training.division import Division
from geo_retina.training.sources import Source
from geo_retina.whole_files import NOT_IN_NAMES


class AugmentSettings(Plain):
    """How a training chip is cut and changed at random."""

    crop_px: int = Field(default=256, gt=0, multiple_of=32)
    """Edge of a training chip after scaling, in pixels."""
    zoom: tuple[float, float] = (0.64, 1.25)
    """Range of the scale factor; under 1 objects get smaller."""
    around_objects: float = Field(default=0.5, ge=0, le=1)
    """Share of the chips that are cut around an object; the others are cut anywhere."""
    least_visible: float = Field(default=0.3, ge=0, le=1)
    """An object cut by the chip's edge is a label if this share of its area remains."""
    least_side_px: float = Field(default=3, ge=0)
    """An object is a label if both its sides have this length on the chip, after scaling."""
    symmetries: Literal["all", "mirror", "none"] = "all"
    """All eight of a nadir view; or mirrored left and right alone, where shadows always fall to one
    side of north, as at noon; or none."""
    brightness: float = Field(default=0.2, ge=0)
    """Largest shift, as a share of the card's value range."""
    contrast: float = Field(default=0.2, ge=0, lt=1)
    """Largest change of the gain."""
    hue: float = Field(default=0.02, ge=0, le=0.5)
    """Shift of the hue in turns; 8-bit chips of three bands only."""
    saturation: float = Field(default=0.2, ge=0, lt=1)
    """Largest change of the saturation; 8-bit chips of three bands only."""
    coarser: float = Field(default=0.1, ge=0, le=1)
    """Probability that a chip loses the detail a coarser raster lacks, down to the card's
    `coarsest_gsd_m`."""
    haze: float = Field(default=0.1, ge=0, le=1)
    """Probability of a veil of haze."""
    blur: float = Field(default=0.1, ge=0, le=1)
    """Probability of a slight Gaussian blur."""
    mosaic: float = Field(default=0, ge=0, le=1)
    """Probability that a chip is made of the quadrants of four."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom must be two rising factors over 0, got {self.zoom}")
        return self


class CosineDecay(Plain):
    """The rate falls to 0 along half a cosine (arXiv 1608.03983, without restarts)."""

    kind: Literal["cosine"] = "cosine"

    def factor(self, step: int, *, first: int, last: int) -> float:
        """Share of the full rate at `step`, after a warm-up that ended at `first`."""
        share = min((step - first) / max(last - first, 1), 1)
        return 0.5 * (1 + math.cos(math.pi * share))


class StepDecay(Plain):
    """The rate falls by a factor at some steps, as in the RetinaNet paper (section 4.1)."""

    kind: Literal["steps"]
    at: tuple[int, ...] = Field(min_length=1)
    """Steps at which it falls."""
    by: float = Field(default=0.1, gt=0, lt=1)
    """Factor of each fall."""

    def factor(self, step: int, *, first: int, last: int) -> float:  # noqa: ARG002
        """Share of the full rate at `step`."""
        return self.by ** sum(step >= fall for fall in self.at)


Decay = Annotated[CosineDecay | StepDecay, Field(discriminator="kind")]


class ScheduleSettings(Plain):
    """How the weights are learned."""

    steps: int = Field(gt=0)
    """Changes of the weights in the whole training."""
    epoch_steps: int = Field(default=200, gt=0)
    """Steps after which a state for resuming is kept: one epoch."""
    batch: int = Field(default=8, gt=0)
    """Chips that go through the network at once, on each device."""
    accumulate: int = Field(default=1, gt=0)
    """Batches whose gradients are added up for one step: for large batches in little memory."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    backbone_learning_rate: float = Field(default=3e-4, ge=0)
    """Rate of the pretrained part; 0 freezes it."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """On matrices and filters; norms and biases have none."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    warm_up_steps: int = Field(default=100, ge=0)
    """Steps over which the rates rise from 0."""
    decay: Decay = CosineDecay()
    """How they fall after that."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is kept; 0 keeps the last ones. It
    rises to this as (1 + step) / (4 + step), so that no average is one of the first steps."""
    clip_norm: float = Field(default=10.0, ge=0)
    """Largest norm of the gradient; 0 leaves gradients as they are."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Numbers in the network, as Lightning names them."""
    seed: int = Field(default=0, ge=0)

    @property
    def epochs(self) -> int:
        """Epochs of the training; the last one may be cut short."""
        return -(-self.steps // self.epoch_steps)

    def rate_factor(self, step: int) -> float:
        """Share of the full learning rate at `step`: linear warm-up, then the decay."""
        if step < self.warm_up_steps:
            return (step + 1) / self.warm_up_steps
        return self.decay.factor(step, first=self.warm_up_steps, last=self.steps)


class ValidationSettings(Plain):
    """How the val rasters are measured: whole and stitched, as `geo-retina evaluate` does."""

    every_epochs: int = Field(default=1, gt=0)
    """Epochs from one measurement to the next; the last step is always measured."""
    iou: float = Field(default=0.5, gt=0, le=1)
    """Least overlap of a match."""
    distance_m: float | None = Field(default=None, gt=0)
    """Match by the distance of centres up to this instead, metres: for labels that are points."""
    patience: int | None = Field(default=None, gt=0)
    """Stop after so many measurements without a better average precision, counted from the first
    one above 0; left out, never."""
    calibrate: bool = False
    """Fold a temperature and a shift fitted on val into the weights, so that scores are hit rates;
    see `geo_retina.evaluation.calibration.ScoreMap`. Not for networks with objectness."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the model: those with the best average precision, or the last."""


class TrainingSettings(Plain):
    """One training from data to checkpoint."""

    card: ModelCard
    network: NetworkSettings | None = None
    """Left out: that of `start_from`, with the card's classes and bands. A network that states
    neither its levels nor its anchors has them fitted to the labels."""
    pretrained: str | None = None
    """Weights the backbone starts from, see `model.pretrained.load_pretrained`."""
    start_from: str | None = None
    """Bundled model or checkpoint whose weights the whole network starts from; classes and bands
    may differ. With `pretrained` too, the backbone starts from that and all else from here."""
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    schedule: ScheduleSettings
    train: tuple[Source, ...] = Field(min_length=1)
    """What is learned from, or with `divide` all that is known."""
    val: tuple[Source, ...] = ()
    """What is measured on while training, and chooses the score of the card."""
    divide: Division | None = None
    """How the sources of `train` are divided into train and val."""
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.card.name) & set(NOT_IN_NAMES):
            raise ValueError(
                f"card.name {self.card.name!r} names the checkpoint: leave out {NOT_IN_NAMES}"
            )
        if self.network is not None:
            _check_count("num_classes", self.network.num_classes, self.card.class_names, "classes")
            _check_count("in_bands", self.network.in_bands, self.card.bands, "bands")
        elif self.start_from is None:
            raise ValueError("network is missing: describe it, or name a model in start_from")
        if self.validation.calibrate and self.card.decay_iou is not None:
            raise ValueError(
                "validation.calibrate and card.decay_iou exclude each other: a score that gives "
                "way to its neighbours is no hit rate; leave one of them out"
            )
        if self.validation.calibrate and self.network is not None and self.network.head.objectness:
            raise ValueError(
                "validation.calibrate and network.head.objectness exclude each other: a score that "
                "is a product has no temperature"
            )
        if self.validation.calibrate and not self.val and self.divide is None:
            raise ValueError(
                "validation.calibrate needs val, on which it finds out how often a score is right: "
                "state [[val]] or [divide], or leave calibrate out"
            )
        if self.val and self.divide is not None:
            raise ValueError(
                "val and divide exclude each other: name the val rasters, or divide; take the "
                "other table out of a copy of the recipe"
            )
        if self.augment.crop_px > self.card.chip_px:
            raise ValueError(
                f"augment.crop_px {self.augment.crop_px} is over card.chip_px {self.card.chip_px}: "
                "detection would show smaller chips than training; raise card.chip_px"
            )
        return self


def _check_count(key: str, value: int, names: Sequence[str], what: str) -> None:
    if value != len(names):
        raise ValueError(f"network.{key} is {value}, but the card names {len(names)} {what}")
