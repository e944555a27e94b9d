"""Probabilities of a one-against-one classifier: a sigmoid for each pair of classes, coupled over all pairs."""

import math

import numpy as np

from classify.classical.calibration import doubt

PIECE = 1 << 22  # numbers: rows are coupled so many pairs of classes at a time, 32 MB


def pair_temperature(decisions: np.ndarray, y: np.ndarray) -> float:
    """T that makes the sigmoids σ(decision / T) of all pairs likeliest, on rows that the models had not seen.

    One T for all pairs, and no offset: a sigmoid of its own for each pair (Platt) has too few rows to learn from.

    Args:
        decisions: (m, k(k−1)/2), positive for the first class of a pair; pairs (0, 1), (0, 2), … as libsvm has them.
        y: (m,) int64 class indices 0…k−1.
    """
    from scipy.optimize import minimize_scalar

    count = round((1 + math.sqrt(1 + 8 * decisions.shape[1])) / 2)
    first, second = np.triu_indices(count, 1)
    place, sign = np.zeros((count, count), int), np.zeros((count, count))
    place[first, second] = place[second, first] = np.arange(len(first))
    sign[first, second], sign[second, first] = 1, -1
    margins = np.take_along_axis(decisions, place[y], axis=1) * sign[y]  # of the true class, over each other
    margins = margins[sign[y] != 0]
    wrong = doubt(len(y))

    def loss(log_inverse: float) -> float:
        scaled = np.exp(log_inverse) * margins
        return float(((1 - wrong) * np.logaddexp(0, -scaled) + wrong * np.logaddexp(0, scaled)).mean())

    return float(np.exp(-minimize_scalar(loss, bounds=(-10, 10), options={"xatol": 1e-10}).x))


def coupled(pairs: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """(m, k) float64 probabilities that fit the pairs' best (Wu, Lin & Weng, JMLR 2004, their second method).

    They minimise the sum over pairs of (r_ji·p_i − r_ij·p_j)², where r_ij is the probability of class i among i and j.
    The pairs' votes decide the label. Where another class comes out likelier, a row in a hundred or so, the two
    probabilities change places.

    Args:
        pairs: (m, k(k−1)/2) probability of the first class of each pair.
        labels: (m,) int64 class indices that the votes chose.
        count: k.
    """
    step = max(1, PIECE // count**2)
    starts = range(0, len(pairs), step)
    found = np.concatenate([np.empty((0, count)), *(_minimum(pairs[start : start + step], count) for start in starts)])
    rows, likeliest = np.arange(len(found)), found.argmax(axis=1)
    found[rows, labels], found[rows, likeliest] = found[rows, likeliest], found[rows, labels]
    return found


def _minimum(pairs: np.ndarray, count: int) -> np.ndarray:
    """The probabilities of a few rows, from the linear system that the minimum under Σp = 1 solves."""
    first, second = np.triu_indices(count, 1)
    r = np.zeros((len(pairs), count, count))
    r[:, first, second], r[:, second, first] = pairs, 1 - pairs
    system = np.zeros((len(pairs), count + 1, count + 1))
    system[:, :count, :count] = -r * r.transpose(0, 2, 1)
    diagonal = np.arange(count)
    system[:, diagonal, diagonal] = (r**2).sum(axis=1)
    system[:, :count, count] = system[:, count, :count] = 1
    right = np.zeros((len(pairs), count + 1, 1))
    right[:, count] = 1
    found = np.linalg.solve(system, right)[:, :count, 0].clip(np.finfo(float).tiny)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
