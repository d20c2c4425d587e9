"""Random changes of training chips, by albumentations: any number of bands, nadir views."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.training.settings import AugmentSettings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version

import albumentations as A

_LEAST_SIDE_PX = 3.0


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Turns an image with boxes into a random chip of `crop_px` with the boxes it shows."""

    pipeline: A.Compose

    def __call__(
        self, pixels: NDArray[np.generic], boxes: NDArray[np.float64], class_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.generic], NDArray[np.float32], NDArray[np.int64]]:
        """Change one image.

        Args:
            pixels: (height, width, bands).
            boxes: (M, 4) pixel edges within the image.
            class_ids: (M,).

        Returns:
            Pixels (crop_px, crop_px, bands) of the same type, (P, 4) boxes and (P,) class ids.
        """
        changed = self.pipeline(image=pixels, bboxes=boxes, class_ids=class_ids)
        return (
            changed["image"],
            np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4),
            np.asarray(changed["class_ids"], dtype=np.int64),
        )


def build_augmenter(settings: AugmentSettings, *, bands: int, seed: int) -> Augmenter:
    """Scale and crop, the eight symmetries of a nadir view, brightness, colour, blur.

    Args:
        settings: Ranges of the changes.
        bands: Bands of a chip; hue and saturation change only where there are three.
        seed: Of the random numbers.
    """
    sides = tuple(round(settings.crop_px / zoom) for zoom in reversed(settings.zoom))
    steps: list[A.BasicTransform] = [
        A.RandomSizedCrop(min_max_height=sides, size=(settings.crop_px, settings.crop_px)),
        A.D4(p=1),
        A.RandomBrightnessContrast(
            brightness_limit=settings.brightness, contrast_limit=settings.contrast, p=0.7
        ),
        A.GaussianBlur(sigma_limit=(0.3, 1.0), blur_limit=0, p=settings.blur),
    ]
    if bands == 3:  # noqa: PLR2004
        colour = A.ColorJitter(
            brightness=0, contrast=0, saturation=settings.saturation, hue=settings.hue, p=0.5
        )
        steps.append(colour)
    box_rules = A.BboxParams(
        format="pascal_voc",
        label_fields=["class_ids"],
        min_visibility=settings.least_visible,
        min_width=_LEAST_SIDE_PX,
        min_height=_LEAST_SIDE_PX,
        clip=True,
    )
    return Augmenter(A.Compose(steps, bbox_params=box_rules, seed=seed))
