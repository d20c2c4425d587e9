"""The rows of the study: what each changes in the recipe of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from geo_retina.model.convert import TORCHVISION_ANCHORS


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    label: str
    """What stands in the table."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe, as `geo-retina train` takes them."""
    by_data: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further changes that depend on the data set."""

    def changes(self, data: str) -> tuple[str, ...]:
        """All changes of the recipe of a data set."""
        return self.overrides + self.by_data.get(data, ())


def _classes(settings: str) -> tuple[str, ...]:
    return (f"loss.classes={{{settings}}}",)


def _cross_entropy(alpha: str) -> tuple[str, ...]:
    return _classes(f'kind = "cross_entropy", alpha = {alpha}')


def _focal(gamma: float, alpha: float) -> tuple[str, ...]:
    return _classes(f'kind = "focal", gamma = {gamma}, alpha = {alpha}')


_CE = _cross_entropy('"none"')
_NO_PRIOR = ("network.head.prior=0.5",)
_PAPER_OPTIMISER = (
    "schedule.optimiser=sgd",
    "schedule.learning_rate=0.0025",
    "schedule.weight_decay=1e-4",
    "schedule.clip_norm=0",
)
_TORCHVISION = (
    "network.levels=[3, 4, 5, 6, 7]",
    f"network.anchors.sizes={[list(row) for row in TORCHVISION_ANCHORS.sizes]}",
    f"network.anchors.ratios={list(TORCHVISION_ANCHORS.ratios)}",
    f"network.anchors.offset={TORCHVISION_ANCHORS.offset}",
    f"network.anchors.spacing={TORCHVISION_ANCHORS.spacing}",
    "network.anchors.whole_pixels=true",
)
_ALL_ANCHORS = ("card.candidates_per_level=40000", "card.detections_per_chip=10000")
"""Where in a few hundred steps many anchors do not fall under the score of 0.05: chips that reach a
limit would be split and run again, part by part."""
_P2 = {
    "neon": ("network.levels=[2, 3]", *_ALL_ANCHORS),
    "tanks": ("network.levels=[2, 3, 4]", *_ALL_ANCHORS),
}
_MEAN_SIZE = {"neon": "24.0", "tanks": "22.0"}

LOSSES = {
    "ce-no-prior": Row("CE, prior 0.5", (*_CE, *_NO_PRIOR)),
    "ce": Row("CE", _CE),
    "ce-25": Row("balanced CE, alpha 0.25", _cross_entropy("0.25")),
    "ce-50": Row("balanced CE, alpha 0.5", _cross_entropy("0.5")),
    "ce-75": Row("balanced CE, alpha 0.75", _cross_entropy("0.75")),
    "ohem": Row("OHEM, 256 anchors a chip", _classes('kind = "ohem", count = 256')),
    "hard-negatives": Row("hard negatives 1:3", _classes('kind = "hard_negatives", ratio = 3.0')),
    "objectness": Row("CE on objectness x class", (*_CE, "network.head.objectness=true")),
    "fl-05": Row("FL, gamma 0.5, alpha 0.5", _focal(0.5, 0.5)),
    "fl-1": Row("FL, gamma 1, alpha 0.25", _focal(1, 0.25)),
    "fl-2": Row("FL, gamma 2, alpha 0.25", _focal(2, 0.25)),
    "fl-5": Row("FL, gamma 5, alpha 0.25", _focal(5, 0.25), {"tanks": _ALL_ANCHORS}),
    "fl-star": Row("FL*, gamma 2, beta 1", _classes('kind = "focal_star", gamma = 2, beta = 1')),
}
"""Class losses; all but the first start from the prior 0.01."""

OPTIMISERS = {
    "sgd-ce-no-prior": Row("CE, prior 0.5", (*_CE, *_NO_PRIOR, *_PAPER_OPTIMISER)),
    "sgd-ce": Row("CE", (*_CE, *_PAPER_OPTIMISER)),
    "sgd-fl-no-prior": Row(
        "FL, gamma 2, alpha 0.25, prior 0.5",
        (*_focal(2, 0.25), *_NO_PRIOR, *_PAPER_OPTIMISER),
    ),
    "sgd-fl-2": Row("FL, gamma 2, alpha 0.25", (*_focal(2, 0.25), *_PAPER_OPTIMISER)),
}
"""With and without the prior under the paper's optimiser: SGD without clipping, its rate of 0.01
for 16 images (section 4.1) brought down to 4."""

DENSE = {
    "torchvision": Row("torchvision's levels and anchors (P3 to P7)", _TORCHVISION),
    "fl-2": Row("fitted anchors, no P2"),
    "p2": Row("fitted anchors, P2", by_data=_P2),
    "p2-atss": Row("fitted anchors, P2, ATSS", ('loss.assignment={kind = "atss"}',), _P2),
    "p2-nwd": Row(
        "fitted anchors, P2, NWD",
        by_data={
            data: (
                *_P2[data],
                f'loss.assignment={{kind = "nwd", constant = {_MEAN_SIZE[data]}}}',
            )
            for data in _P2
        },
    ),
}
"""Levels, anchors and assignment, all with the focal loss; `fl-2` is the recipe as it stands."""

_LONGER = ("schedule.steps=1200", "schedule.epoch_steps=1200")
LONGER = {
    f"{name}-longer": Row(LOSSES[name].label, (*LOSSES[name].overrides, *_LONGER))
    for name in ("ce-no-prior", "ce", "fl-05", "fl-1", "fl-2")
}
"""Four times as many steps: whether what holds after 300 still holds."""

TABLES = {"losses": LOSSES, "optimisers": OPTIMISERS, "dense": DENSE, "longer": LONGER}

ROWS = DENSE | OPTIMISERS | LONGER | LOSSES
"""Every row by its name."""
