"""One run of DeepForest, for `benchmark_peers.py`: a job as JSON, in DeepForest's environment.

The job names `raster`, `output` (GeoPackage) and `weights`, torchvision's state dict of a RetinaNet
with ResNet-50: DeepForest's own weights lie on a hub and are not fetched. With `chip_px`,
`overlap`, `score` and `nms_iou` it works as told; without them at its defaults.
"""

import importlib
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarking.child import keep_boxes, read_job, write_report
from benchmarking.peer_network import resnet50_fpn


def main() -> None:
    """Load, predict, write polygons in the raster's CRS, report."""
    job = read_job()
    model = load(job)
    utilities = importlib.import_module("deepforest.utilities")
    ready = time.monotonic()
    options = {}
    if "chip_px" in job:
        options = {
            "patch_size": job["chip_px"],
            "patch_overlap": job["overlap"],
            "iou_threshold": job["nms_iou"],
        }
    found = model.predict_tile(path=job["raster"], **options)
    utilities.image_to_geo_coordinates(found).to_file(job["output"])
    done = time.monotonic()
    boxes = found[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)
    keep_boxes(job, list(zip(boxes.tolist(), found["score"], strict=True)))
    write_report(ready=ready, done=done, objects=len(found))


def load(job: dict[str, Any]) -> Any:  # noqa: ANN401  no types without DeepForest
    """DeepForest's model with the weights of the job; nothing is downloaded.

    Its constructor builds torchvision's network with pretrained weights only to take the backbone
    from it; a backbone of the same layout without weights stands in.
    """
    import torch
    from torchvision.models import detection

    backbone = resnet50_fpn(job["threads"])
    detection.retinanet_resnet50_fpn = lambda **_: SimpleNamespace(backbone=backbone)
    hub = importlib.import_module("deepforest.models.retinanet").RetinaNetHub
    deepforest = importlib.import_module("deepforest.main").deepforest

    labels = {"Tree": 0}
    settings: dict[str, Any] = {
        "num_classes": 1,
        "label_dict": labels,
        "log_root": str(Path(job["output"]).parent),
    }
    if "chip_px" in job:
        settings |= {"score_thresh": job["score"], "nms_thresh": job["nms_iou"]}
    model = deepforest(model=torch.nn.Identity(), config_args=settings)
    network = hub(
        num_classes=1,
        nms_thresh=model.config.nms_thresh,
        score_thresh=model.config.score_thresh,
        label_dict=labels,
    )
    network.load_state_dict(torch.load(job["weights"]))
    model.model = network
    model.set_labels(labels)
    return model


if __name__ == "__main__":
    main()
