"""Time and memory against rows, both on logarithmic axes, as an SVG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classify.comparison.drawing import linear

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito's, told apart by the colour-blind
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 300, 52, 78, 30, 40


class Point(NamedTuple):
    """One fit.

    Attributes:
        rows: train and test rows.
        seconds: of the whole process.
        peak: bytes of memory.
    """

    rows: int
    seconds: float
    peak: int


def draw(points: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Two panels side by side, a line a model."""
    there = {name: found for name, found in points.items() if found}
    panels = [
        _panel({name: [(p.rows, p.seconds) for p in found] for name, found in there.items()}, "seconds"),
        _panel({name: [(p.rows, p.peak / 1e9) for p in found] for name, found in there.items()}, "gigabytes"),
    ]
    body = "".join(f'<g transform="translate({i * WIDTH} 0)">{panel}</g>' for i, panel in enumerate(panels))
    style = "text{font:12px system-ui,sans-serif;fill:#333}path{fill:none;stroke-width:2}line{stroke:#ddd}"
    size = f'viewBox="0 0 {2 * WIDTH} {HEIGHT}" width="{2 * WIDTH}" height="{HEIGHT}"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>{ground}{body}</svg>\n', "utf-8"
    )


def _panel(lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    every = np.log10([point for line in lines.values() for point in line])
    (low_x, low_y), (high_x, high_y) = every.min(axis=0), every.max(axis=0)
    low_y, high_y = np.floor(low_y), max(np.ceil(high_y), np.floor(low_y) + 1)
    x = linear(low_x, high_x if high_x > low_x else low_x + 1, LEFT, WIDTH - RIGHT)
    y = linear(low_y, high_y, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{LEFT}" y="18">{unit} against rows, both logarithmic</text>']
    for power in range(int(low_y), int(high_y) + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(power)}" y2="{y(power)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(power) + 4}" text-anchor="end">{10.0**power:g}</text>')
    sizes = sorted({point[0] for line in lines.values() for point in line})
    parts += [f'<text x="{x(np.log10(n))}" y="{HEIGHT - 16}" text-anchor="middle">{n:,}</text>' for n in sizes]
    ends = sorted(lines, key=lambda name: lines[name][-1][1])
    place = HEIGHT + 0.0
    for name in ends:
        colour = COLOURS[list(lines).index(name) % len(COLOURS)]
        at = [(x(np.log10(a)), y(np.log10(b))) for a, b in lines[name]]
        parts.append(f'<path stroke="{colour}" d="M{" L".join(f"{a} {b}" for a, b in at)}"/>')
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in at]
        place = min(at[-1][1], place - 14)  # names keep clear of each other
        parts.append(f'<text x="{at[-1][0] + 8}" y="{place + 4:.1f}" style="fill:{colour}">{name}</text>')
    return "".join(parts)
