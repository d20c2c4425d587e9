"""The records of a ledger as bytes: framed by length and checksum, so that a torn one shows."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from geo_retina.space.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST_BYTES = 16
_FRAME = struct.Struct(f"<Q{_DIGEST_BYTES}s")  # length of the payload, its checksum
_HEAD_LENGTH = struct.Struct("<I")
_FASTEST = 1  # zlib level: class and window ids shrink to nothing, coordinates hardly at any level


@dataclass(frozen=True, slots=True)
class StripRecord:
    """One committed strip, as read back."""

    strip: int
    counters: dict[str, Any]
    final: bytes
    """Compressed."""
    carried: bytes
    """Compressed."""


def read_record(file: BinaryIO, size: int) -> StripRecord | None:
    """The record at the file's position; None where no whole one follows."""
    payload = read_payload(file, size)
    if payload is None:
        return None
    (length,) = _HEAD_LENGTH.unpack_from(payload)
    body = _HEAD_LENGTH.size + length
    head = json.loads(payload[_HEAD_LENGTH.size : body])
    middle = body + head["final_bytes"]
    return StripRecord(head["strip"], head["counters"], payload[body:middle], payload[middle:])


def read_payload(file: BinaryIO, size: int) -> bytes | None:
    """The next payload of a file of `size` bytes; None where it is torn or its checksum differs."""
    frame = file.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    length, digest = _FRAME.unpack(frame)
    if length > size - file.tell():
        return None
    payload = file.read(length)
    return payload if _digest(payload) == digest else None


def framed(payload: bytes) -> bytes:
    """A payload with its length and checksum before it."""
    return _FRAME.pack(len(payload), _digest(payload)) + payload


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()


def pack_strip(
    strip: int, final: Detections, carried: Detections, counters: Mapping[str, Any]
) -> bytes:
    """Payload of one strip."""
    packed = _pack_detections(final)
    head = json.dumps(
        {"strip": strip, "final_bytes": len(packed), "counters": dict(counters)}
    ).encode()
    return b"".join([_HEAD_LENGTH.pack(len(head)), head, packed, _pack_detections(carried)])


def _pack_detections(detections: Detections) -> bytes:
    columns = [
        detections.boxes.astype("<f8"),
        detections.scores.astype("<f4"),
        detections.class_ids.astype("<i8"),
        detections.window_ids.astype("<i8"),
    ]
    return zlib.compress(b"".join(column.tobytes() for column in columns), _FASTEST)


def unpack_detections(packed: bytes) -> Detections:
    """Detections from the bytes of a record, bit for bit."""
    raw = zlib.decompress(packed)
    count = len(raw) // (4 * 8 + 4 + 8 + 8)
    boxes = np.frombuffer(raw, "<f8", 4 * count).reshape(count, 4)
    scores = np.frombuffer(raw, "<f4", count, 32 * count)
    class_ids = np.frombuffer(raw, "<i8", count, 36 * count)
    window_ids = np.frombuffer(raw, "<i8", count, 44 * count)
    return Detections(
        boxes.astype(np.float64),
        scores.astype(np.float32),
        class_ids.astype(np.int64),
        window_ids.astype(np.int64),
    )
