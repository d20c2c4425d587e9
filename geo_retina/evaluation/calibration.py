"""Do scores mean what they say? Of the detections with score 0.8, 80 % should be right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
