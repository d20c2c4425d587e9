"""What one training is, as plain data; `config.py` reads it from TOML."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geo_retina.card import ModelCard
from geo_retina.model.criterion import LossSettings
from geo_retina.model.settings import NetworkSettings


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CsvSource(_Plain):
    """Images with boxes in a CSV in DeepForest's layout."""

    kind: Literal["deepforest-csv"]
    labels: str
    """Path of the CSV; relative to the data folder."""
    images: str
    """Folder of the images; relative to the data folder."""
    split: str | None = None
    """Take only rows whose `split` column has this value."""
    names: str = "*"
    """Take only images whose file name matches this pattern, such as `NIWO_*`."""
    least_score: float = Field(default=0, ge=0, le=1)
    """Take only rows whose `score` column is at least this: for labels that a model made."""
    weight: float = Field(default=1, gt=0)
    """How often this source is drawn, relative to its share of all pixels."""


class VocSource(_Plain):
    """Images with Pascal VOC files beside them."""

    kind: Literal["voc"]
    images: tuple[str, ...] = Field(min_length=1)
    """Paths of the images; the labels have the same name with the ending `.xml`."""
    weight: float = Field(default=1, gt=0)


Source = Annotated[CsvSource | VocSource, Field(discriminator="kind")]


class AugmentSettings(_Plain):
    """Random changes of a training chip."""

    crop_px: int = Field(default=256, gt=0, multiple_of=32)
    """Edge of a training chip after scaling, in pixels."""
    zoom: tuple[float, float] = (0.64, 1.25)
    """Range of the scale factor; under 1 objects get smaller."""
    least_visible: float = Field(default=0.3, ge=0, le=1)
    """An object cut by the chip's edge is a label if this share of its area remains."""
    brightness: float = Field(default=0.2, ge=0)
    contrast: float = Field(default=0.2, ge=0)
    hue: float = Field(default=0.02, ge=0, le=0.5)
    """Shift of the hue in turns; three-band chips only."""
    saturation: float = Field(default=0.2, ge=0)
    blur: float = Field(default=0.1, ge=0, le=1)
    """Probability of a slight Gaussian blur."""


class ScheduleSettings(_Plain):
    """How the weights are learned."""

    steps: int = Field(gt=0)
    """Batches in the whole training."""
    epoch_steps: int = Field(default=200, gt=0)
    """Batches after which a checkpoint for resuming is kept."""
    batch: int = Field(default=8, gt=0)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    backbone_learning_rate: float = Field(default=3e-4, ge=0)
    """Rate of the pretrained part; 0 freezes it."""
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    warm_up_steps: int = Field(default=100, ge=0)
    """Batches over which the rates rise from 0; then they fall to 0 along a cosine."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is kept; 0 keeps the last ones."""
    clip_norm: float = Field(default=10.0, gt=0)
    """Largest norm of the gradient."""
    seed: int = 0


class TrainingSettings(_Plain):
    """One training from data to checkpoint."""

    card: ModelCard
    network: NetworkSettings
    pretrained: str | None = None
    """Weights the backbone starts from, see `model.pretrained.load_pretrained`; None is random."""
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    schedule: ScheduleSettings
    train: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.network.num_classes != len(self.card.class_names):
            raise ValueError(
                f"network.num_classes is {self.network.num_classes}, but the card names "
                f"{len(self.card.class_names)} classes"
            )
        if self.network.in_bands != len(self.card.bands):
            raise ValueError(
                f"network.in_bands is {self.network.in_bands}, but the card names "
                f"{len(self.card.bands)} bands"
            )
        return self
