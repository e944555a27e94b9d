"""Figures of a comparison of feature sets."""

import re

import numpy as np

from classify.across.figures import is_dominated, learning_curves, pareto


def row(name: str, accuracy: float, seconds: float, size: int) -> dict:
    return {"features": name, "model": "svm", "accuracy": accuracy, "seconds_per_1000": seconds, "row_bytes": size}


def test_what_another_set_beats_in_everything_is_dominated() -> None:
    """Equal in all kinds is no reason; better in one kind is a right to stand."""
    costs = np.array([[1, 5, 5], [2, 6, 5], [2, 4, 9], [1, 5, 5], [0, 9, 9]])
    assert is_dominated(costs).tolist() == [False, True, False, False, False]


def test_a_bubble_for_each_set_and_grey_for_the_dominated() -> None:
    rows = [row("large", 0.8, 4, 250_000), row("small", 0.78, 4, 5_000), row("worse", 0.7, 40, 300_000)]
    drawn = str(pareto(rows, "accuracy"))
    assert drawn.count("<circle") == 3 and drawn.count('class="bubble dominated"') == 1
    radii = {float(size) for size in re.findall(r'r="([\d.]+)"', drawn)}
    assert max(radii) == 22 and min(radii) >= 4
    assert "not dominated: large, small" in drawn
    for name in ("large", "small", "worse"):
        assert f">{name}</text>" in drawn


def test_a_curve_has_its_draws_and_its_promise() -> None:
    twice = {"size": 80, "accuracy": 0.9, "low": 0.85, "high": 0.95}
    curve = {"sizes": [5, 10, 40], "accuracies": [[0.5, 0.6, 0.8], [0.55, 0.62, 0.8]], "twice": twice}
    drawn = str(learning_curves([curve, curve | {"twice": None}], ["a", "b"]))
    assert drawn.count('class="fold"') == 12 and drawn.count('class="curve"') == 2
    assert drawn.count('class="band"') == drawn.count('class="promise"') == 1
    assert ">80</text>" in drawn and "with all of them a: 80.0%; b: 80.0%" in drawn
