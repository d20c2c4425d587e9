"""A plugin of fixtures: a detector that finds what is in a chip, and rasters with known objects."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geo_retina.card import ModelCard
from geo_retina.detection.detector import ChipResult
from geo_retina.model.checkpoint import CheckpointInfo
from geo_retina.model.settings import NetworkSettings
from geo_retina.model.thresholds import Thresholds
from geo_retina.space.detections import Detections


@dataclass
class BlobDetector:
    """Finds every connected patch whose first band is above 128; its score is that band / 255.

    It sees of an object what the chip shows of it, as a perfect network would.
    """

    card: ModelCard
    batch: int = 1
    calls: int = 0

    def detect(self, pixels: NDArray[Any], thresholds: Thresholds) -> list[ChipResult]:
        self.calls += len(pixels)
        return [self._detect_chip(chip[0], thresholds) for chip in pixels]

    def _detect_chip(self, band: NDArray[Any], thresholds: Thresholds) -> ChipResult:
        patches, _ = ndimage.label(band > 128)
        slices = ndimage.find_objects(patches)
        boxes = np.array(
            [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in slices], dtype=np.float64
        ).reshape(-1, 4)
        scores = np.array([band[s].max() / 255 for s in slices])
        order = np.argsort(-scores, kind="stable")
        kept = order[: thresholds.detections_per_chip]
        found = Detections.of(boxes[kept], scores[kept], np.zeros(len(kept)))
        return ChipResult(found, saturated=len(kept) < len(order))


@pytest.fixture
def blob_detector(make_card: Callable[..., ModelCard]) -> BlobDetector:
    return BlobDetector(make_card())


@pytest.fixture
def blob_model(
    tmp_path: Path, make_card: Callable[..., ModelCard], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., BlobDetector]:
    """`blob_model(**card_changes)`: makes the runs of a test use a `BlobDetector`."""

    def install(*, batch: int = 1, **changes: Any) -> BlobDetector:
        # it takes names from modules that are changed here: once they are, it would keep the change
        import geo_retina.evaluation.runs  # noqa: F401

        card = make_card(**changes)
        file = tmp_path / "blobs.safetensors"
        file.write_bytes(b"stands for weights")
        info = CheckpointInfo(file, card, NetworkSettings(num_classes=len(card.class_names)))
        detector = BlobDetector(card, batch)
        for module in ("job", "backends"):
            monkeypatch.setattr(f"geo_retina.detection.{module}.read_info", lambda _model: info)
        monkeypatch.setattr("geo_retina.detection.chip_size.LARGEST_GROWTH", 1)  # many windows
        monkeypatch.setattr("geo_retina.detection.backends.load_backend", lambda *_, **__: detector)
        return detector

    return install


@pytest.fixture(scope="session")
def field_of_objects() -> Callable[..., tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """`field_of_objects(width, height)`: an RGB picture with squares that touch nowhere, and their
    boxes in pixel edges."""
    return _field_of_objects


def _field_of_objects(
    width: int, height: int, *, side: int = 12, gap: int = 20, seed: int = 3
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    pixels = np.full((3, height, width), 20, dtype=np.uint8)
    boxes = []
    for row in range(1, height - side, gap):
        for col in range(1, width - side, gap):
            x = col + int(random.integers(0, max(gap - side - 2, 1)))
            y = row + int(random.integers(0, max(gap - side - 2, 1)))
            if x + side < width and y + side < height:
                pixels[:, y : y + side, x : x + side] = random.integers(150, 250)
                boxes.append((x, y, x + side, y + side))
    return pixels, np.array(boxes, dtype=np.float64).reshape(-1, 4)
