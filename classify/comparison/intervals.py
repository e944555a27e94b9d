"""Score intervals of shares, of differences on the same rows, and of their means over classes.

A mean θ of k classes' shares lies within the interval if (observed − θ)² ≤ z² V(θ). V is the variance of the mean under
the shares that are likeliest among those whose mean is θ (a score test with restricted likelihood: Miettinen and
Nurminen, Statistics in Medicine 4, 213–226, 1985; Martín Andrés et al., Statistical Methods in Medical Research 20,
369–387, 2011). Of one class this is Wilson's (1927) interval of a share, and Tango's (Statistics in Medicine 17,
891–908, 1998) of a difference.

Simulation says what it covers (docs/evidence.md). Other methods were tried there and cover too little: intervals put
together from those of the classes (Zou and Donner, 2008) where each has few rows, and normal ones with the classes' own
variances where a class of few rows is right throughout. A bootstrap is a point there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
TINY, ROUNDING = np.finfo(float).tiny, 1e-12

# μ > 0 → of each class, the mean and the variance of one row that are likeliest where μ pushes the mean down
Pushed = Callable[[float], tuple[np.ndarray, np.ndarray]]


def share_interval(right: ArrayLike, rows: ArrayLike) -> tuple[float, float]:
    """95 % interval of a share of rows, or of the mean of several independent shares, such as the recalls of classes.

    Args:
        right: (shares,) how many rows were right.
        rows: (shares,) of how many, at least 1 each.
    """
    k, n = np.asarray(right, float), np.asarray(rows, float)
    low, wrong = _lower_end(lambda push: _pushed_share(k, n, push), n), n - k
    return low, 1 - _lower_end(lambda push: _pushed_share(wrong, n, push), n)


def difference_interval(a: np.ndarray, b: np.ndarray, of: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of how much more often one model is right than another on the same rows.

    Args:
        a, b: (n,) bool, whether each was right.
        of: (n,) int64 class of each row, where the difference is that of the mean of classes' shares.
    """
    only_a, only_b, n = apart(a, b, of)
    low = _lower_end(lambda push: _pushed_difference(only_a, only_b, n, push), n)
    return low, -_lower_end(lambda push: _pushed_difference(only_b, only_a, n, push), n)


def apart(a: np.ndarray, b: np.ndarray, of: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes,) float64 each: how many rows only `a` and only `b` got right, of how many; classes without rows go.

    Args:
        a, b, of: see `difference_interval`.
    """
    codes = np.zeros(len(a), np.int64) if of is None else of
    n = np.bincount(codes)
    counts = (np.bincount(codes, side, len(n)) for side in (a & ~b, b & ~a, np.ones(len(a))))
    only_a, only_b, rows = (each[n > 0] for each in counts)
    return only_a, only_b, rows


def _lower_end(pushed: Pushed, n: np.ndarray) -> float:
    """The least mean that the score test does not reject."""
    from scipy.optimize import brentq

    observed = float(pushed(0.0)[0].mean())

    def beyond(log_push: float) -> float:
        means, variances = pushed(float(np.exp(log_push)))
        variances = variances / n
        # Likeliest shares vary too little: k − 1 degrees of freedom are lost on them. A class loses all of one but for
        # its part in the variance of the mean, which the restriction decides. One row can only lose half of itself.
        free = n - 1 + variances / max(float(variances.sum()), TINY)
        error = float(np.sqrt((variances * n / np.maximum(free, 0.5)).sum())) / len(n)
        return observed - float(means.mean()) - Z * error - ROUNDING

    least, most = np.log(1e-9), np.log(1e4 * n.max())
    end = brentq(beyond, least, most, xtol=1e-9) if beyond(most) > 0 else most
    return float(pushed(float(np.exp(end)))[0].mean())


def _pushed_share(right: np.ndarray, n: np.ndarray, push: float) -> tuple[np.ndarray, np.ndarray]:
    """See `Pushed`: p solves right − n·p = push · p(1 − p)."""
    total = n + push
    p = np.minimum(2 * right / (total + np.sqrt(np.maximum(total**2 - 4 * push * right, 0))), 1)
    return p, p * (1 - p)


def _pushed_difference(
    better: np.ndarray, worse: np.ndarray, n: np.ndarray, push: float
) -> tuple[np.ndarray, np.ndarray]:
    """See `Pushed`; of shares p and q of rows that only one model got right, and a rest that both or neither did.

    p = better / (t + push), q = worse / (t − push) and rest / t sum to one: t is the largest root of a cubic, and not
    below `push`, where q becomes free.
    """
    same = n - better - worse
    a, b, c = -n, push * (better - worse) - push**2, same * push**2
    third, turned = (b - a**2 / 3) / 3, (2 * a**3 / 27 - a * b / 3 + c) / 2
    size = np.sqrt(np.maximum(-third, 0))
    angle = np.arccos(np.clip(-turned / np.maximum(size**3, TINY), -1, 1))
    t = np.maximum(2 * size * np.cos(angle / 3) - a / 3, push)
    p = better / (t + push)
    q = np.clip(1 - p - same / np.maximum(t, TINY), 0, 1)
    return p - q, p + q - (p - q) ** 2
