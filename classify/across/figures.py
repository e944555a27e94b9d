"""Figures of a comparison of feature sets, as inline SVG in the page's own colours."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from classify.comparison.drawing import apart, linear, number, rule, svg, text, ticks
from classify.comparison.wording import percent_tick

WIDE, HIGH, LEFT, FOOT = 640, 360, 52, 320  # of the large figures
LARGEST = 22  # radius of the largest bubble


def pareto(rows: Sequence[Mapping[str, Any]], lead: str) -> Markup:
    """Score against seconds of extraction for 1,000 photos, on a logarithmic axis; a bubble's area is a row's bytes.

    A set is dominated, and grey, if another is as good, as fast and as small, and better in one of these.

    Args:
        rows: of each set its best, with `seconds_per_1000`.
        lead: the score.
    """
    cost = np.array([row["seconds_per_1000"] for row in rows], float)
    score = np.array([row[lead] for row in rows], float)
    worse = is_dominated(np.column_stack([-score, cost, [row["row_bytes"] for row in rows]]))
    up = ticks(float(score.min()) - 0.01, min(1.0, float(score.max()) + 0.01))
    low, high = math.log10(cost.min() / 1.4), math.log10(cost.max() * 1.6)
    x, y = linear(low, high, LEFT, WIDE - 210), linear(up[0], up[-1], FOOT, 16)
    parts = [
        rule(LEFT, y(mark), WIDE - 210, y(mark)) + text(LEFT - 8, y(mark) + 4, percent_tick(mark), "end") for mark in up
    ]
    for mark in _round_between(10**low, 10**high):
        parts.append(rule(x(math.log10(mark)), 16, x(math.log10(mark)), FOOT))
        parts.append(text(x(math.log10(mark)), FOOT + 16, f"{mark:g} s", "middle"))
    parts.append(text((LEFT + WIDE - 210) / 2, FOOT + 36, "extraction of 1,000 photos", "middle"))
    largest = max(row["row_bytes"] for row in rows)
    names = {}
    for i in np.argsort([-row["row_bytes"] for row in rows], kind="stable"):
        row, a, b = rows[i], x(math.log10(cost[i])), y(score[i])
        radius = max(4.0, LARGEST * math.sqrt(row["row_bytes"] / largest))
        kind = "bubble dominated" if worse[i] else "bubble"
        says = f"{row['features']}, {row['model']}: {score[i]:.1%}, {cost[i]:.1f} s, {row['row_bytes'] / 1e3:,.0f} kB"
        parts.append(
            f'<circle class="{kind}" cx="{a}" cy="{b}" r="{radius:.1f}"><title>{escape(says)}</title></circle>'
        )
        names[row["features"]] = (a + radius + 5, b + 4)
    right = max(WIDE - 200, *(a + 14 for a, _ in names.values()))
    for name, (_, b) in apart({name: (right, b) for name, (_, b) in names.items()}, 260, 15).items():
        a, level = names[name]
        parts.append(
            f'<path class="leader" d="M{a} {level - 4}L{right - 4} {b - 4}"/>' + text(right, b, name, "start", "name")
        )
    best = ", ".join(rows[i]["features"] for i in np.flatnonzero(~worse).tolist())
    return svg("pareto", HIGH, parts, f"Score against extraction time; not dominated: {best}", WIDE)


def is_dominated(costs: np.ndarray) -> np.ndarray:
    """(n,) bool, of costs (n, kinds): whether another is no dearer in any kind, and cheaper in one."""
    no_dearer = np.all(costs[None] <= costs[:, None], axis=2)
    cheaper = np.any(costs[None] < costs[:, None], axis=2)
    return np.asarray(np.any(no_dearer & cheaper, axis=1))


def learning_curves(curves: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Markup:
    """Accuracy by photos of a class, on a logarithmic axis: means over repeats, and what twice as many promise.

    Args:
        curves: as `Curve.as_json` gives them.
        names: of the models.
    """
    means = [np.mean(curve["accuracies"], axis=0) for curve in curves]
    ends = [curve["twice"] for curve in curves if curve["twice"]]
    low = min(float(mean.min()) for mean in means)
    high = max([float(mean.max()) for mean in means] + [end["high"] for end in ends])
    up = ticks(low, min(high, 1.0))
    sizes = sorted({size for curve in curves for size in curve["sizes"]} | {end["size"] for end in ends})
    x = linear(math.log(sizes[0]), math.log(sizes[-1]), LEFT, WIDE - 150)
    y = linear(up[0], up[-1], FOOT, 16)
    parts = [
        rule(LEFT, y(mark), WIDE - 150, y(mark)) + text(LEFT - 8, y(mark) + 4, percent_tick(mark), "end") for mark in up
    ]
    parts += [text(x(math.log(size)), FOOT + 16, number(size), "middle") for size in _spaced(sizes)]
    parts.append(text((LEFT + WIDE - 150) / 2, FOOT + 36, "train photos of a class", "middle"))
    places = {}
    for i, (curve, mean, name) in enumerate(zip(curves, means, names, strict=True)):
        points = [(x(math.log(size)), y(value)) for size, value in zip(curve["sizes"], mean.tolist(), strict=True)]
        dots = "".join(
            f'<circle class="fold" cx="{a}" cy="{y(value)}" r="1.6"/>'
            for (a, _), column in zip(points, np.transpose(curve["accuracies"]).tolist(), strict=True)
            for value in column
        )
        line = " ".join(f"{a},{b}" for a, b in points)
        drawn = f'<polyline class="curve" points="{line}"/>'
        last = points[-1]
        if end := curve["twice"]:
            at = x(math.log(end["size"]))
            drawn += f'<path class="band" d="M{last[0]} {last[1]}L{at} {y(end["high"])}V{y(end["low"])}z"/>'
            drawn += f'<path class="promise" d="M{last[0]} {last[1]}L{at} {y(end["accuracy"])}"/>'
            last = (at, y(end["accuracy"]))
        parts.append(f'{dots}<g class="c{i}">{drawn}</g>')
        places[name] = (last[0] + 8, last[1] + 4)
    parts += [text(a, b, name, "start", "name") for name, (a, b) in apart(places, 300, 15).items()]
    told = "; ".join(f"{name}: {mean[-1]:.1%}" for name, mean in zip(names, means, strict=True))
    return svg("learning", HIGH, parts, f"Accuracy by photos of a class; with all of them {told}", WIDE)


def _round_between(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**power for power in powers for m in (1, 2, 5) if low <= m * 10.0**power <= high]


def _spaced(sizes: Sequence[int]) -> list[int]:
    """Those that are far enough from the one after them, on a logarithmic axis, to be named."""
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if kept[-1] / size > (sizes[-1] / sizes[0]) ** 0.07:
            kept.append(size)
    return kept
