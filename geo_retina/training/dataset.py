"""Training chips, cut at random from labelled images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from geo_retina.labels.labels import LabelledRaster
from geo_retina.model.criterion import Targets
from geo_retina.training.augment import build_augmenter
from geo_retina.training.settings import AugmentSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """One training chip."""

    pixels: Tensor
    """(bands, crop_px, crop_px), the type of the image."""
    targets: Targets


@dataclass(frozen=True, slots=True)
class WeightedRaster:
    """A labelled raster and how often it is drawn, relative to its share of all pixels."""

    labelled: LabelledRaster
    weight: float


class RandomChips(Dataset[Sample]):
    """Random chips by number; each depends on nothing but the seed and its number.

    An image is drawn with a probability proportional to its area times its weight, then a window of
    random place is cut from it and changed by the augmenter.
    """

    def __init__(
        self,
        rasters: Sequence[WeightedRaster],
        *,
        augment: AugmentSettings,
        bands: int,
        seed: int,
    ) -> None:
        self.rasters = list(rasters)
        self.augment = augment
        self.bands = bands
        self.seed = seed
        areas = [weighted.weight * _pixel_count(weighted.labelled) for weighted in rasters]
        self.shares = np.array(areas) / np.sum(areas)

    def __getitem__(self, number: int) -> Sample:
        """Cut and change chip `number`."""
        random = np.random.default_rng([self.seed, number])
        labelled = self.rasters[random.choice(len(self.rasters), p=self.shares)].labelled
        pixels, boxes, class_ids = _random_window(labelled, random, self._largest_side())
        change = build_augmenter(self.augment, bands=self.bands, seed=int(random.integers(2**31)))
        chip, boxes_left, ids_left = change(pixels, boxes, class_ids)
        return Sample(
            torch.from_numpy(np.ascontiguousarray(chip.transpose(2, 0, 1))),
            Targets(torch.from_numpy(boxes_left), torch.from_numpy(ids_left)),
        )

    def _largest_side(self) -> int:
        return round(self.augment.crop_px / self.augment.zoom[0])


class EpochSampler(Sampler[int]):
    """Numbers of the chips of one epoch: no chip is seen twice, whatever epoch a run resumes at."""

    def __init__(self, chips: int) -> None:
        self.chips = chips
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in order."""
        return iter(range(self.epoch * self.chips, (self.epoch + 1) * self.chips))

    def __len__(self) -> int:
        """Count the chips of an epoch."""
        return self.chips


def collate(samples: Sequence[Sample]) -> tuple[Tensor, list[Targets]]:
    """Stack the pixels of a batch; targets stay a list, one a chip."""
    return torch.stack([sample.pixels for sample in samples]), [
        sample.targets for sample in samples
    ]


def _random_window(
    labelled: LabelledRaster, random: np.random.Generator, side: int
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.int64]]:
    """Cut a window of `side` pixels, or the whole image where it is smaller."""
    pixels = _read(labelled.raster)
    height, width = pixels.shape[:2]
    row = int(random.integers(max(height - side, 0) + 1))
    column = int(random.integers(max(width - side, 0) + 1))
    cut = pixels[row : row + side, column : column + side]
    boxes = labelled.labels.boxes - np.array([column, row, column, row], dtype=np.float64)
    bottom, right = cut.shape[:2]
    seen = (boxes[:, 0] < right) & (boxes[:, 1] < bottom) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return cut, boxes[seen], labelled.labels.class_ids[seen]


@lru_cache(maxsize=512)
def _read(path: str) -> NDArray[np.generic]:
    """All pixels of an image, (height, width, bands)."""
    with rasterio.open(path) as raster:
        pixels: NDArray[np.generic] = raster.read().transpose(1, 2, 0)
    return np.ascontiguousarray(pixels)


def _pixel_count(labelled: LabelledRaster) -> int:
    with rasterio.open(labelled.raster) as raster:
        return int(raster.width) * int(raster.height)
