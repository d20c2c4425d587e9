"""The reference implementation of COCO's evaluation must give the same numbers."""

from typing import Any

import numpy as np
import pytest

from geo_retina.evaluation.evaluate import EvaluationOptions, evaluate_detections
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.metrics import COCO_IOUS, coco_average_precision, precision_recall
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import IouRule, size_ranges
from geo_retina.labels.labels import Labels
from geo_retina.space.detections import Detections

faster_coco_eval = pytest.importorskip("faster_coco_eval")

CLASSES = ("tree", "palm", "shrub")


def random_pairs(seed: int, *, rasters: int = 4, per_raster: int = 60) -> list[Pair]:
    """Dense, overlapping objects of all sizes, doubles, confusions, ties, crowds, empty rasters."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(rasters):
        count = 0 if number == 0 else per_raster
        corner = rng.uniform(0, 400, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 130, (count, 2))], axis=1)
        ids = rng.integers(0, 2, count)
        crowd = rng.random(count) < 0.1
        seen = rng.integers(0, max(count, 1), 2 * count)
        found = boxes[seen] + rng.normal(0, 4, (len(seen), 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        strays = rng.uniform(0, 400, (20, 2))
        found = np.concatenate([found, np.concatenate([strays, strays + 30], axis=1)])
        found_ids = np.append(np.where(rng.random(len(seen)) < 0.1, 2, ids[seen]), [0] * 20)
        scores = np.round(rng.random(len(found)), 2)  # some are equal
        labels = Labels.of(boxes, ids, CLASSES, ignored=crowd)
        pairs.append(Pair(f"{number}.tif", Detections.of(found, scores, found_ids), labels))
    return pairs


def coco_precision(pairs: list[Pair]) -> np.ndarray:
    """(10 IoUs, 101 recalls, K classes, 4 size ranges) of the reference; -1 without labels."""
    truth: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": i, "width": 999, "height": 999} for i in range(len(pairs))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": [],
    }
    results = []
    for image, pair in enumerate(pairs):
        labels, found = pair.labels, pair.detections
        for box, key, counted in zip(labels.boxes, labels.class_ids, labels.counted, strict=True):
            truth["annotations"].append(
                _row(image, box, key)
                | {"id": len(truth["annotations"]) + 1, "iscrowd": int(not counted)}
            )
        for box, key, score in zip(found.boxes, found.class_ids, found.scores, strict=True):
            results.append(_row(image, box, key) | {"score": float(score)})
    reference = faster_coco_eval.COCO(truth)
    evaluation = faster_coco_eval.COCOeval_faster(
        reference, reference.loadRes(results), iouType="bbox", print_function=lambda *_: None
    )
    evaluation.params.maxDets = [1, 10, 100_000]
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., -1]


def _row(image: int, box: np.ndarray, class_id: int) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box.tolist()
    width, height = x_max - x_min, y_max - y_min
    return {
        "image_id": image,
        "category_id": int(class_id),
        "bbox": [x_min, y_min, width, height],
        "area": width * height,
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_iou_class_and_size_agrees(seed: int) -> None:
    pairs = random_pairs(seed)
    expected = coco_precision(pairs)
    candidates = [IouRule(0.5).candidates(pair) for pair in pairs]
    for t, iou in enumerate(COCO_IOUS):
        for a, sizes in enumerate((None, *size_ranges((32, 96)))):
            table = match_pairs(pairs, candidates, threshold=IouRule(iou).threshold, sizes=sizes)
            for k in range(len(CLASSES)):
                ours = coco_average_precision(precision_recall(table.of_class(k)))
                theirs = expected[t, :, k, a]
                theirs_mean = float("nan") if (theirs == -1).any() else float(theirs.mean())
                assert ours == pytest.approx(theirs_mean, abs=1e-12, nan_ok=True)


def test_summary_numbers_agree() -> None:
    pairs = random_pairs(7)
    expected = coco_precision(pairs)
    found = evaluate_detections(pairs, options=EvaluationOptions(bootstrap_samples=0)).quality
    assert found.ap50 == pytest.approx(expected[0, :, :2, 0].mean(), abs=1e-12)
    assert found.ap50_95 == pytest.approx(expected[:, :, :2, 0].mean(), abs=1e-12)
