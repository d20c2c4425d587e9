"""Numbers with what they count, for texts."""

import math


def counted(number: int, noun: str) -> str:
    """`1 raster`, `31 rasters`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def three_digits(value: float) -> str:
    """A number to three digits, as many before the point as it has: `0.182`, `20`, `1365`."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004
