"""What can be said of a raster that its file leaves open."""

import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from geo_retina.errors import ConfigError
from geo_retina.wording import shown

_TRUTHS = ("bool", "bool_")  # of Python and numpy 2, of numpy 1


def _truth(value: Any) -> bool:  # noqa: ANN401  whatever the caller gave
    if type(value).__name__ not in _TRUTHS:
        raise TypeError
    return bool(value)


def _number(value: Any) -> float:  # noqa: ANN401
    if isinstance(value, str | bytes) or type(value).__name__ in _TRUTHS:
        raise TypeError
    return float(value)


def _whole(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bytes):
        raise TypeError
    return str(os.fspath(value))


def _pair(values: Any) -> tuple[float, float]:  # noqa: ANN401
    first, second = values
    return _number(first), _number(second)


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    bool: _truth,
    str: _text,
    str | None: _text,
    int | None: _whole,
    float | None: _number,
    tuple[int, ...] | None: lambda values: tuple(map(_whole, values)),
    tuple[float, float] | None: _pair,
    tuple[tuple[str, float], ...] | None: lambda pairs: tuple(
        sorted((_text(name), _number(value)) for name, value in dict(pairs).items())
    ),
}
"""What makes a plain value of each type of option."""


def make_plain(options: Any) -> None:  # noqa: ANN401  any dataclass of such fields
    """Make plain values of what numpy and paths bring along: a run writes its options down.

    Raises:
        ConfigError: A value is of another kind.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        if value is None:
            continue
        try:
            plain = _PLAIN[field.type](value)
        except (TypeError, ValueError) as error:
            kind = getattr(field.type, "__name__", field.type)
            raise ConfigError(f"expected {kind} as {field.name}, got {shown(value)}") from error
        object.__setattr__(options, field.name, plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a raster is made what a model needs; None stands for what its file says."""

    bands: tuple[int, ...] | None = None
    """Band numbers, from 1, in the order that the model needs."""
    scale: tuple[float, float] | None = None
    """Raster values that become the ends of the model's value range."""
    stretch: tuple[float, float] | None = None
    """Percentiles of each band that become these ends."""
    gsd_m: float | None = None
    """Metres per pixel of a raster that does not tell (no CRS, or a local one)."""
    any_gsd: bool = False
    """Allow rasters coarser than the model was made for."""
    pixel_coordinates: bool = False
    """Allow rasters without georeference; coordinates are then pixels, and the model's own GSD is
    assumed unless `gsd_m` is given."""

    def __post_init__(self) -> None:
        """See `make_plain`."""
        make_plain(self)


READ_AS_STATED = ReadOptions()
"""Everything as the raster's file and the model's card say."""
