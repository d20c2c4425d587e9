"""What the result of a run depends on, so that only the same job may be resumed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geo_retina.space.grid import Grid

_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class LedgerHeader:
    """Fingerprints of one job. All values are plain JSON; mappings may nest."""

    model: Mapping[str, Any]
    """The weights and the card, such as `{"name": ..., "hash": hash_file(checkpoint)}`."""
    options: Mapping[str, Any]
    """Every option that changes the result: thresholds, chip size, overlap, band choice, AOI."""
    raster: Mapping[str, Any]
    """See `raster_fingerprint`."""

    def to_json(self) -> str:
        """The header as text; the same header always gives the same text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The header that `to_json` made the text from."""
        return cls(**json.loads(text))

    def differences(self, now: LedgerHeader) -> list[str]:
        """Say what changed from this header to `now`, one text a value; empty where nothing did."""
        then, latest = (dict(_leaves(json.loads(header.to_json()))) for header in (self, now))
        return [
            f"{key} was {_text(then, key)}, now is {_text(latest, key)}"
            for key in sorted(then.keys() | latest.keys())
            if _text(then, key) != _text(latest, key)
        ]


def hash_bytes(content: bytes) -> str:
    """BLAKE2b hash, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def hash_file(path: str | Path) -> str:
    """BLAKE2b hash of a file's bytes, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def raster_fingerprint(
    path: str | Path, grid: Grid, *, files: Iterable[str] = ()
) -> dict[str, Any]:
    """Fingerprint of a raster without reading its pixels.

    Args:
        path: File, or the address of a remote raster.
        grid: Its grid.
        files: All files it is made of, such as the sources of a VRT. `.aux.xml` files are passed
            over: viewers write statistics there, and what else they hold is in `grid`.

    Returns:
        Where it is, its size in bytes and the time of its last change (null for a remote one), the
        same over `files`, and its grid.
    """
    named = (_on_disk(part) for part in files if not part.endswith(".aux.xml"))
    parts = {part for part in named if part is not None}
    states = [(part, part.stat()) for part in sorted(parts)]
    changes = hashlib.blake2b(digest_size=16)
    for part, part_state in states:
        changes.update(
            f"{part.resolve()}\n{part_state.st_size} {part_state.st_mtime_ns}\n".encode()
        )
    file = Path(path)
    there = file.is_file()
    state = file.stat() if there else None
    return {
        "path": str(file.resolve()) if there else str(path),
        "bytes": state.st_size if state else None,
        "modified_ns": state.st_mtime_ns if state else None,
        "files": {
            "count": len(states),
            "bytes": sum(part_state.st_size for _, part_state in states),
            "names_sizes_and_times": changes.hexdigest(),
        },
        "width": grid.width,
        "height": grid.height,
        "transform": list(grid.transform[:6]),
        "crs": None if grid.crs is None else grid.crs.to_string(),
    }


def _on_disk(name: str) -> Path | None:
    """The file on this disk that GDAL reads under a name, such as the archive of a `/vsizip/`."""
    place = Path(re.sub(r"^(/vsi\w+/)+", "", name))
    return next((path for path in (place, *place.parents) if path.is_file()), None)


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Every value that is not a mapping, with its dotted name."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _text(leaves: Mapping[str, object], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else _ABSENT
