"""Draw how the loss of a trained model spreads over easy and hard anchors (the paper's Figure 4).

    python tools/figures/loss_share.py --recipe configs/tree-crowns.toml --data FOLDER

Chips are cut as the recipe's training cuts them, from one of its sources, and anchors are assigned
by its rule. The focal loss of all foreground and all background anchors is sorted from the lowest
to the highest and summed up; each curve ends at 1. A model trained with one gamma serves for all
curves, as in the paper.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from geo_retina import defaults
from geo_retina.config import load_settings
from geo_retina.model import losses
from geo_retina.model.checkpoint import load_network, read_info
from geo_retina.model.criterion import Assignment, Targets
from geo_retina.model.retinanet import RetinaNet, normalise
from geo_retina.training.data import read_data
from geo_retina.training.dataset import RandomChips
from geo_retina.training.settings import TrainingSettings

GAMMAS = (0, 0.5, 1, 2, 5)
COLOURS = ("tab:blue", "tab:orange", "tab:olive", "tab:purple", "tab:green")
HARDEST = (0.2, 0.1, 0.01, 0.001)


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Class logits of one chip, or of many."""

    foreground: Tensor
    """(P,) of the anchors that learn an object, for its class."""
    background: Tensor
    """(B,) of the anchors that learn none, for every class."""


def chip_logits(
    network: RetinaNet, images: Tensor, targets: Targets, assignment: Assignment
) -> Logits:
    """Logits of one chip, apart for foreground and background; ignored anchors are left out.

    Args:
        network: In evaluation mode.
        images: (1, bands, H, W) normalised pixels.
        targets: The chip's objects.
        assignment: Which anchor learns which object.
    """
    with torch.inference_mode():
        logits = network(images).logits[0]  # (A, K)
    assigned = assignment.assign(network.anchors(images), targets.boxes)
    positive = assigned >= 0
    classes = targets.class_ids[assigned[positive]]
    return Logits(
        logits[positive].gather(1, classes[:, None])[:, 0], logits[assigned == -1].flatten()
    )


def cumulative_share(logits: Tensor, *, target: float, gamma: float) -> NDArray[np.float64]:
    """Share of the whole focal loss that the easiest n of N anchors hold, for n = 1 to N.

    Args:
        logits: (N,) class logits.
        target: 1 for foreground, 0 for background.
        gamma: Of the focal loss; alpha would cancel.

    Returns:
        (N,) rising to 1.
    """
    wide = logits.double()
    values = losses.focal(wide, torch.full_like(wide, target), gamma=gamma)
    summed = values.sort().values.cumsum(0)
    shares: NDArray[np.float64] = (summed / summed[-1]).numpy()
    return shares


def share_of_hardest(shares: NDArray[np.float64], part: float) -> float:
    """Share of the loss that the hardest `part` of the anchors holds."""
    easier = round(len(shares) * (1 - part))
    return float(1 - shares[easier - 1]) if easier else 1.0


def collect(settings: TrainingSettings, data: Path, *, model: str, chips: int) -> Logits:
    """Logits of a model on the first chips of a training."""
    info = read_info(model)
    network = load_network(info).eval()
    rasters = read_data(settings, data).train
    samples = RandomChips(
        rasters, card=info.card, augment=settings.augment, seed=settings.schedule.seed
    )
    found = []
    for number in range(chips):
        sample = samples[number]
        images = normalise(
            sample.pixels[None],
            value_range=info.card.value_range,
            mean=info.card.mean,
            std=info.card.std,
        )
        found.append(chip_logits(network, images, sample.targets, settings.loss.assignment))
    return Logits(
        torch.cat([item.foreground for item in found]),
        torch.cat([item.background for item in found]),
    )


def draw(figure: Figure, logits: Logits) -> None:
    """Both panels."""
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, target, title in (
        (left, logits.foreground, 1.0, "foreground"),
        (right, logits.background, 0.0, "background"),
    ):
        for gamma, colour in zip(GAMMAS, COLOURS, strict=True):
            _draw_curve(axes, cumulative_share(values, target=target, gamma=gamma), gamma, colour)
        axes.set_title(f"{len(values):,} {title} anchors")
        axes.set_xlabel(f"share of the {title} anchors, easiest first")
        axes.grid(visible=True, alpha=0.3)
    left.set_ylabel("share of their loss")
    left.legend()


def report(logits: Logits) -> str:
    """What the hardest anchors hold, one line a panel and gamma."""
    lines = []
    for name, values, target in (
        ("foreground", logits.foreground, 1.0),
        ("background", logits.background, 0.0),
    ):
        for gamma in GAMMAS:
            shares = cumulative_share(values, target=target, gamma=gamma)
            parts = (f"hardest {part:.1%} {share_of_hardest(shares, part):.1%}" for part in HARDEST)
            lines.append(f"{name}, gamma {gamma:g}: {', '.join(parts)}")
    return "\n".join(lines)


def _draw_curve(axes: Axes, shares: NDArray[np.float64], gamma: float, colour: str) -> None:
    shown = np.unique(np.geomspace(1, len(shares), 2000).round().astype(int))
    index = len(shares) - shown[::-1]  # dense where the hard ones are
    axes.plot((index + 1) / len(shares), shares[index], color=colour, label=f"gamma {gamma:g}")


def main() -> None:
    """Parse the command line, draw the figure and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="what the recipe's paths are in")
    parser.add_argument("--source", type=int, default=0, help="which of its [[train]] tables")
    parser.add_argument("--model", default=defaults.MODEL, help="bundled model or checkpoint")
    parser.add_argument("--chips", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/loss-share.png"))
    options = parser.parse_args()
    settings = load_settings(options.recipe, TrainingSettings)
    settings = settings.model_copy(update={"train": (settings.train[options.source],)})
    logits = collect(settings, options.data, model=options.model, chips=options.chips)
    figure = Figure(figsize=(9, 4), layout="constrained")
    draw(figure, logits)
    figure.savefig(options.out, dpi=110)
    print(report(logits))
    print(options.out)


if __name__ == "__main__":
    main()
