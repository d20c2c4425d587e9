"""Do scores mean what they say? Of the detections with score 0.8, 80 % should be right.

Focal loss leaves scores that rank well and say little: hard examples pull them to the middle. A
temperature and a shift of the logits, fitted on images that the model did not learn from, put that
right without changing the order of the detections.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FOLDS = 5
_LEAST_OF_A_KIND = 5
"""Hits, and misses, that a map is fitted to at least."""
_LEAST_SLOPE = 0.05
_NEAR_ZERO = 1e-6
_NEWTON_STEPS = 50
_LONGEST_STEP = 1.0
_PRECISION = 1e-10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Detections with scores from `low` (included) to `high` (excluded, but for the last bin)."""

    low: float
    high: float
    detections: int
    mean_score: float
    """NaN without detections."""
    hit_rate: float
    """Share that found an object; NaN without detections."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability curve and its summary."""

    bins: tuple[ReliabilityBin, ...]
    ece: float
    """Expected calibration error: mean distance of score and hit rate, weighted by detections
    (arXiv 1706.04599, equation 3); NaN without detections."""
    bias: float
    """Mean score less hit rate: over 0 = overconfident; NaN without detections."""


def calibration(
    scores: NDArray[np.floating], hits: NDArray[np.bool_], *, bins: int = 10
) -> Calibration:
    """Compare scores with hit rates in bins of equal width.

    Args:
        scores: (N,) in [0, 1].
        hits: (N,) True where the detection found an object.
        bins: Number of bins.
    """
    edges = np.linspace(0, 1, bins + 1)
    of_bin = np.clip(np.digitize(scores, edges) - 1, 0, bins - 1)
    counts = np.bincount(of_bin, minlength=bins)
    score_sums = np.bincount(of_bin, weights=scores, minlength=bins)
    hit_sums = np.bincount(of_bin, weights=hits, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_scores, hit_rates = score_sums / counts, hit_sums / counts
    total = int(counts.sum())
    rows = zip(
        edges[:-1].tolist(),
        edges[1:].tolist(),
        counts.tolist(),
        mean_scores.tolist(),
        hit_rates.tolist(),
        strict=True,
    )
    return Calibration(
        tuple(ReliabilityBin(*row) for row in rows),
        ece=float(np.abs(score_sums - hit_sums).sum() / total) if total else float("nan"),
        bias=float((score_sums - hit_sums).sum() / total) if total else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """Better scores from scores: `sigmoid(logit(score) / temperature + shift)`.

    The two-parameter form of Platt (1999) on the logits; with a shift of 0 it is the temperature
    scaling of arXiv 1706.04599, section 4.2.
    """

    temperature: float
    """Over 1 where scores are too sure on both ends, under 1 where they are too timid."""
    shift: float
    """Over 0 where scores are too low throughout."""
    ece: float
    """Expected calibration error of the mapped scores, on detections that the map was not fitted
    to: each fifth of the rasters or blocks is mapped by what the others give. NaN where there are
    too few."""

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (N,) scores."""
        return _sigmoid(_logit(scores) / self.temperature + self.shift)


def fit_score_map(
    scores: NDArray[np.floating],
    hits: NDArray[np.bool_],
    *,
    groups: NDArray[np.int64],
) -> ScoreMap | None:
    """Fit the map with the highest likelihood of what was hit, and measure it on held-out groups.

    Args:
        scores: (N,) in [0, 1].
        hits: (N,) True where the detection found an object.
        groups: (N,) number of the raster or block, which stay together when parts are held out.

    Returns:
        None where higher scores are not more often right: no map could help then.
    """
    fitted = _fit(scores, hits)
    if fitted is None:
        return None
    parts = groups % _FOLDS
    mapped = np.full(len(scores), np.nan)
    for part in np.unique(parts):
        held_out = parts == part
        others = _fit(scores[~held_out], hits[~held_out])
        if others is not None:
            slope, shift = others
            mapped[held_out] = _sigmoid(slope * _logit(scores[held_out]) + shift)
    known = np.isfinite(mapped)
    ece = calibration(mapped, hits).ece if known.all() else float("nan")
    slope, shift = fitted
    return ScoreMap(temperature=1 / slope, shift=shift, ece=ece)


def _fit(scores: NDArray[np.floating], hits: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Slope and shift of a logistic regression of hits on logits, by Newton's method.

    The targets are Platt's, a little inside 0 and 1, so that a perfect order has a finite slope.
    """
    positives, negatives = int(hits.sum()), int((~hits).sum())
    if min(positives, negatives) < _LEAST_OF_A_KIND:
        return None
    targets = np.where(hits, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([_logit(scores), np.ones(len(scores))], axis=1)  # (N, 2)
    weights = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        shares = _sigmoid(design @ weights)
        slopes = design.T @ (shares - targets)
        curvature = (design * (shares * (1 - shares))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, slopes)
        weights = weights - step * min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < _PRECISION:
            break
    slope, shift = weights.tolist()
    return (slope, shift) if slope > _LEAST_SLOPE and np.isfinite(weights).all() else None


def _logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    inside = np.clip(scores.astype(np.float64), _NEAR_ZERO, 1 - _NEAR_ZERO)
    values: NDArray[np.float64] = np.log(inside / (1 - inside))
    return values


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * values))
    return shares
