"""From a network's raw outputs to boxes, in numpy: what `model.decode` does, without torch.

The cost grows with the candidates, not with the anchors: scores are told apart by their logits, and
an anchor is only computed where its score passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.detector import ChipResult
from geo_retina.errors import ModelError
from geo_retina.model.settings import LOG_SCALE_LIMIT, AnchorSettings, NetworkSettings
from geo_retina.model.thresholds import Thresholds
from geo_retina.space import boxes as box_arrays
from geo_retina.space.decay import decayed_scores
from geo_retina.space.detections import Detections
from geo_retina.space.nms import nms, rank

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_ROUNDING = 1e-6
"""How far a score may move when it goes through a logit and back in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class RawOutputs:
    """A network's outputs for one chip; A anchors in the order level, row, column, shape."""

    logits: Floats
    """(A, K) class logits."""
    deltas: Floats
    """(A, 4) box regression outputs `dx, dy, dw, dh` relative to the anchor."""
    objectness: Floats | None = None
    """(A,) objectness logits, or None where the score is not factored."""

    def part(self, start: int, stop: int) -> "RawOutputs":
        """The anchors `start` to `stop - 1`."""
        objectness = None if self.objectness is None else self.objectness[start:stop]
        return RawOutputs(self.logits[start:stop], self.deltas[start:stop], objectness)


@dataclass(frozen=True, slots=True, eq=False)
class LevelGrid:
    """Where the anchors of one pyramid level lie on a chip."""

    shapes: Floats
    """(S, 4) pixel edges around (0, 0)."""
    rows: int
    columns: int
    stride: tuple[int, int]
    """Pixels from one position to the next, down and to the right."""
    offset: float
    """Place of the first position, in strides."""

    def __len__(self) -> int:
        """Count the anchors."""
        return self.rows * self.columns * len(self.shapes)

    def anchors(self, numbers: Integers) -> Floats:
        """Pixel edges (M, 4) of the anchors with these numbers: row by row, shapes fastest."""
        positions, shapes = np.divmod(numbers, len(self.shapes))
        row, column = np.divmod(positions, self.columns)
        x = (column.astype(np.float32) + np.float32(self.offset)) * np.float32(self.stride[1])
        y = (row.astype(np.float32) + np.float32(self.offset)) * np.float32(self.stride[0])
        placed: Floats = np.stack([x, y, x, y], axis=1) + self.shapes[shapes]
        return placed


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Boxes of one level before NMS, in any order."""

    boxes: Floats
    scores: Floats
    class_ids: Integers
    cut: bool
    """Whether more passed than may be decoded."""


def level_grids(settings: NetworkSettings, *, height: int, width: int) -> list[LevelGrid]:
    """The anchors of a chip of `height` x `width` pixels, finest level first."""
    anchors, found = settings.anchors, []
    for stride, sizes in zip(settings.strides, anchors.sizes, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        even = anchors.spacing == "even"
        step = (height // rows, width // columns) if even else (stride, stride)
        shapes = _anchor_shapes(sizes, anchors)
        found.append(LevelGrid(shapes, rows, columns, step, anchors.offset))
    return found


def decode_chip(
    raw: RawOutputs,
    grids: list[LevelGrid],
    *,
    height: int,
    width: int,
    thresholds: Thresholds,
) -> ChipResult:
    """Threshold, top candidates of each level, clip, NMS.

    Args:
        raw: Outputs for one chip, which may have been padded below and to the right.
        grids: Anchors of the padded chip, see `level_grids`.
        height: Rows of the chip without padding: boxes are clipped there.
        width: Columns of the chip without padding.
        thresholds: Scores and limits.

    Raises:
        ModelError: The outputs are not numbers: the pixels or the weights are not finite.
    """
    _check_numbers(raw)
    levels, start = [], 0
    for grid in grids:
        stop = start + len(grid)
        levels.append(_level_candidates(raw.part(start, stop), grid, thresholds))
        start = stop
    boxes = box_arrays.clip(
        np.concatenate([level.boxes for level in levels]), width=width, height=height
    )
    scores = np.concatenate([level.scores for level in levels])
    class_ids = np.concatenate([level.class_ids for level in levels])
    groups = thresholds.groups(class_ids)
    kept = nms(boxes, scores, threshold=thresholds.nms_iou, class_ids=groups)
    saturated = any(level.cut for level in levels) or len(kept) > thresholds.detections_per_chip
    kept = kept[: thresholds.detections_per_chip]
    found = Detections.of(boxes[kept], scores[kept], class_ids[kept])
    return ChipResult(with_decay(found, thresholds), saturated)


def with_decay(found: Detections, thresholds: Thresholds) -> Detections:
    """Detections whose scores have given way to better boxes nearby, where the thresholds say so.

    See `decayed_scores`; what falls under the least score is dropped. Highest score first.
    """
    if thresholds.decay_iou is None:
        return found
    groups = thresholds.groups(found.class_ids)
    scores = decayed_scores(
        found.boxes, found.scores, threshold=thresholds.decay_iou, class_ids=groups
    ).astype(np.float32)
    order = rank(found.boxes, scores, class_ids=found.class_ids)
    order = order[scores[order] >= thresholds.score]
    return replace(found, scores=scores).select(order)


def decode_boxes(deltas: Floats, anchors: Floats) -> Floats:
    """Boxes (M, 4) in pixel edges from regression outputs (R-CNN, arXiv 1311.2524, appendix C)."""
    side = anchors[:, 2:] - anchors[:, :2]
    middle = anchors[:, :2] + np.float32(0.5) * side
    centre = deltas[:, :2] * side + middle
    growth = np.exp(np.minimum(deltas[:, 2:], np.float32(LOG_SCALE_LIMIT)))
    half = np.float32(0.5) * growth * side
    return np.concatenate([centre - half, centre + half], axis=1)


def _level_candidates(raw: RawOutputs, grid: LevelGrid, thresholds: Thresholds) -> _Candidates:
    """The highest-scored (anchor, class) pairs of a level; of equal ones the first anchors."""
    numbers, scores = _passing(raw, thresholds.class_scores or (thresholds.score,))
    limit = thresholds.candidates_per_level
    cut = len(numbers) > limit
    if cut:
        best = np.argsort(-scores, kind="stable")[:limit]
        numbers, scores = numbers[best], scores[best]
    anchor_ids, class_ids = np.divmod(numbers, raw.logits.shape[1])
    boxes = decode_boxes(raw.deltas[anchor_ids], grid.anchors(anchor_ids))
    return _Candidates(boxes, scores, class_ids, cut)


def _passing(raw: RawOutputs, least: Sequence[float]) -> tuple[Integers, Floats]:
    """Numbers `anchor * K + class` of the pairs that score enough, and the scores.

    Logits tell in float32, to within rounding, which pairs can pass; only these get a score.

    Args:
        raw: Of one level.
        least: Least score of each of the K classes, or one for all.
    """
    floors = np.array([_logit(score - _ROUNDING) for score in least], np.float32)
    likely = raw.logits > floors
    if raw.objectness is not None:
        likely &= (raw.objectness > floors.min())[:, None]
    numbers = np.flatnonzero(likely)
    scores = _sigmoid(raw.logits.reshape(-1)[numbers])
    if raw.objectness is not None:
        scores *= _sigmoid(raw.objectness[numbers // raw.logits.shape[1]])
    passes = scores >= np.array(least, np.float32)[numbers % len(least)]
    return numbers[passes], scores[passes]


def _anchor_shapes(sizes: tuple[float, ...], settings: AnchorSettings) -> Floats:
    """Anchors of one level around (0, 0): (ratios * sizes, 4) pixel edges, sizes fastest."""
    roots: Floats = np.array(sizes, dtype=np.float32)
    heights: Floats = np.sqrt(np.array(settings.ratios, dtype=np.float32))
    half_w = ((1 / heights)[:, None] * roots).ravel() / 2  # (ratios * sizes,)
    half_h = (heights[:, None] * roots).ravel() / 2
    shapes = np.stack([-half_w, -half_h, half_w, half_h], axis=1).astype(np.float32)
    rounded: Floats = shapes.round() if settings.whole_pixels else shapes
    return rounded


def _check_numbers(raw: RawOutputs) -> None:
    parts = (raw.logits, raw.deltas, raw.objectness)
    if any(part is not None and np.isnan(part).any() for part in parts):
        raise ModelError(
            "the network's outputs are not a number (NaN), so no score means anything; look for "
            "NaN or infinite pixels (nodata that is not masked?) or damaged weights"
        )


def _logit(score: float) -> float:
    return math.log(score / (1 - score)) if score > 0 else -math.inf


def _sigmoid(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(89) overflows float32, and 1 / inf is the right answer
        scores: Floats = np.reciprocal(1 + np.exp(-logits), dtype=np.float32)
    return scores
