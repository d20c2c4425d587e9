"""Training steps of one network, for `benchmark.py train`: a job as JSON.

The job names the `network` (`geo_retina` or `torchvision`), `batch`, `chip`, `objects` and `steps`.
Both are RetinaNets with ResNet-50 and the same weights, learn from the same pixels and boxes with
the same losses, and all their layers learn. A step is forward, loss, backward and SGD.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn

from benchmarking.child import read_job, write_report
from geo_retina.model.convert import convert_state_dict
from geo_retina.model.criterion import Criterion, Focal, LossSettings, MaxIou, SmoothL1, Targets
from geo_retina.model.retinanet import normalise

CLASSES = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Step = Callable[[], Tensor]


def main() -> None:
    """Build, step once to warm up, step on and report."""
    job = read_job()
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    theirs = build_torchvision(job["chip"])
    pixels = torch.randint(256, (job["batch"], 3, job["chip"], job["chip"]), dtype=torch.uint8)
    targets = [make_targets(job["objects"], job["chip"]) for _ in range(job["batch"])]
    builders = {"geo_retina": our_step, "torchvision": their_step}
    step = builders[job["network"]](theirs, pixels, targets)
    del theirs  # ours is a copy
    first = step().item()
    ready = time.monotonic()
    for _ in range(job["steps"]):
        step()
    done = time.monotonic()
    write_report(
        ready=ready,
        done=done,
        objects=job["objects"],
        images_per_s=job["steps"] * job["batch"] / (done - ready),
        loss=round(first, 5),
    )


def build_torchvision(chip_px: int) -> nn.Module:
    """The network of torchvision, which leaves chips of this size as they are."""
    network: nn.Module = retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        min_size=chip_px,
        max_size=chip_px,
    )
    return network


def make_targets(count: int, chip_px: int) -> Targets:
    """Objects of 16 to 64 px, anywhere."""
    sides = 16 + 48 * torch.rand(count, 2)
    low = torch.rand(count, 2) * (chip_px - sides)
    return Targets(torch.cat([low, low + sides], dim=1), torch.randint(CLASSES, (count,)))


def our_step(theirs: nn.Module, pixels: Tensor, targets: list[Targets]) -> Step:
    """The step of `training.module.DetectorModule`, without Lightning around it."""
    network = convert_state_dict(theirs.state_dict()).to(memory_format=torch.channels_last).train()
    rules = LossSettings(
        classes=Focal(gamma=2, alpha=0.25),
        boxes=SmoothL1(beta=0),
        assignment=MaxIou(),
        divide_by="chip",
    )
    criterion = Criterion(rules)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)

    def step() -> Tensor:
        images = normalise(pixels, value_range=(0, 255), mean=MEAN, std=STD)
        images = images.contiguous(memory_format=torch.channels_last)
        loss: Tensor = criterion(network(images), network.anchors(images), targets).total
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss

    return step


def their_step(theirs: nn.Module, pixels: Tensor, targets: list[Targets]) -> Step:
    """The step of torchvision's reference training, without its loader."""
    theirs.train()
    optimiser = torch.optim.SGD(theirs.parameters(), lr=1e-5, momentum=0.9)
    plain = [{"boxes": item.boxes, "labels": item.class_ids} for item in targets]

    def step() -> Tensor:
        losses: dict[str, Tensor] = theirs([image.float() / 255 for image in pixels], plain)
        loss: Tensor = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss

    return step


if __name__ == "__main__":
    main()
