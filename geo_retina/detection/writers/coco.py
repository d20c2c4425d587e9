"""COCO: boxes in raster pixels, for tools that know images rather than maps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from geo_retina.detection.writers.text_file import TextFile
from geo_retina.space import boxes as box_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from geo_retina.detection.writers.layer import Layer
    from geo_retina.space.detections import Detections

BOX_DECIMALS = 3
"""Decimals of box coordinates and areas, in pixels."""

_ANNOTATION = (
    '{"id":%d,"image_id":1,"category_id":%d,"bbox":[%r,%r,%r,%r],"area":%r,"iscrowd":0,'
    '"segmentation":[],"score":%r,"detection_id":"%s"}'
)


class CocoSink(TextFile):
    """One image, one annotation a detection. Category and annotation ids count from 1."""

    def __init__(self, path: Path, layer: Layer) -> None:
        self._layer = layer
        self._written = 0
        super().__init__(path, head=_head(layer), tail="\n]}\n")

    def write(self, detections: Detections) -> None:
        """Append annotations."""
        table = self._layer.attributes(detections)
        corners = np.round(detections.boxes, BOX_DECIMALS)
        sides = np.round(corners[:, 2:] - corners[:, :2], BOX_DECIMALS)
        numbers = range(self._written + 1, self._written + 1 + len(detections))
        rows = zip(
            numbers,
            (detections.class_ids + 1).tolist(),
            *np.hstack([corners[:, :2], sides]).T.tolist(),
            np.round(box_arrays.area(corners), BOX_DECIMALS).tolist(),
            table["score"].to_pylist(),
            table["id"].to_pylist(),
            strict=True,
        )
        for number, row in zip(numbers, rows, strict=True):
            self._file.write(("\n" if number == 1 else ",\n") + _ANNOTATION % row)
        self._written += len(detections)


def _head(layer: Layer) -> str:
    """All of the file before the first annotation."""
    raster = layer.metadata.get("raster")
    image = {
        "id": 1,
        "file_name": raster if isinstance(raster, str) else "",
        "width": layer.grid.width,
        "height": layer.grid.height,
    }
    categories = [
        {"id": number, "name": name} for number, name in enumerate(layer.class_names, start=1)
    ]
    head = {"info": dict(layer.metadata), "images": [image], "categories": categories}
    text = json.dumps(head, ensure_ascii=False, allow_nan=False)
    return text[:-1] + ', "annotations":['
