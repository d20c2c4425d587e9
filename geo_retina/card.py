"""What a model is for, as plain data: the card that travels inside every checkpoint.

The card answers what detection must not guess (promise 4 of the design): classes, band order, data
type and value range, GSD, chip size, overlap, thresholds. It also says what the model was trained
on, under which licences, and how well it did. No torch here: a card is read without the network.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from geo_retina.plain import Plain

PixelDtype = Literal["uint8", "uint16", "int16", "float32"]

_LIMITS: dict[PixelDtype, tuple[float, float]] = {
    "uint8": (0, 255),
    "uint16": (0, 65_535),
    "int16": (-32_768, 32_767),
    "float32": (-3.4e38, 3.4e38),
}
"""Least and largest value of each data type."""

LARGEST_CHIP_PX = 65_536
"""No machine holds the features of a larger chip."""


class DataSource(Plain):
    """One set of images a model learned from."""

    name: str
    role: str
    """What it was used for, such as `hand labels, train` or `pseudo-labels`."""
    licence: str
    attribution: str


class Metric(Plain):
    """One measured number with all that is needed to read it."""

    name: str
    value: float
    split: str
    """On which images, such as `neon_trees val (31 plots, 1,365 boxes)`."""
    note: str = ""


class Calibrated(Plain):
    """What the class logits were changed by, so that a score is the share of right detections.

    Both are in the weights already; they stand here to be known.
    """

    temperature: float = Field(gt=0)
    """The logits were divided by this."""
    shift: float
    """Then this was added."""


class ModelCard(Plain):
    """What one model expects, finds and was measured at."""

    name: str
    summary: str
    licence: str
    class_names: tuple[str, ...] = Field(min_length=1)
    """Names of class ids 0..K-1; background is not counted."""

    bands: tuple[str, ...] = Field(min_length=1)
    """What each input band holds, in order, such as `("red", "green", "blue")`."""
    dtype: PixelDtype
    """Data type of the chips that the detector is given."""
    value_range: tuple[float, float]
    """Values of `dtype` that stand for 0 and 1 before `mean` and `std` are applied."""
    mean: tuple[float, ...]
    """Mean of each band after scaling to [0, 1]."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Standard deviation of each band after scaling to [0, 1]."""

    gsd_m: float = Field(gt=0)
    """Ground sampling distance the model works at, metres per pixel."""
    coarsest_gsd_m: float = Field(gt=0)
    """Coarsest raster that may still be resampled to `gsd_m`; above it detection is refused."""

    chip_px: int = Field(gt=0, le=LARGEST_CHIP_PX, multiple_of=32)
    """Edge of the square chip, in pixels of `gsd_m`."""
    overlap_px: int = Field(ge=0)
    """Overlap of neighbouring windows, in pixels of `gsd_m`: the largest object must fit in it."""

    score: float = Field(ge=0, le=1)
    """Detections with a lower score are not reported by default."""
    class_scores: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default={})
    """Classes that have another least score than `score`, and that."""
    nms_iou: float = Field(gt=0, le=1)
    """Of two boxes of one class that overlap more than this, the lower-scored one is dropped."""
    decay_iou: float | None = Field(default=None, ge=0, lt=1)
    """Of two boxes of one class on a chip that overlap more than this, the lower score falls
    (soft-NMS, after the boxes over `nms_iou` are gone); None where scores stay."""
    calibrated: Calibrated | None = None
    """How scores were made hit rates; None where they are as training left them."""
    candidates_per_level: int = Field(default=3000, gt=0)
    """Highest-scored (anchor, class) pairs of each pyramid level that are decoded, before NMS; the
    paper's 1,000 (section 4) are too few where thousands of objects stand in a chip."""
    detections_per_chip: int = Field(default=2000, gt=0)
    """Most detections a chip may return; reaching it is reported, never silent."""

    trained_on: tuple[DataSource, ...] = ()
    metrics: tuple[Metric, ...] = ()
    reproduce: str = ""
    """Command that makes these weights again."""
    limits: str = ""
    """What the model was never shown and should not be trusted with."""

    @property
    def neutral(self) -> tuple[float, ...]:
        """For each band, the value of `dtype` that the network is shown as 0: the mean."""
        means = self._means
        return means if self.dtype == "float32" else tuple(float(round(one)) for one in means)

    @property
    def _means(self) -> tuple[float, ...]:
        """Mean of each band before scaling to [0, 1]."""
        bottom, top = self.value_range
        return tuple(mean * (top - bottom) + bottom for mean in self.mean)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(
                f"bands, mean and std must be equally long, got {len(self.bands)}, "
                f"{len(self.mean)} and {len(self.std)}"
            )
        if self.overlap_px >= self.chip_px:
            raise ValueError(f"overlap_px {self.overlap_px} must be under chip_px {self.chip_px}")
        if self.coarsest_gsd_m < self.gsd_m:
            raise ValueError(
                f"coarsest_gsd_m {self.coarsest_gsd_m:g} must be at least gsd_m {self.gsd_m:g}: "
                "otherwise rasters of the model's own GSD would be refused"
            )
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range must rise, got {self.value_range}")
        least, most = _LIMITS[self.dtype]
        if not all(least - 0.5 < mean < most + 0.5 for mean in self._means):
            raise ValueError(
                f"mean {self.mean} stands for {self._means} in {self.dtype}, which holds {least:g} "
                f"to {most:g}; mean and std are those of values of which value_range "
                f"{self.value_range} was scaled to 0 to 1"
            )
        unknown = [name for name in self.class_scores if name not in self.class_names]
        if unknown:
            raise ValueError(
                f"class_scores names {', '.join(unknown)}, which class_names does not: it has "
                f"{', '.join(self.class_names)}"
            )
        return self
