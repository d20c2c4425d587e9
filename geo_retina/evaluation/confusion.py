"""Which class was taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.match import Matches, greedy_match
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import Candidates


@dataclass(frozen=True, slots=True)
class Confusion:
    """Labels by their class and the class they were found as, from some score on."""

    class_names: tuple[str, ...]
    """K names."""
    counts: tuple[tuple[int, ...], ...]
    """K + 1 rows of K + 1. Rows are the labels' classes, columns those of the detections; the last
    column are labels that were missed, the last row false alarms, its last cell 0."""


def confusion_matrix(
    pairs: Sequence[Pair],
    candidates: Sequence[Candidates],
    matches: Matches,
    *,
    threshold: float,
    cut: Cut,
) -> Confusion:
    """Count which class was taken for which.

    The hits are those of `matches`. Of what is left, each detection takes a label of any class by
    the same rule; what is left then was missed, or is a false alarm.

    Args:
        pairs: The rasters of `matches`, in the same order.
        candidates: Of each pair.
        matches: All classes.
        threshold: Least closeness of a match.
        cut: Detections that it does not keep are left out.
    """
    count = len(matches.class_names)
    table = np.zeros((count + 1, count + 1), np.int64)
    parts = matches.by_raster(len(pairs))
    for pair, near, part in zip(pairs, candidates, parts, strict=True):
        label_of = _label_of(pair, near, part, threshold=threshold, cut=cut)
        taken = label_of >= 0
        alarm = ~taken & ~part.ignored & part.kept(cut)
        missed = ~part.label_ignored
        missed[label_of[taken]] = False
        known = [part.label_class_ids[label_of[taken]], part.label_class_ids[missed]]
        found = [part.class_ids[taken], np.full(int(missed.sum()), count), part.class_ids[alarm]]
        rows = np.concatenate([*known, np.full(int(alarm.sum()), count)])
        np.add.at(table, (rows, np.concatenate(found)), 1)
    return Confusion(matches.class_names, tuple(map(tuple, table.tolist())))


def _label_of(
    pair: Pair, candidates: Candidates, matches: Matches, *, threshold: float, cut: Cut
) -> NDArray[np.int64]:
    """(N,) label that each detection of one raster took, of its own class or another; -1 = none."""
    kept = matches.kept(cut)
    label_of = np.where(matches.hits & kept, matches.label_of, -1)
    free_labels = ~matches.label_ignored
    free_labels[label_of[label_of >= 0]] = False
    free = kept & (label_of < 0) & ~matches.ignored
    near = candidates.pairs
    usable = free[near.first] & free_labels[near.second] & (candidates.closeness >= threshold)
    others = greedy_match(
        near.select(usable),
        candidates.closeness[usable],
        scores=pair.detections.scores,
        label_ignored=matches.label_ignored,
        label_reusable=np.zeros(len(pair.labels), np.bool_),
    )
    return np.where(others >= 0, others, label_of)
