"""What every figure is drawn with: scales, round ticks, text and rules, as inline SVG in the page's own colours."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

WIDTH = 320


def linear(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The map that takes low…high to start…stop, rounded to what a screen can show."""
    return lambda value: round(start + (value - low) / (high - low or 1) * (stop - start), 2)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from at most `low` to at least `high`."""
    raw = (high - low or 1) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def apart(centres: Mapping[str, Any], wide: float = 150, high: float = 26) -> dict[str, tuple[float, float]]:
    """Places for names, (x, y) each: where one would cover another it moves down."""
    placed: dict[str, tuple[float, float]] = {}
    for name, (x, y) in sorted(centres.items(), key=lambda item: item[1][1]):
        for a, b in sorted(placed.values(), key=lambda spot: spot[1]):
            if abs(x - a) < wide and abs(y - b) < high:
                y = b + high
        placed[name] = (x, y)
    return placed


def svg(kind: str, height: float, parts: Iterable[str], says: str, width: int = WIDTH) -> Markup:
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height:g}" role="img" aria-label="{escape(says)}">'
    return Markup(head + "".join(parts) + "</svg>")


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="rule" d="M{x1} {y1}L{x2} {y2}"/>'


def number(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1000 else f"{value:.0e}".replace("e+0", "e").replace("e-0", "e−")
