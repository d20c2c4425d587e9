"""What is known to be in a raster: boxes with class ids, as a struct of arrays."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geo_retina.errors import LabelError
from geo_retina.wording import counted, listed

_log = logging.getLogger(__name__)


class UnknownClassError(LabelError):
    """Labels have a class that nobody expected."""


ANY_CLASS = "object"
"""Name of the one class where classes are not told apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """N labelled objects of one raster. Empty is a value: N may be 0."""

    boxes: NDArray[np.float64]
    """(N, 4) pixel edges `x_min, y_min, x_max, y_max` in the raster's frame."""
    class_ids: NDArray[np.int64]
    """(N,) in 0..K-1."""
    class_names: tuple[str, ...]
    """Names of class ids 0..K-1; background is not counted."""
    scores: NDArray[np.float32] | None = None
    """(N,) in [0, 1] where the labels were made by a model (pseudo-labels, detections)."""
    ignored: NDArray[np.bool_] | None = None
    """(N,) True where finding the object counts neither for nor against (COCO `iscrowd`, VOC and
    DOTA `difficult`); None where every object counts."""
    fids: NDArray[np.int64] | None = None
    """(N,) number in its file of the feature that each object is of; None where there are none."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        columns = [self.class_ids, self.scores, self.ignored, self.fids]
        lengths = {len(column) for column in columns if column is not None}
        if self.boxes.shape != (count, 4) or lengths != {count}:
            raise LabelError(
                "expected boxes (N, 4) and class_ids, scores, ignored, fids of length N, got boxes "
                f"{self.boxes.shape} and lengths {sorted(lengths)}"
            )
        if count and not 0 <= self.class_ids.min() <= self.class_ids.max() < len(self.class_names):
            raise LabelError(
                f"class ids must be in 0..{len(self.class_names) - 1} "
                f"({', '.join(self.class_names)}), got {np.unique(self.class_ids).tolist()}"
            )

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.boxes)

    @classmethod
    def of(
        cls,
        boxes: Sequence[Sequence[float]] | NDArray[np.generic],
        class_ids: Sequence[int] | NDArray[np.generic],
        class_names: Sequence[str],
        *,
        scores: NDArray[np.generic] | None = None,
        ignored: NDArray[np.generic] | None = None,
    ) -> Self:
        """Labels from sequences or arrays of any numeric type."""
        return cls(
            np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            np.asarray(class_ids, dtype=np.int64),
            tuple(class_names),
            None if scores is None else np.asarray(scores, dtype=np.float32),
            None if ignored is None else np.asarray(ignored, dtype=np.bool_),
        )

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Self:
        """No objects, of classes that are known nevertheless."""
        return cls.of([], [], class_names)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(N,) True where the object counts in an evaluation."""
        return np.ones(len(self), np.bool_) if self.ignored is None else ~self.ignored

    def check_scores(self, source: str) -> None:
        """Check what is about to be taken for scores.

        Raises:
            LabelError: One is missing, or not in [0, 1].
        """
        scores = np.zeros(0) if self.scores is None else self.scores
        wrong = ~((scores >= 0) & (scores <= 1))  # NaN too: a cell without a number
        if wrong.any():
            raise LabelError(
                f"{source}: expected scores from 0 to 1, got {wrong.sum():,} others, such as "
                f"{scores[wrong][0]:g} (nan: none); divide percentages by 100"
            )

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "Labels":
        """The labels at a mask or at positions."""
        return Labels(
            self.boxes[index],
            self.class_ids[index],
            self.class_names,
            None if self.scores is None else self.scores[index],
            None if self.ignored is None else self.ignored[index],
            None if self.fids is None else self.fids[index],
        )

    def with_boxes(self, boxes: NDArray[np.float64]) -> "Labels":
        """The same labels at other places; `boxes` is (N, 4)."""
        return replace(self, boxes=boxes)

    def as_one_class(self) -> "Labels":
        """The same objects, all of one class."""
        return replace(self, class_ids=np.zeros(len(self), np.int64), class_names=(ANY_CLASS,))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRaster:
    """A raster and what is known to be in it."""

    raster: str
    """Path of the raster, as it will be opened."""
    labels: Labels
    site: str = ""
    """Where it was taken, if the source says so."""
    split: str = ""
    """Train, val, test..., if the source says so."""
    area: Polygon | MultiPolygon | None = None
    """The part that was searched for objects, in pixels of the raster; None = all of it."""


def shared_class_names(labels: Iterable[Labels]) -> tuple[str, ...]:
    """The class names that all of some labels have; none of no labels.

    Raises:
        LabelError: They differ.
    """
    names = list(dict.fromkeys(item.class_names for item in labels))
    if len(names) > 1:
        raise LabelError(
            f"the rasters' labels have different classes: {' / '.join(map(', '.join, names))}; "
            "read them with the same class_names"
        )
    return names[0] if names else ()


def class_ids_of(
    names: Sequence[str], class_names: Sequence[str] | None, *, source: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn class names into ids.

    Blanks around a name that no class has are taken off, with a warning.

    Args:
        names: Class name of each object.
        class_names: Names of ids 0..K-1; None takes the names that occur, in alphabetical order.
        source: The file they come from, for the error's text.

    Returns:
        (N,) class ids, and the class names.

    Raises:
        UnknownClassError: A name is not among `class_names`.
        LabelError: A name is empty.
    """
    stated = set(class_names or ())
    names = [name if name in stated else name.strip() for name in _told(names, stated, source)]
    known = tuple(sorted(set(names))) if class_names is None else tuple(class_names)
    id_of = {name: index for index, name in enumerate(known)}
    unknown = sorted({name for name in names if name not in id_of})
    if unknown:
        raise UnknownClassError(
            f"{source}: expected the classes {', '.join(known) or '(none)'}, found also "
            f"{', '.join(map(repr, unknown))}; correct the file, or name its classes as it does "
            "(--classes; in a recipe card.class_names, or classes of the source, which also leaves "
            "some out)"
        )
    return np.array([id_of[name] for name in names], dtype=np.int64), known


def _told(names: Sequence[str], stated: set[str], source: str) -> Sequence[str]:
    """The names, with a warning of blanks that will be taken off.

    Raises:
        LabelError: A name is empty.
    """
    empty = sum(not name.strip() for name in names)
    if empty:
        raise LabelError(
            f"{source}: expected a class for each object, {counted(empty, 'object')} of "
            f"{len(names):,} without; complete or remove them"
        )
    padded = sorted({name for name in names if name != name.strip() and name not in stated})
    if padded:
        _log.warning(
            "%s: took off blanks around the class names %s",
            source, listed(map(repr, padded)),
        )  # fmt: skip
    return names
