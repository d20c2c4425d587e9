"""How many objects of each class train and val hold: chance may leave a rare one out."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from geo_retina.labels.labels import LabelledRaster
from geo_retina.labels.splits import TRAIN, VAL
from geo_retina.wording import listed

_log = logging.getLogger(__name__)
_WITHOUT = {
    TRAIN: "it will not be learned, and what looks like it will be background; add labels of it, "
    "or leave the class out of card.class_names",
    VAL: "it is not measured, and weights and score are chosen without it; move some labels of it "
    "there (with divide, try another divide.seed)",
}
_SEVERAL = 2


def tell_classes(labelled: Sequence[LabelledRaster], names: Sequence[str]) -> None:
    """Log the objects of each class of both sides; warn of classes that one side lacks.

    Args:
        labelled: With class ids of `names`; their split says the side. Without val, val lacks
            nothing.
        names: Of the card. A single class is not told: its objects are counted elsewhere.
    """
    if len(names) < _SEVERAL:
        return
    for side in (TRAIN, VAL):
        members = [item for item in labelled if item.split == side]
        if members:
            _tell_side(side, dict(zip(names, _counts(members, len(names)), strict=True)))


def _tell_side(side: str, counts: Mapping[str, int]) -> None:
    _log.info("%s: %s", side, ", ".join(f"{name!r} {count:,}" for name, count in counts.items()))
    missing = [repr(name) for name, count in counts.items() if not count]
    if missing:
        _log.warning("%s holds no object of %s: %s", side, listed(missing), _WITHOUT[side])


def _counts(labelled: Iterable[LabelledRaster], classes: int) -> list[int]:
    """Objects of each class; ignored ones are none."""
    ids = [item.labels.class_ids[item.labels.counted] for item in labelled]
    counts: list[int] = np.bincount(np.concatenate(ids), minlength=classes).tolist()
    return counts
