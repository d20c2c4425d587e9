"""Coordinates as well-known binary (OGC 06-103r4, section 8.2), without an object per geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINT = np.dtype([("order", "u1"), ("type", "<u4"), ("xy", "<f8", (2,))])
_POLYGON = np.dtype(
    [
        ("order", "u1"),
        ("type", "<u4"),
        ("rings", "<u4"),
        ("points", "<u4"),
        ("xy", "<f8", (5, 2)),
    ]
)
_LITTLE_ENDIAN = 1
_POINT_CODE = 1
_POLYGON_CODE = 3


def encode(coordinates: NDArray[np.float64]) -> pa.BinaryArray:
    """Encode points or boxes.

    Args:
        coordinates: (N, 2) points, or (N, 4, 2) rings that are not closed.

    Returns:
        N points, or N polygons of one closed ring.
    """
    if coordinates.ndim == 2:  # noqa: PLR2004
        records = np.zeros(len(coordinates), dtype=_POINT)
        records["type"] = _POINT_CODE
        records["xy"] = coordinates
    else:
        records = np.zeros(len(coordinates), dtype=_POLYGON)
        records["type"] = _POLYGON_CODE
        records["rings"] = 1
        records["points"] = 5
        records["xy"] = coordinates[:, [0, 1, 2, 3, 0]]
    records["order"] = _LITTLE_ENDIAN
    size = records.dtype.itemsize
    offsets = np.arange(len(records) + 1, dtype=np.int32) * np.int32(size)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(records.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(records), buffers)
