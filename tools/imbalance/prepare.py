"""The two data sets of the study, cut into chips that all of its runs share."""

import csv
import logging
from collections import defaultdict
from pathlib import Path

from geo_retina.errors import LabelError
from geo_retina.labels.chips import ChipOptions, cut_chips
from geo_retina.labels.deepforest import read_deepforest_csv
from geo_retina.labels.labels import LabelledRaster, Labels
from geo_retina.labels.leakage import audit_splits
from geo_retina.labels.splits import by_file, split_rasters

TRAIN, HELD_OUT = "train", "held-out"
TANKS_CHIP_PX = 512

_log = logging.getLogger(__name__)
_NEON_PLOT_PX = 400
_NEON_SHARES = {TRAIN: 2 / 3, HELD_OUT: 1 / 3}
_TANK = "oil-storage-tank"


def prepare_neon(source: Path, folder: Path) -> None:
    """Divide the train plots of the NEON benchmark; its val plots are left alone.

    Args:
        source: Folder with `annotations.csv` and `images/`.
        folder: Gets `train.json`, `held-out.json` and `chips/`.

    Raises:
        LabelError: Labels are missing, or the parts share pixels or ground.
    """
    plots = read_deepforest_csv(
        source / "annotations.csv", source / "images", class_names=("Tree",)
    )
    chosen = [plot for plot in plots if plot.split == TRAIN]
    divided = split_rasters(chosen, key_of=by_file, shares=_NEON_SHARES)
    _cut(divided, folder, ChipOptions(chip_px=_NEON_PLOT_PX, empty_share=1))


def prepare_tanks(source: Path, folder: Path) -> None:
    """Cut the oil-tank images, divided as their lists say; chips without a tank are left out.

    Args:
        source: Folder with `annotations.csv` (image_id, class, bounds), `images/`, `train.txt` and
            `val.txt`.
        folder: Gets `train.json`, `held-out.json` and `chips/`.

    Raises:
        LabelError: Labels are missing, or the parts share pixels.
    """
    boxes: defaultdict[str, list[list[float]]] = defaultdict(list)
    with (source / "annotations.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            corners = row["bounds"].strip("()").split(",")
            boxes[row["image_id"]].append([float(corner) for corner in corners])
    images = [
        LabelledRaster(
            str(source / "images" / f"{name}.jpg"),
            Labels.of(boxes[name], [0] * len(boxes[name]), (_TANK,)),
            split=split,
        )
        for split, listing in ((TRAIN, "train.txt"), (HELD_OUT, "val.txt"))
        for name in (source / listing).read_text(encoding="utf-8").split()
    ]
    _cut(images, folder, ChipOptions(chip_px=TANKS_CHIP_PX, empty_share=0))


def _cut(divided: list[LabelledRaster], folder: Path, options: ChipOptions) -> None:
    report = audit_splits(divided)
    if report.leaks:
        raise LabelError(f"the parts of the study share pixels or ground: {report.to_text()}")
    _log.info("%s", report.to_text())
    chips = cut_chips(divided, folder, options=options, overwrite=True)
    _log.info("%s: %d chips, %d labels", folder, chips.chips, chips.labels)
