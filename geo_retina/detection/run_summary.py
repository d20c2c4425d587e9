"""What a run read, found and wrote, for people and programs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geo_retina.detection.pipeline import Counts
from geo_retina.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run read, found and wrote."""

    raster: str
    outputs: tuple[str, ...]
    model: str
    megapixels: float
    """Size of the raster."""
    windows: int
    counts: Counts
    objects_by_class: dict[str, int]
    seams: dict[str, Any]
    """What happened where windows meet: see `detection.seams.SeamAudit`."""
    seconds: float = 0.0
    """Time that this run took; without that of the broken ones before it."""
    failed_windows_file: str | None = None
    """File with the outlines of the windows that could not be read."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def write(self, path: str | Path) -> None:
        """Write the summary as JSON; the file appears when it is whole.

        Raises:
            WriteError: The disk is full or lost.
        """
        write_whole(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")
