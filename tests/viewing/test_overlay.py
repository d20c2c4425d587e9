from pathlib import Path

import numpy as np
from fixture_types import WriteRaster
from PIL import Image

from geo_retina.space.detections import Detections
from geo_retina.viewing.overlay import PictureWriter


def test_many_classes_have_colours_of_their_own(write_raster: WriteRaster, tmp_path: Path) -> None:
    raster = write_raster("a.tif", np.zeros((3, 40, 800), np.uint8))
    left = np.arange(12) * 60.0
    boxes = np.stack([left, left * 0, left + 50, left * 0 + 30], axis=1)
    with PictureWriter(tmp_path / "a.png", raster) as picture:
        picture.write(Detections.of(boxes, np.ones(12), np.arange(12)))
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert len({tuple(pixels[10, int(x)].tolist()) for x in left}) == 12
