"""Training steps of one network, for `benchmark.py train`: a job as JSON.

The job names the `contender`, one of `CONTENDERS`, `batch`, `chip`, `objects` and `steps`. Those
with ResNet-50 are RetinaNets with the same weights, learn from the same pixels and boxes with the
same losses, and all their layers learn; so do those with the network of `tree-crowns`. A step is
forward, loss, backward and SGD.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn

from benchmarking.child import read_job, write_report
from geo_retina import defaults
from geo_retina.model.checkpoint import load_network, read_info
from geo_retina.model.convert import convert_state_dict
from geo_retina.model.criterion import Criterion, Focal, LossSettings, MaxIou, SmoothL1, Targets
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.training.depthwise import FastDepthwise

RESNET, LITE = "ResNet-50", f"the network of {defaults.MODEL}"
CLASSES = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Step = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Contender:
    """What takes the steps."""

    network: str
    """`RESNET` or `LITE`."""
    ours: bool = True
    """Or torchvision's."""
    half: bool = False
    """Under bfloat16 autocast."""
    depthwise: bool = True
    """With `FastDepthwise`."""

    @property
    def name(self) -> str:
        """For tables."""
        whose = "geo_retina" if self.ours else "torchvision"
        gradients = "" if self.depthwise else ", PyTorch's depthwise gradients"
        return f"{whose}, {'bfloat16' if self.half else 'float32'}{gradients}"

    def precision(self) -> AbstractContextManager[object]:
        """Around forward and loss."""
        return torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext()


CONTENDERS = (
    Contender(RESNET, ours=False),
    Contender(RESNET),
    Contender(RESNET, ours=False, half=True),
    Contender(RESNET, half=True),
    Contender(LITE),
    Contender(LITE, half=True, depthwise=False),
    Contender(LITE, half=True),
)
"""In groups of one network; the first of a group is what its others are compared with."""


def main() -> None:
    """Build, step once to warm up, step on and report."""
    job = read_job()
    contender = CONTENDERS[job["contender"]]
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    theirs = build_torchvision(job["chip"]) if contender.network == RESNET else None
    pixels = torch.randint(256, (job["batch"], 3, job["chip"], job["chip"]), dtype=torch.uint8)
    classes = 1 if theirs is None else CLASSES
    targets = [make_targets(job["objects"], job["chip"], classes) for _ in range(job["batch"])]
    if theirs is None:
        step = our_step(load_network(read_info(defaults.MODEL)), pixels, targets, contender)
    elif contender.ours:
        step = our_step(convert_state_dict(theirs.state_dict()), pixels, targets, contender)
    else:
        step = their_step(theirs, pixels, targets, contender)
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


def make_targets(count: int, chip_px: int, classes: int) -> Targets:
    """Objects of 16 to 64 px, anywhere."""
    sides = 16 + 48 * torch.rand(count, 2)
    low = torch.rand(count, 2) * (chip_px - sides)
    return Targets(torch.cat([low, low + sides], dim=1), torch.randint(classes, (count,)))


def our_step(
    network: RetinaNet, pixels: Tensor, targets: list[Targets], contender: Contender
) -> Step:
    """The step of `training.module.DetectorModule`, without Lightning around it."""
    network = network.to(memory_format=torch.channels_last).train()
    rules = LossSettings(
        classes=Focal(gamma=2, alpha=0.25),
        boxes=SmoothL1(beta=0),
        assignment=MaxIou(),
        divide_by="chip",
    )
    criterion = Criterion(rules)
    mode = FastDepthwise if contender.depthwise else nullcontext

    def compute() -> Tensor:
        images = normalise(pixels, value_range=(0, 255), mean=MEAN, std=STD)
        images = images.contiguous(memory_format=torch.channels_last)
        with mode():
            outputs = network(images)
        loss: Tensor = criterion(outputs, network.anchors(images), targets).total
        return loss

    return partial(_step, compute, _optimiser(network), contender)


def their_step(
    theirs: nn.Module, pixels: Tensor, targets: list[Targets], contender: Contender
) -> Step:
    """The step of torchvision's reference training, without its loader."""
    theirs.train()
    plain = [{"boxes": item.boxes, "labels": item.class_ids} for item in targets]

    def compute() -> Tensor:
        losses: dict[str, Tensor] = theirs([image.float() / 255 for image in pixels], plain)
        return torch.stack(list(losses.values())).sum()

    return partial(_step, compute, _optimiser(theirs), contender)


def _optimiser(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)


def _step(
    compute: Callable[[], Tensor], optimiser: torch.optim.Optimizer, contender: Contender
) -> Tensor:
    with contender.precision():
        loss = compute()
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss


if __name__ == "__main__":
    main()
