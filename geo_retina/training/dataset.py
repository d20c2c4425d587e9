"""Training chips by number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from geo_retina.card import ModelCard
from geo_retina.model.criterion import Targets
from geo_retina.training.augment import Augmenter, CutSquare
from geo_retina.training.draw import SquareDraw
from geo_retina.training.mosaic import corner_of, mosaic
from geo_retina.training.pixels import PixelReader, Square
from geo_retina.training.rasters import TrainingRaster
from geo_retina.training.settings import AugmentSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """One training chip."""

    pixels: Tensor
    """(bands, crop_px, crop_px), of the card's data type."""
    targets: Targets
    origin: str
    """Raster and square that it was cut from."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Training chips that go through the network together."""

    pixels: Tensor
    """(N, bands, crop_px, crop_px), of the card's data type."""
    targets: tuple[Targets, ...]
    """N entries."""
    origins: tuple[str, ...]
    """N entries."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return Batch(
            self.pixels.to(device, non_blocking=non_blocking),
            tuple(item.to(device, non_blocking=non_blocking) for item in self.targets),
            self.origins,
        )

    def pin_memory(self) -> "Batch":
        """The same batch in memory that a GPU fetches by itself; torch's loader asks for it."""
        targets = tuple(item.pin_memory() for item in self.targets)
        return Batch(self.pixels.pin_memory(), targets, self.origins)


class RandomChips(Dataset[Sample]):
    """Random chips by number; each depends on nothing but the seed and its number."""

    def __init__(
        self,
        rasters: Sequence[TrainingRaster],
        *,
        card: ModelCard,
        augment: AugmentSettings,
        seed: int,
    ) -> None:
        self._draw = SquareDraw(rasters, augment)
        self._reader = PixelReader(card)
        self._augmenter = Augmenter(augment, card)
        self._augment = augment
        self._seed = seed

    def __getitem__(self, number: int) -> Sample:
        """Cut and change chip `number`."""
        random = np.random.default_rng([self._seed, number])
        chip, origin = self._chip(random)
        if random.random() < self._augment.mosaic:
            others, origins = zip(*(self._chip(random) for _ in range(3)), strict=True)
            corner = corner_of(self._augment.crop_px, random)
            chip = mosaic(
                [chip, *others],
                corner,
                least_visible=self._augment.least_visible,
                least_side_px=self._augment.least_side_px,
            )
            origin = "; ".join([origin, *origins])
        return Sample(
            torch.from_numpy(chip.pixels),
            Targets(
                torch.from_numpy(chip.boxes.astype(np.float32)), torch.from_numpy(chip.class_ids)
            ),
            origin,
        )

    def _chip(self, random: np.random.Generator) -> tuple[CutSquare, str]:
        """A random chip, and where it was cut."""
        raster, square = self._draw.draw(random)
        cut = _cut(self._reader, raster, square)
        chip = self._augmenter(cut, seed=int(random.integers(2**31)))
        return chip, f"{raster.path} at {square.col_off}, {square.row_off} ({square.side} px)"


class EpochSampler(Sampler[int]):
    """Numbers of the chips of one epoch: no chip is seen twice, whatever epoch a run resumes at.

    With several processes each takes every `processes`-th number, so that together they see the
    same chips whatever their count.
    """

    def __init__(self, chips: int, *, process: int = 0, processes: int = 1) -> None:
        self.chips = chips
        self.process = process
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in order."""
        first = self.epoch * self.chips
        return iter(range(first + self.process, first + self.chips, self.processes))

    def __len__(self) -> int:
        """Count the chips of an epoch, for this process."""
        return len(range(self.process, self.chips, self.processes))


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together; targets stay a list, one a chip."""
    return Batch(
        torch.stack([sample.pixels for sample in samples]),
        tuple(sample.targets for sample in samples),
        tuple(sample.origin for sample in samples),
    )


def _cut(reader: PixelReader, raster: TrainingRaster, square: Square) -> CutSquare:
    """The pixels of a square and the objects that touch it; ignored ones are painted over."""
    pixels, valid = reader.read(raster, square)
    boxes = raster.boxes - np.tile([square.col_off, square.row_off], 2)
    seen = (boxes[:, :2] < square.side).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    seen &= ~raster.ignored
    return CutSquare(pixels, valid, boxes[seen], raster.class_ids[seen])
