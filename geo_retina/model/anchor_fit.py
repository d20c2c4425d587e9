"""Pyramid levels and anchors proposed from the sides of the labelled objects.

The paper gives level l one octave of sizes from 4 * 2**l px up (section 4). Kept here is the idea
that an anchor spans some four to eight positions of its level; the levels are those that the
objects need, and within a level the sizes lie where its objects are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.errors import LabelError
from geo_retina.model.settings import AnchorSettings, NetworkSettings, octave_sizes

_FINEST, _COARSEST = 2, 7
_SIDES_PER_STRIDE = 4.0
_LLOYD_STEPS = 50
_RARE = 0.01  # share of the objects under which an outermost level is not worth having
_LEAST_GAP = 1 / 6  # octaves, between neighbouring sizes or ratios


@dataclass(frozen=True, slots=True)
class AnchorProposal:
    """Levels and anchors for a set of objects."""

    levels: tuple[int, ...]
    anchors: AnchorSettings

    def apply(self, network: NetworkSettings) -> NetworkSettings:
        """The same network with these levels and anchors."""
        changes = {"levels": self.levels, "anchors": self.anchors}
        return NetworkSettings.model_validate(network.model_dump() | changes)

    def toml(self) -> str:
        """The part of a configuration that says this."""
        sizes = [[round(size, 1) for size in row] for row in self.anchors.sizes]
        ratios = [round(ratio, 2) for ratio in self.anchors.ratios]
        return (
            f"[network]\nlevels = {list(self.levels)}\n\n"
            f"[network.anchors]\nsizes = {sizes}\nratios = {ratios}\n"
        )


def fit_anchors(
    boxes: NDArray[np.floating], *, sizes_per_level: int = 3, ratios: int = 3
) -> AnchorProposal:
    """Propose levels and anchors.

    Every object goes to the level whose octave its size falls in, within P2..P7. Levels at either
    end that have less than a hundredth of the objects are dropped, and their objects go to the
    level that is left. On each level the sizes are the k-means centres of the logarithms of its
    objects' sizes, and the ratios, shared by the levels, those of the logarithms of height over
    width: the logarithm, because IoU asks how many times too large an anchor is.

    Args:
        boxes: (M, 4) pixel edges of the objects, at the GSD of the chips.
        sizes_per_level: Anchor sizes of each level.
        ratios: Shapes for each size.

    Raises:
        LabelError: There are no objects, or one has no area.
    """
    sides = np.asarray(boxes[:, 2:] - boxes[:, :2], dtype=np.float64)
    if len(sides) == 0 or not (sides > 0).all():
        raise LabelError(
            f"anchors need objects with an area to be fitted to, got {len(sides)} boxes, "
            f"{int((sides <= 0).any(axis=1).sum())} of them empty"
        )
    log_sizes = np.log2(sides.prod(axis=1)) / 2
    octaves = np.floor(log_sizes - np.log2(_SIDES_PER_STRIDE)).astype(np.int64)
    own_level = np.clip(octaves, _FINEST, _COARSEST)
    finest = int(np.quantile(own_level, _RARE, method="higher"))
    coarsest = int(np.quantile(own_level, 1 - _RARE, method="lower"))
    levels = tuple(range(min(finest, coarsest), max(finest, coarsest) + 1))
    own_level = np.clip(own_level, levels[0], levels[-1])
    sizes = [
        _level_sizes(log_sizes[own_level == level], level, sizes_per_level) for level in levels
    ]
    shapes = _centres(np.log2(sides[:, 1] / sides[:, 0]), ratios)
    return AnchorProposal(
        levels,
        AnchorSettings(
            sizes=tuple(tuple(float(size) for size in row) for row in sizes),
            ratios=tuple(float(ratio) for ratio in 2**shapes),
        ),
    )


def _level_sizes(log_sizes: NDArray[np.float64], level: int, count: int) -> NDArray[np.float64]:
    """Anchor sizes of one level; the paper's where no object is."""
    if len(log_sizes) == 0:
        return np.array(octave_sizes([level], per_octave=count)[0])
    fitted: NDArray[np.float64] = 2.0 ** _centres(log_sizes, count)
    return fitted


def _centres(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """k-means of (M,) values, by Lloyd's steps from evenly spread quantiles: (count,), rising.

    Values that hardly differ would give the same centre over and over: neighbours are kept
    `_LEAST_GAP` apart, around the same mean.
    """
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(_LLOYD_STEPS):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        moved = np.array(
            [
                values[nearest == number].mean() if (nearest == number).any() else centre
                for number, centre in enumerate(centres)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    centres = np.sort(centres)
    ladder = np.arange(count) * _LEAST_GAP
    apart: NDArray[np.float64] = np.maximum.accumulate(centres - ladder) + ladder
    balanced: NDArray[np.float64] = apart - (apart - centres).mean()
    return balanced
