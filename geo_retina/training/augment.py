"""Random changes of training chips, by albumentations: any number of bands, nadir views."""

import os
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.card import ModelCard
from geo_retina.imagery.radiometry import Radiometry
from geo_retina.space import boxes as box_arrays
from geo_retina.training.settings import AugmentSettings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version

import albumentations as A

from geo_retina.training.radiometric import Blur, CoarserGsd, Haze, Light, resized

_RGB = ("red", "green", "blue")
_LEAST_SIDE_PX = 1e-3
"""What an edge leaves of a box may be no thinner: albumentations takes it for empty."""


@dataclass(frozen=True, slots=True, eq=False)
class CutSquare:
    """A square of a raster with its objects, or the chip made of it."""

    pixels: NDArray[np.generic]
    """(bands, side, side) of the card's data type."""
    valid: NDArray[np.bool_]
    """(side, side), True = valid."""
    boxes: NDArray[np.float64]
    """(M, 4) pixel edges in the square's frame; may reach over its edges."""
    class_ids: NDArray[np.int64]
    """(M,)."""


class Augmenter:
    """Turns squares into random chips of `crop_px`: scale, symmetries, light, air, optics.

    Attributes:
        settings: Ranges of the changes.
        card: Data type and value range of chips, and how coarse a raster may be.
    """

    def __init__(self, settings: AugmentSettings, card: ModelCard) -> None:
        self.settings = settings
        self.card = card
        self._radiometry = Radiometry.of(card, None)
        self._pipeline = A.Compose(
            _steps(settings, card),
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["class_ids"],
                min_width=settings.least_side_px,
                min_height=settings.least_side_px,
                clip=True,
            ),
        )

    def __call__(self, square: CutSquare, *, seed: int) -> CutSquare:
        """Make a chip; the same square and seed give the same chip."""
        size, side = self.settings.crop_px, square.valid.shape[0]
        boxes, class_ids = self._shown(square)
        self._set_seed(seed)
        changed = self._pipeline(
            image=resized(self._to_shares(square.pixels), size, size),
            mask=resized(square.valid[..., None].astype(np.float32), size, size)[..., 0],
            bboxes=boxes * (size / side),
            class_ids=class_ids,
        )
        valid = changed["mask"] >= 0.5  # noqa: PLR2004
        return CutSquare(
            self._from_shares(changed["image"], valid),
            valid,
            np.asarray(changed["bboxes"], dtype=np.float64).reshape(-1, 4),
            np.asarray(changed["class_ids"], dtype=np.int64),
        )

    def _shown(self, square: CutSquare) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Boxes cut at the square's edges, of the objects that show enough of their area."""
        cut = square.boxes.clip(0, square.valid.shape[0])
        area = np.prod(square.boxes[:, 2:] - square.boxes[:, :2], axis=1)
        shown = np.prod(cut[:, 2:] - cut[:, :2], axis=1)
        shown *= box_arrays.share_under(cut, square.valid)
        kept = (shown > 0) & (shown >= self.settings.least_visible * area)
        kept &= (cut[:, 2:] - cut[:, :2] > _LEAST_SIDE_PX).all(axis=1)
        return cut[kept], square.class_ids[kept]

    def _set_seed(self, seed: int) -> None:
        """Give all steps one stream of numbers: each with the same seed would draw the same."""
        self._pipeline.set_random_seed(seed)
        numbers, plain = np.random.default_rng(seed), random.Random(seed)  # noqa: S311
        for step in self._pipeline.transforms:
            step.set_random_state(numbers, plain)

    def _to_shares(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        """(side, side, bands), 0 and 1 at the ends of the card's value range."""
        low, high = self.card.value_range
        return (pixels.transpose(1, 2, 0).astype(np.float32) - low) / np.float32(high - low)

    def _from_shares(
        self, shares: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.generic]:
        """(bands, side, side) of the card's type, neutral where not valid, as in detection."""
        low, high = self.card.value_range
        values = shares.transpose(2, 0, 1) * np.float32(high - low) + np.float32(low)
        return np.ascontiguousarray(self._radiometry.apply(values, valid))


def _steps(settings: AugmentSettings, card: ModelCard) -> list[A.BasicTransform]:
    """What is done to a chip, in the order of nature: ground, light, air, optics, sensor."""
    steps: list[A.BasicTransform] = {
        "all": [A.D4(p=1)],
        "mirror": [A.HorizontalFlip(p=0.5)],
        "none": [A.NoOp()],  # a step that takes boxes: without one albumentations warns
    }[settings.symmetries]
    steps.append(Light(brightness=settings.brightness, contrast=settings.contrast, p=0.7))
    if card.bands == _RGB and card.dtype == "uint8":
        colour = A.ColorJitter(
            brightness=0, contrast=0, saturation=settings.saturation, hue=settings.hue, p=0.5
        )
        steps.append(colour)
    steps += [Haze(p=settings.haze), Blur(p=settings.blur)]
    most = card.coarsest_gsd_m / card.gsd_m
    if most > 1:
        steps.append(CoarserGsd(most=most, p=settings.coarser))
    return steps
