"""Label images by a model and a second opinion, for a training that learns from both.

    python tools/pseudo_labels.py --model runs/tree-crowns-1/tree-crowns.safetensors \
        --images NEON_TREES/unlabelled --second NEON_TREES/deepforest/predictions_unlabelled.csv \
        --out DATA_FOLDER/pseudo.csv

The model looks at every image in the eight symmetries of a nadir view; its score for a crown is the
mean over all eight, with 0 where it saw none. The second opinion is a CSV in DeepForest's layout.
The score of a label is the mean of both; a crown that only one of them saw gets from the other
half the lowest score of that other's list, unless the list was cut off at its limit of boxes, or
knows nothing of the image: there absence says nothing. Recipes take the labels with `least_score`
and `sure_score`.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from deepforest_csv import write_deepforest_csv
from numpy.typing import NDArray

from geo_retina import defaults
from geo_retina.detection.backends import Model, load_model
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.space.boxes import iou
from geo_retina.space.detections import Detections
from geo_retina.space.merging import BoxFusion
from geo_retina.space.nms import nms

LOWEST_SCORE = 0.05
SURE_SCORE = 0.3
"""What the summary line counts from."""
LEAST_SCORE = 0.1
"""What is written."""
SAME_IOU = 0.4
"""Least overlap of two boxes of one crown."""
MOST_OVERLAP = 0.15
"""Hand-drawn crowns overlap by no more: no two of the 1,746 in the training data do."""
LIST_LIMIT = 200
"""Boxes an image after which the second opinion's list was cut off."""
LIST_FLOOR = 0.2
"""Lowest score of that list."""

Floats = NDArray[np.float64]


def main() -> None:
    """Parse the command line, label, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=defaults.MODEL)
    parser.add_argument("--images", type=Path, required=True, help="folder of GeoTIFFs")
    parser.add_argument("--second", type=Path, help="CSV with scores; left out, there is none")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    model = load_model(arguments.model)
    names = model.card.class_names
    second: dict[str, Labels] = {}
    if arguments.second is not None:
        for item in read_deepforest_csv(arguments.second, class_names=names):
            second[Path(item.raster).name] = item.labels
    labelled = []
    for path in sorted(arguments.images.glob("*.tif")):
        own = see_eightfold(model, read_pixels(path))
        boxes, scores = agree(own, second.get(path.name))
        labels = Labels.of(boxes, np.zeros(len(boxes), np.int64), names, scores=scores)
        labelled.append(LabelledRaster(path.name, labels, site=path.name.split("_")[0]))
        print(f"{path.name}: {len(own)} by the model, {(scores >= SURE_SCORE).sum()} labels")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_deepforest_csv(labelled, arguments.out)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """(3, height, width) of an image with red, green and blue as its first bands."""
    with rasterio.open(path) as raster:
        return np.asarray(raster.read((1, 2, 3)), np.uint8)


def see_eightfold(model: Model, pixels: NDArray[np.uint8]) -> Detections:
    """Detections on the eight symmetries of an image, fused; a score is the mean over all eight."""
    views = [
        see(model, pixels, transposed=transposed, flips=flips)
        for transposed in (False, True)
        for flips in ((False, False), (True, False), (False, True), (True, True))
    ]
    fused = BoxFusion(threshold=0.5).settle(Detections.concat(views)).final
    scores = np.mean([matched_scores(fused.boxes, view) for view in views], axis=0)
    return Detections.of(fused.boxes, scores, fused.class_ids)


def see(
    model: Model, pixels: NDArray[np.uint8], *, transposed: bool, flips: tuple[bool, bool]
) -> Detections:
    """Detections on one symmetry of an image, in the frame of the image.

    Args:
        model: What looks.
        pixels: (bands, height, width).
        transposed: Swap x and y first.
        flips: Then mirror x, mirror y.
    """
    shown = pixels.transpose(0, 2, 1) if transposed else pixels
    shown = shown[:, :: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    found = model.detect_chip(np.ascontiguousarray(shown), score=LOWEST_SCORE)
    x_min, y_min, x_max, y_max = found.boxes.T
    height, width = shown.shape[1:]
    if flips[0]:
        x_min, x_max = width - x_max, width - x_min
    if flips[1]:
        y_min, y_max = height - y_max, height - y_min
    if transposed:
        x_min, y_min, x_max, y_max = y_min, x_min, y_max, x_max
    boxes = np.stack([x_min, y_min, x_max, y_max], axis=1)
    return Detections.of(boxes, found.scores, found.class_ids)


def matched_scores(boxes: Floats, others: Detections | Labels) -> Floats:
    """Score of the best of `others` that shows the same crown as each box, (N,); 0 without one."""
    if others.scores is None:
        raise ValueError("expected scores beside the boxes of the second opinion")
    same = iou(boxes, others.boxes) >= SAME_IOU
    best: Floats = np.where(same, others.scores[None], 0).max(axis=1, initial=0)
    return best


def agree(own: Detections, second: Labels | None) -> tuple[Floats, NDArray[np.float32]]:
    """Boxes and mean scores of two opinions; boxes of both are averaged, overlaps thinned out.

    Args:
        own: One opinion.
        second: The other one; None where it says nothing of the image.
    """
    says_nothing = second is None or len(second) >= LIST_LIMIT
    other = Detections.empty()
    if second is not None and second.scores is not None:
        other = Detections.of(second.boxes, second.scores, second.class_ids)
    theirs, mine = matched_scores(own.boxes, other), matched_scores(other.boxes, own)
    absent = own.scores if says_nothing else np.full(len(own), LIST_FLOOR / 2)
    from_own = (own.scores + np.where(theirs > 0, theirs, absent)) / 2
    alone = mine == 0
    from_other = (other.scores[alone] + LOWEST_SCORE) / 2
    boxes = np.concatenate([averaged(own.boxes, other), other.boxes[alone]])
    scores = np.concatenate([from_own, from_other]).astype(np.float32)
    kept = nms(boxes, scores, threshold=MOST_OVERLAP)
    kept = kept[scores[kept] >= LEAST_SCORE]
    return boxes[kept], scores[kept]


def averaged(boxes: Floats, other: Detections) -> Floats:
    """Each box, in the middle between itself and the most similar one of the other opinion."""
    if not len(other):
        return boxes
    overlaps = iou(boxes, other.boxes)
    best = overlaps.argmax(axis=1)
    same = overlaps[np.arange(len(boxes)), best] >= SAME_IOU
    return np.where(same[:, None], (boxes + other.boxes[best]) / 2, boxes)


if __name__ == "__main__":
    main()
