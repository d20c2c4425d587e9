"""Compare what is found in a raster with chips of different sizes and overlaps.

    python tools/benchmark.py raster --mpix 16 --out mosaic.tif
    python tools/compare_chips.py --raster mosaic.tif --windows 512/128 auto 512/144

The first of `--windows` is compared with each of the others: which share of the boxes that score
at least `--score` in the one is also found in the other with a score of at least `--floor`? The
floor is lower, so that a score that barely crosses the threshold does not count as a difference.
*Alone* are boxes that in both runs lie in one window only: seams play no part in them. A pair that
differs in its overlap only (512/128 and 512/144) shows what moving the windows does by itself.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_retina import defaults
from geo_retina.detection.backends import load_model
from geo_retina.detection.job import open_job
from geo_retina.detection.options import DetectOptions
from geo_retina.detection.run import find_in_raster
from geo_retina.space.detections import Detections
from geo_retina.space.pairs import overlapping_pairs, pair_iou
from geo_retina.space.windows import WindowPlan

IOUS = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Run:
    """What one way of cutting the raster gives."""

    name: str
    plan: WindowPlan
    found: Detections
    alone: NDArray[np.bool_]
    """(N,) True where a box lies in one window only."""


def main() -> None:
    """Run every way, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raster", type=Path, required=True)
    parser.add_argument("--model", default=defaults.MODEL)
    parser.add_argument("--windows", nargs="+", default=["512/128", "auto", "512/144"])
    parser.add_argument("--score", type=float, default=0.3)
    parser.add_argument("--floor", type=float, default=0.2)
    asked = parser.parse_args()
    first, *others = [run(asked.raster, asked.model, way, asked.floor) for way in asked.windows]
    for one in (first, *others):
        count = int((one.found.scores >= asked.score).sum())
        print(f"{one.name}: {len(one.plan)} windows of {one.plan.chip_px} px, {count} objects")
    print("\n| of | found in | " + " | ".join(f"IoU {iou} | alone" for iou in IOUS) + " |")
    print("|---|---|" + "---|" * 2 * len(IOUS))
    for other in others:
        for one, two in ((first, other), (other, first)):
            shares = (share(one, two, score=asked.score, iou=iou) for iou in IOUS)
            cells = " | ".join(f"{every:.3f} | {alone:.3f}" for every, alone in shares)
            print(f"| {one.name} | {two.name} | {cells} |")


def run(raster: Path, model: str, way: str, floor: float) -> Run:
    """Detect with `chip/overlap`, or as `auto` chooses."""
    chip, overlap = (None, None) if way == "auto" else map(int, way.split("/"))
    options = DetectOptions(chip_px=chip, overlap_px=overlap, score=floor)
    with open_job(raster, model, options) as job:
        found = find_in_raster(job, load_model(model).detector)
        plan = job.plan
    size = min(plan.chip_px, plan.width), min(plan.chip_px, plan.height)
    seen = [np.zeros(length, np.int64) for length in (plan.width, plan.height)]
    for axis, offsets in enumerate((plan.col_offs, plan.row_offs)):
        for offset in offsets.tolist():
            seen[axis][offset : offset + size[axis]] += 1
    ends = found.boxes.astype(np.int64)
    alone = np.ones(len(found), np.bool_)
    for column in range(4):
        counts = seen[column % 2]
        alone &= counts[ends[:, column].clip(0, len(counts) - 1)] == 1
    return Run(way, plan, found, alone)


def share(one: Run, two: Run, *, score: float, iou: float) -> tuple[float, float]:
    """Share of the boxes of `one` that `two` has too: of all, and of those seen alone in both."""
    pairs = overlapping_pairs(one.found.boxes, two.found.boxes)
    pairs = pairs.select(pair_iou(one.found.boxes, two.found.boxes, pairs) > iou)
    matched = np.zeros(len(one.found), np.bool_)
    matched[pairs.first] = True
    counted = one.found.scores >= score
    near_seam = np.zeros(len(one.found), np.bool_)
    touching = overlapping_pairs(one.found.boxes, two.found.boxes[~two.alone])
    near_seam[touching.first] = True
    alone = counted & one.alone & ~near_seam
    return float(matched[counted].mean()), float(matched[alone].mean())


if __name__ == "__main__":
    main()
