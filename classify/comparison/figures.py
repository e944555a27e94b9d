"""Figures as inline SVG: a few hundred bytes each, coloured by the page's own CSS, so they follow light and dark.

A figure is drawn 320 units wide and shown about that wide, side by side with its kind: text stays legible on a phone.
"""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from classify.comparison.drawing import WIDTH, apart, linear, number, rule, svg, text, ticks
from classify.comparison.statistics import Reliability

LEVELS = 10  # steps of the heat maps' scale
NAMED = 15  # classes up to which a heat map or the map has room for their names
COUNTED = 12  # classes up to which its cells have room for counts
COLOURS = 10  # of the map's classes, in the stylesheet as --c0 … --c9


def readable(name: str) -> str:
    """A class name as it is shown."""
    return name.replace("_", " ")


def heat(confusion: np.ndarray, names: Sequence[str], top: float) -> Markup:
    """Confusion matrix: the errors of each true class as shares of its rows, on a scale that ends at `top`.

    The diagonal is left uncoloured: beside it no error would be seen.

    Args:
        confusion: (classes, classes) int, rows true.
        names: of the classes.
    """
    k = len(names)
    left, head = (112, 18) if k <= NAMED else (0, 0)
    cell = (WIDTH - left) / k
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    level = np.rint(shares / (top or 1) * LEVELS).astype(int)
    parts = [f'<rect class="frame" x="{left}" y="{head}" width="{WIDTH - left}" height="{WIDTH - left}"/>']
    for step in range(1, LEVELS + 1):
        squares = "".join(
            f"M{left + j * cell:.1f} {head + i * cell:.1f}h{cell:.1f}v{cell:.1f}h-{cell:.1f}z"
            for i, j in np.argwhere(level == step)
        )
        parts.append(f'<path class="heat" fill-opacity="{step / LEVELS:.3f}" d="{squares}"/>' if squares else "")
    diagonal = "".join(
        f"M{left + i * cell:.1f} {head + i * cell:.1f}h{cell:.1f}v{cell:.1f}h-{cell:.1f}z" for i in range(k)
    )
    parts.append(f'<path class="diagonal" d="{diagonal}"/>')
    if k <= NAMED:
        parts += [
            text(left - 6, head + (i + 0.5) * cell + 3, f"{_short(name)} {i + 1}", "end")
            + text(left + (i + 0.5) * cell, head - 6, str(i + 1), "middle")
            for i, name in enumerate(names)
        ]
    if k <= COUNTED:
        parts += [
            text(
                left + (j + 0.5) * cell, head + (i + 0.5) * cell + 3, str(confusion[i, j]), "middle", _ink(i, j, level)
            )
            for i, j in np.argwhere(confusion)
        ]
    says = f"Confusion matrix: {np.trace(confusion)} of {confusion.sum()} rows on the diagonal"
    return svg("heatmap", head + WIDTH - left + 1, parts, says)


def curves(train: Sequence[float], validation: Sequence[float], best: int, what: str) -> Markup:
    """One metric by epoch: dashed over the rows trained on, solid over those held out, if any were.

    Args:
        train, validation: (epochs,); no validation where no rows were held out.
        best: index of the epoch to mark.
        what: the metric.
    """
    lines = {"train": train, "validation": validation}
    lines = {kind: values for kind, values in lines.items() if len(values)}
    marks = ticks(min(map(min, lines.values())), max(map(max, lines.values())), 4)
    right = WIDTH - 62
    x, y = linear(1, max(len(train), 2), 34, right), linear(marks[0], marks[-1], 150, 10)
    parts = [rule(34, y(mark), right, y(mark)) + text(28, y(mark) + 3, f"{mark:g}", "end") for mark in marks]
    parts += [text(x(epoch), 166, str(epoch), "middle") for epoch in sorted({1, best + 1, len(train)})]
    parts.append(f'<path class="mark" d="M{x(best + 1)} 10V150"/>')
    ends = apart({kind: (right, y(values[-1])) for kind, values in lines.items()}, high=11)
    for kind, values in lines.items():
        line = " ".join(f"{x(i + 1)},{y(v)}" for i, v in enumerate(values))
        parts.append(f'<polyline class="line {kind}" points="{line}"/>' + text(right + 6, ends[kind][1] + 3, kind))
        if kind == "validation":
            parts.append(f'<circle class="dot" cx="{x(best + 1)}" cy="{y(values[best])}" r="3.5"/>')
    at_best = ", ".join(f"{kind} {values[best]:.3f}" for kind, values in lines.items())
    return svg("curves", 172, parts, f"{what} over {len(train)} epochs; at epoch {best + 1}: {at_best}")


def search_heat(
    scores: np.ndarray, across: Sequence[float], up: Sequence[float], names: tuple[str, str], chosen: tuple[int, int]
) -> Markup:
    """Mean score of every combination of two settings, paler where lower; the chosen one is framed.

    Args:
        scores: (values up, values across), the values of `across` and `up` ascending, `names` theirs.
        chosen: (up, across) index of the chosen combination.
    """
    left, wide, high = 44, (WIDTH - 44) / len(across), 26
    foot = len(up) * high
    share = (scores - scores.min()) / (np.ptp(scores) or 1)
    parts = []
    for i, j in np.ndindex(scores.shape):
        x, y = left + j * wide, foot - (i + 1) * high
        strength = round(float(share[i, j]) * LEVELS) / LEVELS
        says = f"{names[0]} = {across[j]:g}, {names[1]} = {up[i]:g}: {scores[i, j]:.2%}"
        parts.append(
            f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high}" '
            f'fill-opacity="{strength:.1f}"><title>{escape(says)}</title></rect>'
            + text(x + wide / 2, y + 16, f"{100 * scores[i, j]:.1f}", "middle", "on" if strength > 0.5 else "")
        )
    at = f'x="{left + chosen[1] * wide:.1f}" y="{foot - (chosen[0] + 1) * high}"'
    parts.append(f'<rect class="chosen" {at} width="{wide:.1f}" height="{high}"/>')
    parts += [text(left - 6, foot - (i + 0.5) * high + 3, f"{value:g}", "end") for i, value in enumerate(up)]
    parts += [text(left + (j + 0.5) * wide, foot + 14, number(value), "middle") for j, value in enumerate(across)]
    parts.append(text(left + (WIDTH - left) / 2, foot + 29, f"{names[0]} across, {names[1]} up", "middle"))
    says = f"Score by {names[0]} and {names[1]}: {scores[chosen]:.2%} with {across[chosen[1]]:g} and {up[chosen[0]]:g}"
    return svg("heatmap", foot + 34, parts, says)


def search_curve(scores: np.ndarray, values: Sequence[float], chosen: int, name: str) -> Markup:
    """Scores (values, folds) by one setting's ascending values, on a logarithmic axis, with a mark at `chosen`."""
    marks = ticks(float(scores.min()), float(scores.max()), 4)
    y = linear(marks[0], marks[-1], 150, 10)
    at = np.interp(np.log10(values), np.log10([values[0], values[-1]]), [44, WIDTH - 12]).round(2).tolist()
    parts = [rule(40, y(m), WIDTH - 8, y(m)) + text(34, y(m) + 3, f"{100 * m:g} %", "end") for m in marks]
    parts += [text(a, 166, number(value), "middle") for a, value in zip(at, values, strict=True)]
    parts.append(f'<path class="mark" d="M{at[chosen]} 10V150"/>')
    for a, row in zip(at, scores.tolist(), strict=True):
        parts += [f'<circle class="fold" cx="{a}" cy="{y(score)}" r="1.8"/>' for score in row]
    means = scores.mean(axis=1).tolist()
    line = " ".join(f"{a},{y(mean)}" for a, mean in zip(at, means, strict=True))
    dot = f'<circle class="dot" cx="{at[chosen]}" cy="{y(means[chosen])}" r="3.5"/>'
    parts += [f'<polyline class="line" points="{line}"/>', dot]
    says = f"Score by {name}: {means[chosen]:.2%} with {values[chosen]:g}"
    return svg("curves", 184, [*parts, text((44 + WIDTH) / 2, 181, name, "middle")], says)


def reliability_curve(bins: Reliability) -> Markup:
    """Share right against confidence, a dot a bin with an area as its rows; a line joins it to the perfect diagonal.

    The mean length of the lines, weighted by the dots' areas, is the calibration error.
    """
    x, y = linear(0, 1, 34, WIDTH - 12), linear(0, 1, 246, 12)
    parts = [
        rule(34, y(v), WIDTH - 12, y(v)) + text(28, y(v) + 3, f"{v:.0%}", "end") + text(x(v), 264, f"{v:.0%}", "middle")
        for v in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts.append(f'<path class="perfect" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    for count, c, a in zip(bins.rows, bins.confidence, bins.accuracy, strict=True):
        part = math.sqrt(count / bins.rows.sum())
        radius = max(2.5, 15 * part)
        parts.append(f'<path class="gap" stroke-opacity="{max(0.2, part):.2f}" d="M{x(c)} {y(c)}V{y(a)}"/>')
        parts.append(f'<circle class="share" cx="{x(c)}" cy="{y(a)}" r="{radius:.1f}"/>')
    says = "; ".join(f"{a:.0%} right at {c:.0%}" for c, a in zip(bins.confidence, bins.accuracy, strict=True))
    return svg("reliability", 272, parts, f"Share right by confidence: {says}")


def plane(at: np.ndarray, y: np.ndarray, names: Sequence[str], wrong: np.ndarray, told: Sequence[str]) -> Markup:
    """Rows on a plane, coloured and, up to NAMED classes, named by class; crosses are errors, and say so on hover.

    Args:
        at: (n, 2) positions.
        y: (n,) index into names.
        wrong: (n,) bool.
        told: (n,) what to say of each row.
    """
    height = 640
    low, high = at.min(axis=0), at.max(axis=0)
    x, v = linear(low[0], high[0], 12, 948), linear(low[1], high[1], 12, height - 12)
    spots = np.array([(x(a), v(b)) for a, b in at])
    parts = []
    for label in np.unique(y):
        dots = "".join(f"M{a:g} {b:g}h0" for a, b in spots[(y == label) & ~wrong])
        crosses = "".join(
            f'<path d="M{a - 3.5:g} {b - 3.5:g}l7 7m0-7l-7 7"><title>{escape(told[int(i)])}</title></path>'
            for i, (a, b) in zip(np.flatnonzero((y == label) & wrong), spots[(y == label) & wrong], strict=True)
        )
        parts.append(
            f'<g class="c{label % COLOURS}"><path class="spots" d="{dots}"/><g class="errors">{crosses}</g></g>'
        )
    shown = np.unique(y).tolist() if len(names) <= NAMED else []
    centres = {names[label]: np.median(spots[y == label], axis=0) for label in shown}
    parts += [text(a, b, readable(name), "middle", "name") for name, (a, b) in apart(centres).items()]
    says = f"{len(y)} test rows placed by likeness, coloured by class; {wrong.sum()} of them are errors"
    return svg("plane", height, parts, says, 960)


def _short(name: str, most: int = 17) -> str:
    name = readable(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def _ink(i: int, j: int, level: np.ndarray) -> str:
    """The class of a count's text, so that it can be read on its cell."""
    return "right" if i == j else "on" if level[i, j] > LEVELS / 2 else ""
