"""Small charts as SVG text: no script, no font, no library needed to see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from geo_retina.wording import three_digits

COLOURS = ("#0072b2", "#e69f00", "#000000", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#999999")
"""Okabe and Ito's, made for the colour-blind (jfly.uni-koeln.de/color); the clearest first."""

_WIDTH, _HEIGHT = 420, 320
_LEFT, _TOP, _RIGHT, _BOTTOM = 48, 14, 12, 42
_TICKS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line or one set of bars."""

    name: str
    x: NDArray[np.float64]
    """(N,)"""
    y: NDArray[np.float64]
    """(N,)"""
    dashed: bool = False
    marked: bool = False
    """Draw a dot at each point."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What a chart's axes show."""

    x_label: str
    y_label: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)


def line_chart(series: Sequence[Series], axes: Axes) -> str:
    """Draw lines with a legend; points that are no numbers are left out."""
    parts = [_frame(axes)]
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        known = np.isfinite(line.x) & np.isfinite(line.y)
        x, y = _place(line.x[known], line.y[known], axes)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        if line.marked:
            parts += [
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>'
                for a, b in zip(x, y, strict=True)
            ]
    return _svg([*parts, _legend(series)])


def bar_chart(
    series: Sequence[Series], axes: Axes, *, edges: NDArray[np.float64], labels: Sequence[str]
) -> str:
    """Draw bars, later series in front of earlier ones.

    Args:
        series: `y` holds the height of each bar; `x` is not used.
        axes: With the range of `edges`.
        edges: (N + 1,) where the bars begin and end.
        labels: N + 1 texts under the edges.
    """
    parts = [_frame(axes, x_ticks=list(zip(edges.tolist(), labels, strict=True)))]
    for number, bars in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        left, top = _place(edges[:-1], bars.y, axes)
        right, floor = _place(edges[1:], np.zeros(len(bars.y)) + axes.y_range[0], axes)
        parts += [
            f'<rect x="{a + 1:.1f}" y="{b:.1f}" width="{max(c - a - 2, 1):.1f}" '
            f'height="{max(d - b, 0):.1f}" fill="{colour}" fill-opacity="0.75"/>'
            for a, b, c, d in zip(left, top, right, floor, strict=True)
        ]
    return _svg([*parts, _legend(series)])


def _place(
    x: NDArray[np.float64], y: NDArray[np.float64], axes: Axes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Picture coordinates of data coordinates."""
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    across = (np.clip(x, x_low, x_high) - x_low) / (x_high - x_low)
    up = (np.clip(y, y_low, y_high) - y_low) / (y_high - y_low)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + across * width, _TOP + (1 - up) * height


def _frame(axes: Axes, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
    """Grid lines, numbers and labels."""
    if x_ticks is None:
        x_ticks = [(at, three_digits(at)) for at in np.linspace(*axes.x_range, _TICKS + 1)]
    y_ticks = [(at, three_digits(at)) for at in np.linspace(*axes.y_range, _TICKS + 1)]
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for at, text in x_ticks:
        x = float(_place(np.array([at]), np.zeros(1), axes)[0][0])
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{floor}" class="g"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{text}</text>')
    for at, text in y_ticks:
        y = float(_place(np.zeros(1), np.array([at]), axes)[1][0])
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="g"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    middle, level = (_LEFT + right) / 2, (_TOP + floor) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axes.x_label)}</text>'
    )
    parts.append(
        f'<text x="12" y="{level}" text-anchor="middle" transform="rotate(-90 12 {level})">'
        f"{escape(axes.y_label)}</text>"
    )
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    parts = []
    for number, item in enumerate(series):
        y = _TOP + 14 + 15 * number
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f'<rect x="{_LEFT + 8}" y="{y - 8}" width="12" height="8" fill="{colour}"/>'
            f'<text x="{_LEFT + 25}" y="{y}">{escape(item.name)}</text>'
        )
    return "".join(parts)


def _svg(parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="11" '
        'fill="#333"><style>.g{stroke:#ddd;stroke-width:1}</style>' + "".join(parts) + "</svg>"
    )
