"""Draw the figures of docs/focal-loss.md.

python tools/figures/losses.py [FOLDER]

Every curve is computed by `geo_retina.model.losses`, the functions that train the network.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from geo_retina.model import losses

GAMMAS = (0, 0.5, 1, 2, 5)
ALPHAS = (0.25, 0.5, 0.75, 0.9, 0.99)
STARS = ((2, 1), (4, 0))  # gamma, beta of the paper's Table 3 and Figure 5
COLOURS = ("tab:blue", "tab:orange", "tab:olive", "tab:purple", "tab:green")

Loss = Callable[[Tensor, Tensor], Tensor]


def focal_of(gamma: float) -> Loss:
    """Focal loss with this gamma."""
    return lambda logits, targets: losses.focal(logits, targets, gamma=gamma)


def star_of(gamma: float, beta: float) -> Loss:
    """FL* with this gamma and beta."""
    return lambda logits, targets: losses.focal_star(logits, targets, gamma=gamma, beta=beta)


def new_figure(width: float = 6) -> Figure:
    """An empty figure."""
    return Figure(figsize=(width, 4), layout="constrained")


def draw_focal(figure: Figure) -> None:
    """Loss of a positive against p_t for several gamma (the paper's Figure 1)."""
    axes = figure.subplots()
    p_t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    for gamma, colour in zip(GAMMAS, COLOURS, strict=True):
        name = "cross entropy (gamma 0)" if gamma == 0 else f"focal loss, gamma {gamma:g}"
        values = focal_of(gamma)(p_t.logit(), torch.ones_like(p_t))
        axes.plot(p_t, values, label=name, color=colour)
    axes.axvspan(0.6, 1, color="0.93")
    axes.text(0.8, 0.62, "well classified", ha="center", color="0.4")
    finish(axes, x="p_t, probability of the true answer", y="loss", top=5)


def draw_balanced(figure: Figure) -> None:
    """Balanced cross entropy of an object and of background at several alpha."""
    left, right = figure.subplots(1, 2, sharey=True)
    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    for axes, target, title in ((left, 1.0, "an object (y = 1)"), (right, 0.0, "background")):
        for alpha, colour in zip(ALPHAS, COLOURS, strict=True):
            values = losses.balanced_cross_entropy(
                p.logit(), torch.full_like(p, target), alpha=alpha
            )
            axes.plot(p, values, label=f"alpha {alpha:g}", color=colour)
        axes.set_title(title)
        finish(axes, x="p, the score", y="loss" if target else "", top=5)


def draw_star(figure: Figure) -> None:
    """FL and FL* against x_t (the paper's Figure 5)."""
    axes = figure.subplots()
    x_t = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    for name, rule, style in curves():
        axes.plot(x_t, rule(x_t, torch.ones_like(x_t)), style, label=name)
    finish(axes, x="x_t = y x, logit of the true answer", y="loss", top=8)


def draw_derivative(figure: Figure) -> None:
    """Derivative of each loss with respect to x (the paper's Figure 6)."""
    axes = figure.subplots()
    for name, rule, style in curves():
        x = torch.linspace(-5, 5, 1001, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(rule(x, torch.ones_like(x)).sum(), x)
        axes.plot(x.detach(), slope, style, label=name)
    axes.set_ylim(-1.4, 0.1)
    finish(axes, x="x_t = y x, logit of the true answer", y="derivative of the loss", top=None)


def draw_start(figure: Figure) -> None:
    """Loss of all negatives per positive at the start, for each prior (section 4.1)."""
    axes = figure.subplots()
    prior = torch.logspace(-4, math.log10(0.5), 200, dtype=torch.float64)
    background = torch.zeros_like(prior)
    negatives = 1000.0
    for name, gamma in (("cross entropy", 0), ("focal loss, gamma 2", 2)):
        values = focal_of(gamma)(prior.logit(), background) * negatives
        axes.loglog(prior, values, label=f"{name}: {negatives:,.0f} negatives")
    one = focal_of(0)(prior.logit(), torch.ones_like(prior))
    axes.loglog(prior, one, "--", color="0.4", label="cross entropy: the one positive")
    for at in (0.01, 0.5):
        axes.axvline(at, color="0.8", zorder=0)
    finish(axes, x="prior: the score of every anchor at the start", y="loss", top=None)


def curves() -> list[tuple[str, Loss, str]]:
    """Name, function and line style of the losses that are compared."""
    return [
        ("cross entropy", losses.cross_entropy, "tab:blue"),
        ("FL, gamma 2", focal_of(2), "tab:purple"),
        *(
            (f"FL*, gamma {gamma}, beta {beta}", star_of(gamma, beta), style)
            for (gamma, beta), style in zip(STARS, ("tab:orange", "tab:green"), strict=True)
        ),
    ]


def finish(axes: Axes, *, x: str, y: str, top: float | None) -> None:
    """Label the axes."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if top is not None:
        axes.set_ylim(0, top)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def main(folder: Path) -> None:
    """Write every figure."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "focal-loss": (draw_focal, 6),
        "balanced-cross-entropy": (draw_balanced, 9),
        "focal-loss-star": (draw_star, 6),
        "derivatives": (draw_derivative, 6),
        "initialisation": (draw_start, 6),
    }
    for name, (draw, width) in drawings.items():
        figure = new_figure(width)
        draw(figure)
        figure.savefig(folder / f"{name}.png", dpi=110)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures"))
