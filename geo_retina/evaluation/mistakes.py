"""What kind of mistakes there are, after TIDE (arXiv 2008.08115, section 2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import Matches
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import Candidates

HIT, DUPLICATE, LOCALISATION, CONFUSION, BACKGROUND, IGNORED = range(6)
"""What a detection is, as in `detection_kinds`."""


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Detections and labels by what became of them, from some score on.

    The detections that count are `hits + duplicates + badly_placed + confused + background`; the
    labels that count are `hits + missed + missed_but_near`.
    """

    hits: int
    duplicates: int
    """Close enough to a label of their class that another detection has taken."""
    badly_placed: int
    """Near a label of their class, but not close enough to match."""
    confused: int
    """Near a label of another class only."""
    background: int
    """Near no label."""
    missed: int
    """Labels without any detection near."""
    missed_but_near: int
    """Labels not found, with a badly placed or confused detection near."""

    def __add__(self, other: "Mistakes") -> "Mistakes":
        sums = (getattr(self, item.name) + getattr(other, item.name) for item in fields(self))
        return Mistakes(*sums)


@dataclass(frozen=True, slots=True)
class NearThresholds:
    """From where on a detection matches and from where on it is near."""

    match: float
    """Least closeness of a match."""
    near: float
    """Least closeness of a near miss."""


def count_mistakes(
    pairs: Sequence[Pair],
    candidates: Sequence[Candidates],
    matches: Matches,
    *,
    thresholds: NearThresholds,
    cut: Cut,
) -> Mistakes:
    """Count the mistakes of all rasters among the detections that `cut` keeps."""
    total = Mistakes(0, 0, 0, 0, 0, 0, 0)
    parts = matches.by_raster(len(pairs))
    for pair, found, part in zip(pairs, candidates, parts, strict=True):
        total += _count_on_one(pair, found, part, thresholds=thresholds, cut=cut)
    return total


def detection_kinds(
    pair: Pair,
    candidates: Candidates,
    matches: Matches,
    *,
    thresholds: NearThresholds,
    cut: Cut,
) -> NDArray[np.int64]:
    """Say what each detection of one raster is: (N,) of `HIT` ... `IGNORED`.

    Args:
        pair: The raster.
        candidates: Of this pair.
        matches: Of this pair alone.
        thresholds: Closeness of a match and of a near miss.
        cut: Detections that it does not keep are `IGNORED`.
    """
    pairs, closeness = candidates.pairs, candidates.closeness
    own = pair.detections.class_ids[pairs.first] == pair.labels.class_ids[pairs.second]
    counts = ~matches.label_ignored[pairs.second]
    near = (closeness >= thresholds.near) & counts
    kinds = np.full(len(pair.detections), BACKGROUND, np.int64)
    kinds[pairs.first[near & ~own]] = CONFUSION
    kinds[pairs.first[near & own]] = LOCALISATION
    kinds[pairs.first[near & own & (closeness >= thresholds.match)]] = DUPLICATE
    kinds[matches.hits] = HIT
    kinds[matches.ignored | ~matches.kept(cut)] = IGNORED
    return kinds


def _count_on_one(
    pair: Pair,
    candidates: Candidates,
    matches: Matches,
    *,
    thresholds: NearThresholds,
    cut: Cut,
) -> Mistakes:
    kinds = detection_kinds(pair, candidates, matches, thresholds=thresholds, cut=cut)
    missed = ~matches.label_ignored
    missed[matches.label_of[kinds == HIT]] = False
    near = candidates.closeness >= thresholds.near
    near &= np.isin(kinds[candidates.pairs.first], (LOCALISATION, CONFUSION))
    touched = np.zeros(len(pair.labels), np.bool_)
    touched[candidates.pairs.second[near]] = True
    of_kind = np.bincount(kinds, minlength=IGNORED + 1)
    return Mistakes(
        hits=int(of_kind[HIT]),
        duplicates=int(of_kind[DUPLICATE]),
        badly_placed=int(of_kind[LOCALISATION]),
        confused=int(of_kind[CONFUSION]),
        background=int(of_kind[BACKGROUND]),
        missed=int((missed & ~touched).sum()),
        missed_but_near=int((missed & touched).sum()),
    )
