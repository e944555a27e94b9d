"""Probabilities from decisions: a softmax of them, or those of each pair of classes, coupled over all pairs."""

import numpy as np

PIECE = 1 << 22  # numbers: rows are coupled so many pairs of classes at a time, 32 MB


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


def from_pairs(pairs: np.ndarray, labels: np.ndarray, count: int, temperature: float) -> np.ndarray:
    """`coupled` probabilities from decisions (m, k(k−1)/2) of all pairs: their sigmoids are σ(decision / T)."""
    return coupled(1 / (1 + np.exp(-np.clip(pairs / temperature, -700, 700))), labels, count)


def own_temperature(columns: int) -> float:
    """T of logistic regression's probabilities: 1, and 2 for two classes, as σ(d) is softmax(±d / 2)."""
    return 1.0 if columns > 1 else 2.0


def tempered(decisions: np.ndarray, temperature: float | None) -> np.ndarray | None:
    """(m, classes) float64 softmax(decision / T); None without a T."""
    if temperature is None:
        return None
    scores = logits(decisions) / temperature
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def logits(decisions: np.ndarray) -> np.ndarray:
    """(m, classes) scores. For two classes, whose decision is one number, minus and plus that number."""
    return decisions if decisions.ndim == 2 else np.column_stack([-decisions, decisions])
