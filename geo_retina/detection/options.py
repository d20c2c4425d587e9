"""What a detection run can be asked for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from geo_retina.card import ModelCard
from geo_retina.detection.detector import check_batch
from geo_retina.errors import ConfigError
from geo_retina.imagery.read_options import ReadOptions, make_plain
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.merging import AcrossClasses, Merging, build_merging
from geo_retina.wording import shown

if TYPE_CHECKING:
    from geo_retina.detection.writers.layer import Geometry

_UNLIMITED = 2**31  # boxes of a chip: those of its levels are limited before


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectOptions(ReadOptions):
    """Options of one run that change its result; None stands for what the model's card states."""

    score: float | None = None
    """Least score, in [0, 1], of all classes."""
    class_scores: tuple[tuple[str, float], ...] | None = None
    """Classes whose least score is another one, and that. Where `score` is None, the card's hold
    for the other classes."""
    nms_iou: float | None = None
    """Overlap above which the lower-scored of two boxes goes, in (0, 1]."""
    decay_iou: float | None = None
    """Overlap above which the lower score of two boxes of a chip falls, in [0, 1]; 1 = never."""
    method: str = "nms"
    """How overlapping boxes are stitched: a key of `space.merging.METHODS`."""
    class_agnostic: bool = False
    """Stitch boxes of different classes too."""
    chip_px: int | None = None
    """Edge of a chip, in pixels of the model's GSD; None = what `fitting_chip_px` chooses: the
    model's, or a larger one that covers the raster with less work."""
    overlap_px: int | None = None
    """Overlap of neighbouring windows, in pixels of the model's GSD."""
    aoi: str | None = None
    """Vector file whose polygons limit the work: objects whose centre lies in one are found."""
    aoi_layer: str | None = None
    """Layer of `aoi`, where the file has several."""
    raster_crs: str | None = None
    """CRS to assign to a raster that has none."""

    def __post_init__(self) -> None:
        ReadOptions.__post_init__(self)
        _check_share("score", self.score)
        for name, score in self.class_scores or ():
            _check_share(f"the least score of {name}", score)
        _check_share("nms_iou", self.nms_iou)
        _check_share("decay_iou", self.decay_iou)
        if self.nms_iou == 0:
            raise ConfigError("nms_iou must be above 0: at 0 boxes that merely touch are merged")
        if self.lowers_scores and self.decay_iou is not None:
            raise ConfigError("expected no decay_iou with soft-nms, which lowers scores itself")
        if self.aoi_layer is not None and self.aoi is None:
            raise ConfigError(
                f"expected an AOI file with the layer {self.aoi_layer!r}, got none; name it (--aoi)"
            )

    @classmethod
    def of(cls, caller: str, values: Mapping[str, Any]) -> Self:
        """The options that a function got as keyword arguments.

        Args:
            caller: The function, for messages.
            values: What it got.

        Raises:
            TypeError: One of them is no option.
            ConfigError: A value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise TypeError(
                f"{caller} has no option {', '.join(map(repr, unknown))}; expected "
                f"{', '.join(known)}. How files are written (crs, geometry) is said to "
                "detect_to_files(..., output_options=OutputOptions(...)), how the work is done "
                "(readers, resume...) to its work=WorkOptions(...)"
            )
        return cls(**values)

    @property
    def lowers_scores(self) -> bool:
        """Whether stitching takes from a score what a better box covers."""
        return self.method == "soft-nms"

    def thresholds(self, card: ModelCard) -> Thresholds:
        """Scores and limits of one chip.

        Soft-NMS takes the place of NMS and of `decay_iou`, once for all windows: it gets all
        candidates of a chip.

        Raises:
            ConfigError: A class is unknown.
        """
        class_scores = dict(self.class_scores or ())
        unknown = [name for name in class_scores if name not in card.class_names]
        if unknown:
            raise ConfigError(
                f"--class-score (in Python class_scores) names {', '.join(unknown)}; {card.name} "
                f"finds {', '.join(card.class_names)}"
            )
        scores = replace(
            Thresholds.of(card, score=self.score, class_scores=class_scores),
            class_agnostic=self.class_agnostic,
        )
        if self.lowers_scores:
            return replace(scores, nms_iou=1, decay_iou=None, detections_per_chip=_UNLIMITED)
        return replace(
            scores,
            nms_iou=self._nms_iou(card),
            decay_iou=card.decay_iou if self.decay_iou is None else self.decay_iou,
        )

    def _nms_iou(self, card: ModelCard) -> float:
        return card.nms_iou if self.nms_iou is None else self.nms_iou

    def merging(self, card: ModelCard) -> Merging:
        """How overlapping boxes become one.

        Raises:
            ConfigError: The method is unknown.
        """
        least = self.thresholds(card).score
        merging = build_merging(self.method, threshold=self._nms_iou(card), score=least)
        return AcrossClasses(merging) if self.class_agnostic else merging

    def windows(self, card: ModelCard) -> tuple[int, int]:
        """Chip edge and overlap, in pixels of the model's GSD, before the raster is known.

        Without a stated `chip_px` the chip is the model's, which `fitting_chip_px` may grow.

        Raises:
            ConfigError: The overlap is not smaller than the chip, or the chip is too small.
        """
        chip_px = card.chip_px if self.chip_px is None else self.chip_px
        overlap_px = card.overlap_px if self.overlap_px is None else self.overlap_px
        least = 64
        if chip_px < least:
            raise ConfigError(f"a chip needs at least {least} px, got {chip_px}")
        if not 0 <= overlap_px < chip_px:
            raise ConfigError(
                f"the overlap must be at least 0 and smaller than the chip of {chip_px} px, got "
                f"{overlap_px}"
            )
        return chip_px, overlap_px

    def to_dict(self) -> dict[str, Any]:
        """All options as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How detections are written."""

    crs: str | None = None
    """CRS of the coordinates; None = the raster's. GeoJSON is always WGS 84, and COCO pixels."""
    geometry: "Geometry" = "polygon"
    """Outlines of the boxes, or their centres."""

    def to_dict(self) -> dict[str, Any]:
        """All options as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """How the work is done; of this, only the backend can change the result, by rounding."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    backend: str = "auto"
    """See `backends.choose_backend`."""
    batch: int | None = None
    """Chips at once; None chooses by device."""
    readers: int | None = None
    """Threads that read windows; None chooses. More of them may help where reading waits."""
    resume: bool = False
    """Go on with a broken run, if there is one."""
    restart: bool = False
    """Throw away what a broken run left."""
    skip_errors: bool = False
    """Go on past windows that cannot be read."""

    def __post_init__(self) -> None:
        make_plain(self)
        check_batch(self.batch)
        if self.readers is not None and self.readers < 1:
            raise ConfigError(f"readers must be at least 1, got {self.readers}")
        if self.resume and self.restart:
            raise ConfigError(
                "expected one of resume and restart: to go on with a broken run, or to begin again"
            )


def expect_kind(name: str, value: object, kind: type) -> None:
    """Raise a ConfigError where options are of another kind, such as a dict."""
    if not isinstance(value, kind):
        raise ConfigError(f"expected {kind.__name__}(...) as {name}, got {shown(value)}")


def _check_share(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie in 0 to 1, got {value}")
