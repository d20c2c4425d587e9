"""Arrow columns over numpy memory: without a Python object per value, and without pandas.

`pyarrow.array` asks of whatever it is given whether pandas knows it, and so loads pandas, which
takes longer than all the rest of writing a small file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def as_column(
    values: NDArray[np.generic], kind: pa.DataType, *, known: NDArray[np.bool_] | None = None
) -> pa.Array:
    """Numbers as they lie in memory.

    Args:
        values: (N,) of the type that `kind` stands for.
        kind: A type of fixed width.
        known: (N,) False = null; None = none is.
    """
    nulls = None
    if known is not None and not known.all():
        nulls = pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(
        kind, len(values), [nulls, pa.py_buffer(np.ascontiguousarray(values))]
    )


def names_of(class_ids: NDArray[np.int64], class_names: Sequence[str]) -> pa.StringArray:
    """The name of each of (N,) class ids."""
    texts = [name.encode() for name in class_names]
    offsets = np.zeros(len(texts) + 1, np.int32)
    offsets[1:] = np.cumsum([len(text) for text in texts])
    names = pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))
    )
    return names.take(as_column(class_ids, pa.int64()))


def hex_text(values: NDArray[np.uint64]) -> pa.StringArray:
    """Each of (N,) values as 16 hexadecimal digits."""
    digits = values.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(values) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(digits))
