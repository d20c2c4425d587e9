"""Which detection found which label: greedy, one to one, the highest score first.

With `IouRule` this is the matching of the COCO evaluation (pycocotools `cocoeval.py`,
`evaluateImg`) without its limit of detections per image: each detection, from the highest score
down, takes the free label of its class that it overlaps most, if by the threshold or more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.pairs import Pair
from geo_retina.evaluation.rules import Candidates, Sizes
from geo_retina.labels.labels import shared_class_names
from geo_retina.space.pairs import Pairs


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """N detections and M labels of all rasters in one table, and what found what."""

    scores: NDArray[np.float64]
    """(N,)"""
    class_ids: NDArray[np.int64]
    """(N,)"""
    raster_ids: NDArray[np.int64]
    """(N,) position of the raster among the pairs; never falls."""
    label_of: NDArray[np.int64]
    """(N,) the label that the detection took, -1 = none."""
    ignored: NDArray[np.bool_]
    """(N,) True where the detection counts neither for nor against."""
    label_class_ids: NDArray[np.int64]
    """(M,)"""
    label_raster_ids: NDArray[np.int64]
    """(M,) never falls."""
    label_ignored: NDArray[np.bool_]
    """(M,)"""
    class_names: tuple[str, ...] = ()

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(N,) True where the detection found an object that counts."""
        return (self.label_of >= 0) & ~self.ignored

    @property
    def counted_labels(self) -> int:
        """Number of labels that count."""
        return int((~self.label_ignored).sum())

    def kept(self, cut: Cut) -> NDArray[np.bool_]:
        """(N,) True for detections that reach the score of their class."""
        return cut.keeps(self.scores, self.class_ids)

    def found_labels(self, cut: Cut) -> NDArray[np.bool_]:
        """(M,) True where a detection that `cut` keeps found the label."""
        found = np.zeros(len(self.label_ignored), np.bool_)
        found[self.label_of[self.hits & self.kept(cut)]] = True
        return found

    def missed_labels(self, cut: Cut) -> NDArray[np.bool_]:
        """(M,) True where no detection that `cut` keeps found a label that counts."""
        return ~self.label_ignored & ~self.found_labels(cut)

    def false_alarms(self, cut: Cut) -> NDArray[np.bool_]:
        """(N,) True for detections that `cut` keeps, that count, and that found nothing."""
        return (self.label_of < 0) & ~self.ignored & self.kept(cut)

    def of_class(self, class_id: int) -> "Matches":
        """Only the detections and labels of one class."""
        return self._select(self.class_ids == class_id, self.label_class_ids == class_id)

    def of_rasters(self, raster_ids: Sequence[int]) -> "Matches":
        """Only the detections and labels on some rasters."""
        wanted = list(raster_ids)
        return self._select(
            np.isin(self.raster_ids, wanted), np.isin(self.label_raster_ids, wanted)
        )

    def by_raster(self, rasters: int) -> Iterator["Matches"]:
        """The detections and labels on each raster, from 0 to `rasters` - 1; for those of all."""
        found = np.searchsorted(self.raster_ids, np.arange(rasters + 1)).tolist()
        known = np.searchsorted(self.label_raster_ids, np.arange(rasters + 1)).tolist()
        for rows, labels in zip(pairwise(found), pairwise(known), strict=True):
            yield self._slice(slice(*rows), slice(*labels))

    def _slice(self, rows: slice, labels: slice) -> "Matches":
        label_of = self.label_of[rows]
        return Matches(
            self.scores[rows],
            self.class_ids[rows],
            self.raster_ids[rows],
            np.where(label_of >= 0, label_of - labels.start, -1),
            self.ignored[rows],
            self.label_class_ids[labels],
            self.label_raster_ids[labels],
            self.label_ignored[labels],
            self.class_names,
        )

    def _select(self, found: NDArray[np.bool_], known: NDArray[np.bool_]) -> "Matches":
        renumbered = np.append(np.where(known, np.cumsum(known) - 1, -1), -1)
        return Matches(
            self.scores[found],
            self.class_ids[found],
            self.raster_ids[found],
            renumbered[self.label_of[found]],
            self.ignored[found],
            self.label_class_ids[known],
            self.label_raster_ids[known],
            self.label_ignored[known],
            self.class_names,
        )


def match_pairs(
    pairs: Sequence[Pair],
    candidates: Sequence[Candidates],
    *,
    threshold: float,
    sizes: Sizes | None = None,
) -> Matches:
    """Match all rasters.

    Args:
        pairs: With the same class names throughout.
        candidates: Of each pair, from `rule.candidates`.
        threshold: Least closeness of a match.
        sizes: Only objects of these sizes count; None = all.

    Raises:
        LabelError: The pairs differ in their class names.
    """
    class_names = shared_class_names(pair.labels for pair in pairs)
    parts = [
        _match_one(pair, raster_id, found, threshold=threshold, sizes=sizes)
        for raster_id, (pair, found) in enumerate(zip(pairs, candidates, strict=True))
    ]
    starts = np.cumsum([0, *(len(pair.labels) for pair in pairs)])
    label_of = [
        np.where(part.label_of >= 0, part.label_of + start, -1)
        for part, start in zip(parts, starts[:-1], strict=True)
    ]
    return Matches(
        _joined([part.scores for part in parts], np.float64),
        _joined([part.class_ids for part in parts], np.int64),
        _joined([part.raster_ids for part in parts], np.int64),
        _joined(label_of, np.int64),
        _joined([part.ignored for part in parts], np.bool_),
        _joined([part.label_class_ids for part in parts], np.int64),
        _joined([part.label_raster_ids for part in parts], np.int64),
        _joined([part.label_ignored for part in parts], np.bool_),
        class_names,
    )


def _match_one(
    pair: Pair,
    raster_id: int,
    candidates: Candidates,
    *,
    threshold: float,
    sizes: Sizes | None,
) -> Matches:
    found, known = pair.detections, pair.labels
    label_ignored = ~known.counted
    if sizes is not None:
        label_ignored = label_ignored | ~sizes.contains(known.boxes, pair.grid)
    pairs = candidates.pairs
    own_class = found.class_ids[pairs.first] == known.class_ids[pairs.second]
    usable = own_class & (candidates.closeness >= threshold)
    label_of = greedy_match(
        pairs.select(usable),
        candidates.closeness[usable],
        scores=found.scores,
        label_ignored=label_ignored,
        label_reusable=~known.counted,
    )
    ignored = np.append(label_ignored, np.False_)[label_of]
    if sizes is not None:
        ignored = ignored | ((label_of < 0) & ~sizes.contains(found.boxes, pair.grid))
    return Matches(
        found.scores.astype(np.float64),
        found.class_ids,
        np.full(len(found), raster_id, np.int64),
        label_of,
        ignored,
        known.class_ids,
        np.full(len(known), raster_id, np.int64),
        label_ignored,
    )


def greedy_match(
    pairs: Pairs,
    closeness: NDArray[np.float64],
    *,
    scores: NDArray[np.floating],
    label_ignored: NDArray[np.bool_],
    label_reusable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Give each detection, from the highest score down, the closest label that is still free.

    A label that counts is preferred to any ignored one; of equally close labels the last is taken
    (both as in COCO); equal scores keep their order.

    Args:
        pairs: Detection (first) and label (second) that may match.
        closeness: (P,) the higher the closer.
        scores: (N,) of the detections.
        label_ignored: (M,) labels that count neither for nor against.
        label_reusable: (M,) labels that any number of detections may take (crowd regions).

    Returns:
        (N,) label of each detection, -1 = none.
    """
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    order = np.lexsort((-pairs.second, -closeness, label_ignored[pairs.second], rank[pairs.first]))
    label_of = np.full(len(scores), -1, np.int64)
    matched, taken = set(), set()
    reusable = label_reusable.tolist()
    wishes = zip(pairs.first[order].tolist(), pairs.second[order].tolist(), strict=True)
    for detection, label in wishes:  # best wish first within each detection
        if detection not in matched and label not in taken:
            matched.add(detection)
            label_of[detection] = label
            if not reusable[label]:
                taken.add(label)
    return label_of


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])
