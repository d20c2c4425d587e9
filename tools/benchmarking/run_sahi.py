"""One run of SAHI, for `benchmark_peers.py`: a job as JSON, in SAHI's environment.

The job names `raster`, `output` (COCO annotations as JSON: SAHI knows no georeference) and
`weights`, torchvision's state dict of a RetinaNet with ResNet-50. With `chip_px`, `overlap`,
`score` and `nms_iou` it works as told, chips alone and NMS; without them at its defaults, which add
a pass over the whole image and merge by GREEDYNMM.
"""

import importlib
import json
import time
from pathlib import Path
from typing import Any

from benchmarking.child import keep_boxes, read_job, write_report
from benchmarking.peer_network import resnet50_fpn


def main() -> None:
    """Load, predict, write, report."""
    job = read_job()
    predict = importlib.import_module("sahi.predict")
    model = load(job)
    ready = time.monotonic()
    options: dict[str, Any] = {}
    if "chip_px" in job:
        options = {
            "slice_height": job["chip_px"],
            "slice_width": job["chip_px"],
            "overlap_height_ratio": job["overlap"],
            "overlap_width_ratio": job["overlap"],
            "perform_standard_pred": False,
            "postprocess_type": "NMS",
            "postprocess_match_metric": "IOU",
            "postprocess_match_threshold": job["nms_iou"],
        }
    found = predict.get_sliced_prediction(job["raster"], model, verbose=0, **options)
    Path(job["output"]).write_text(json.dumps(found.to_coco_annotations(), default=float))
    done = time.monotonic()
    objects = found.object_prediction_list
    keep_boxes(job, [(item.bbox.to_xyxy(), item.score.value) for item in objects])
    write_report(ready=ready, done=done, objects=len(objects))


def load(job: dict[str, Any]) -> Any:  # noqa: ANN401  no types without SAHI
    """SAHI's wrapper around torchvision's RetinaNet with the weights of the job."""
    import torch
    from torchvision.models.detection import RetinaNet

    backbone = resnet50_fpn(job["threads"])
    limits = {}
    if "chip_px" in job:
        limits = {"score_thresh": job["score"], "nms_thresh": job["nms_iou"]}
    network = RetinaNet(backbone, num_classes=1, **limits)
    network.load_state_dict(torch.load(job["weights"]))
    wrapper = importlib.import_module("sahi.models.torchvision").TorchVisionDetectionModel
    confidence = {"confidence_threshold": job["score"]} if "chip_px" in job else {}
    return wrapper(model=network, device="cpu", category_mapping={"0": "tree"}, **confidence)


if __name__ == "__main__":
    main()
