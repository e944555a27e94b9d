"""Intervals of shares, of differences and of their means over classes: by simulation, SciPy and closed forms."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from evidence import record
from scipy.optimize import brentq, minimize
from scipy.stats import norm

from classify.comparison.intervals import difference_interval, share_interval

Interval = tuple[float, float]


class Cell(NamedTuple):
    """Test rows of each class, and how many of them a model gets right."""

    rows: list[int]
    shares: np.ndarray


def even(classes: int, rows: int, share: float, spread: float = 0.0) -> Cell:
    """Classes of one size; their shares lie up to `spread` on either side of the mean."""
    return Cell([rows] * classes, share + np.linspace(-spread, spread, classes))


UNEVEN = {
    "60, 15, 5": Cell([60, 15, 5], np.array([0.97, 0.9, 0.8])),
    "1,000, 1,000, 5": Cell([1000, 1000, 5], np.array([0.9, 0.9, 0.99])),
    "100, 50, 20, 10, 5": Cell([100, 50, 20, 10, 5], np.array([0.98, 0.95, 0.9, 0.8, 0.6])),
    "100, 50, 20, 10, 5, turned": Cell([100, 50, 20, 10, 5], np.array([0.6, 0.8, 0.9, 0.95, 0.98])),
    "20 of 3 to 200": Cell(np.geomspace(3, 200, 20).astype(int).tolist(), np.linspace(0.6, 0.97, 20)),
    "101 of 2 to 100": Cell(np.geomspace(2, 100, 101).astype(int).tolist(), np.linspace(0.5, 0.95, 101)),
}
CELLS = {
    "10 × 10 at 0.9": even(10, 10, 0.9),
    "10 × 10 at 0.8 to 1": even(10, 10, 0.9, 0.1),
    "100 × 5 at 0.9": even(100, 5, 0.9),
    "100 × 5 at 0.8 to 1": even(100, 5, 0.9, 0.1),
    "100 × 10 at 0.95": even(100, 10, 0.95),
    "100 × 10 at 0.9 to 1": even(100, 10, 0.95, 0.05),
    "10 × 25 at 0.9": even(10, 25, 0.9),
    "10 × 25 at 0.6 to 1": even(10, 25, 0.8, 0.2),
    "10 × 125 at 0.8": even(10, 125, 0.8),
    "10 × 125 at 0.6 to 1": even(10, 125, 0.8, 0.2),
    **UNEVEN,
}


def coverage(interval: Callable[[np.ndarray], Interval], drawn: np.ndarray, truth: float) -> float:
    """How many intervals hold the truth; equal tables are asked once."""
    tables, count = np.unique(drawn.reshape(len(drawn), -1), axis=0, return_counts=True)
    ends = np.array([interval(table.reshape(drawn.shape[1:])) for table in tables])
    return float(np.average((ends[:, 0] <= truth + 1e-9) & (truth <= ends[:, 1] + 1e-9), weights=count))


def of_shares(cell: Cell, draws: int) -> float:
    drawn = np.random.default_rng(0).binomial(cell.rows, cell.shares, (draws, len(cell.rows)))
    return coverage(lambda right: share_interval(right, cell.rows), drawn, float(cell.shares.mean()))


@pytest.mark.parametrize("name", ["10 × 10 at 0.9", "100 × 5 at 0.9", "100 × 10 at 0.95", "100, 50, 20, 10, 5, turned"])
def test_intervals_of_balanced_accuracy_cover(name: str) -> None:
    """In 400 simulated test sets; intervals put together from those of the classes fail the first three."""
    assert 0.925 < of_shares(CELLS[name], 400) < 0.98


@pytest.mark.soak
def test_intervals_of_balanced_accuracy_cover_everywhere() -> None:
    found = {name: of_shares(cell, 2000) for name, cell in CELLS.items()}
    print(*(f"{name}: {100 * share:.1f} %" for name, share in found.items()), sep="\n")
    same = [share for name, share in found.items() if name not in UNEVEN]
    uneven = [found[name] for name in UNEVEN]
    reference = "2,000 simulated test sets in each of {} cells"
    for what, shares in (("classes of one size", same), ("uneven classes", uneven)):
        told = f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"
        record(f"95 % interval of balanced accuracy, {what}", reference.format(len(shares)), told)
    assert min(same) > 0.94 and max(same) < 0.965
    assert min(uneven) > 0.92 and max(uneven) < 0.975


def paired(cell: list[int], only: tuple[np.ndarray, np.ndarray], draws: int) -> float:
    """Coverage of the difference of balanced accuracy, where shares `only` are right with one model alone."""
    random = np.random.default_rng(0)
    parts = [random.multinomial(n, [p, q, 1 - p - q], draws)[:, :2] for n, p, q in zip(cell, *only, strict=True)]
    of = np.repeat(np.arange(len(cell)), cell)

    def interval(table: np.ndarray) -> Interval:
        sides = [
            np.concatenate([np.arange(n) < p for n, (p, _) in zip(cell, table, strict=True)]),
            np.concatenate(
                [(np.arange(n) >= p) & (np.arange(n) < p + q) for n, (p, q) in zip(cell, table, strict=True)]
            ),
        ]
        return difference_interval(*sides, of)

    return coverage(interval, np.stack(parts, axis=1), float((only[0] - only[1]).mean()))


PAIRS = {
    "10 × 10": ([10] * 10, (np.full(10, 0.08), np.full(10, 0.04))),
    "10 × 25": ([25] * 10, (np.linspace(0.02, 0.2, 10), np.linspace(0.1, 0.02, 10))),
    "10 × 125": ([125] * 10, (np.full(10, 0.12), np.full(10, 0.08))),
    "100 × 5": ([5] * 100, (np.full(100, 0.07), np.full(100, 0.04))),
    "1 × 50": ([50], (np.array([0.1]), np.array([0.05]))),
    "1 × 1,250": ([1250], (np.array([0.08]), np.array([0.05]))),
    "60, 15, 5": ([60, 15, 5], (np.array([0.05, 0.1, 0.2]), np.array([0.05, 0.05, 0.05]))),
    "20 of 3 to 200": (np.geomspace(3, 200, 20).astype(int).tolist(), (np.full(20, 0.1), np.linspace(0.02, 0.1, 20))),
}


def test_intervals_of_the_difference_of_balanced_accuracy_cover() -> None:
    assert 0.91 < paired(*PAIRS["10 × 10"], 150) < 0.99


@pytest.mark.soak
def test_intervals_of_differences_cover_everywhere() -> None:
    """Never less than asked for by more than chance; more where classes have very few rows."""
    found = {name: paired(*cell, 1000) for name, cell in PAIRS.items()}
    print(*(f"{name}: {100 * share:.1f} %" for name, share in found.items()), sep="\n")
    told = f"{100 * min(found.values()):.1f} to {100 * max(found.values()):.1f} %"
    record("95 % interval of a paired difference", f"1,000 simulated test sets in each of {len(found)} cells", told)
    assert min(found.values()) > 0.925


def tango(better: int, worse: int, n: int) -> Interval:
    """By the closed form of Tango's test statistic (1998, equation 3) and a root."""
    z = norm.ppf(0.975)

    def statistic(d: float) -> float:
        b = -better - worse + (2 * n - better + worse) * d
        q = (np.sqrt(b**2 + 8 * n * worse * d * (1 - d)) - b) / (4 * n)
        return (better - worse - n * d) / np.sqrt(n * (2 * q + d * (1 - d)))

    middle, near = (better - worse) / n, 1e-9
    low = brentq(lambda d: statistic(d) - z, near - 1, middle - near)
    return low, brentq(lambda d: statistic(d) + z, middle + near, 1 - near)


@pytest.mark.parametrize(("better", "worse", "n"), [(40, 20, 160), (12, 2, 50), (1, 0, 10), (43, 0, 50), (3, 9, 1250)])
def test_the_interval_of_a_difference_is_tangos(better: int, worse: int, n: int) -> None:
    a, b = np.arange(n) < better, (np.arange(n) >= better) & (np.arange(n) < better + worse)
    assert difference_interval(a, b) == pytest.approx(tango(better, worse, n), abs=1e-6)


def score(observed: float, likelihood: Callable, start: np.ndarray, mean: Callable, variance: Callable, at: float):
    """(observed − at) / error at the likeliest shares whose mean is `at`, found by SciPy's SLSQP."""
    found = minimize(
        lambda p: -likelihood(p),
        start,
        method="SLSQP",
        bounds=[(1e-9, 1 - 1e-9)] * len(start),
        constraints=[{"type": "eq", "fun": lambda p: mean(p) - at}],
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert found.success, found.message
    return (observed - at) / np.sqrt(variance(found.x))


def widened(each: np.ndarray, n: np.ndarray) -> float:
    """Variance of the mean over classes of what varies by `each` in one row; degrees of freedom as in the docstring."""
    share = each / n / (each / n).sum()
    return float((each / (n - 1 + share)).sum() / len(n) ** 2)


@pytest.mark.parametrize(
    ("right", "rows"), [((9, 4, 12), (10, 5, 40)), ((18, 2, 7, 1), (20, 3, 7, 4)), ((3, 30, 15), (6, 31, 25))]
)
def test_ends_are_where_the_score_test_rejects(right: tuple[int, ...], rows: tuple[int, ...]) -> None:
    """By general constrained optimisation, of tables with classes all right and others."""
    k, n = np.array(right, float), np.array(rows, float)
    for end, z in zip(share_interval(k, n), (1.96, -1.96), strict=True):
        found = score(
            (k / n).mean(),
            lambda p: float((k * np.log(p) + (n - k) * np.log(1 - p)).sum()),
            np.full(len(n), 0.7),
            np.mean,
            lambda p: widened(p * (1 - p), n),
            end,
        )
        assert found == pytest.approx(z, abs=2e-3)


def test_ends_of_a_difference_are_where_the_score_test_rejects() -> None:
    better, worse, n = np.array([4.0, 1, 5]), np.array([1.0, 2, 2]), np.array([20.0, 9, 40])
    of = np.repeat([0, 1, 2], n.astype(int))
    place = np.concatenate([np.arange(int(each)) for each in n])
    a, b = place < better[of], (place >= better[of]) & (place < (better + worse)[of])

    def likelihood(p: np.ndarray) -> float:
        x, y = p[:3], p[3:]
        return float(
            (better * np.log(x) + worse * np.log(y) + (n - better - worse) * np.log(np.maximum(1 - x - y, 1e-12))).sum()
        )

    for end, z in zip(difference_interval(a, b, of), (1.96, -1.96), strict=True):
        found = score(
            ((better - worse) / n).mean(),
            likelihood,
            np.full(6, 0.1),
            lambda p: (p[:3] - p[3:]).mean(),
            lambda p: widened(p[:3] + p[3:] - (p[:3] - p[3:]) ** 2, n),
            end,
        )
        assert found == pytest.approx(z, abs=2e-3)
