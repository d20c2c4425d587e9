"""What was evaluated on what: the head of a report."""

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

BEFOREHAND = "chosen beforehand"
_PACKAGES = ("geo_retina", "torch", "openvino")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that make the numbers, as far as they are there."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Where the detections and the labels of an evaluation come from."""

    name: str
    """The model's, or the file name of the detections."""
    model: str | None = None
    """Path of the checkpoint; None where a file of detections was compared."""
    detections: str | None = None
    """Path of the detections; None where a model made them."""
    labels: str
    """Path of the labels, or whose val side they are."""
    part: str = ""
    """Which of the labelled rasters, such as `split val`; empty = all."""
    score_origin: str = BEFOREHAND
    """Where a stated score comes from."""
    cautions: tuple[str, ...] = ()
    """Sentences on why the numbers may mislead."""
    date: str = field(default_factory=_today)
    """UTC, as `2026-03-31`."""
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def source(self) -> str:
        """Where the detections come from: `tree-crowns (path)`, or the path of their file."""
        if self.model is None:
            return self.detections or self.name
        return f"{self.name} ({self.model})"

    def __str__(self) -> str:
        part = f", {self.part}" if self.part else ""
        return f"{self.source} against {self.labels}{part}."
