"""The losses of linear models on one block of rows: their sum, their slope, and how they curve."""

from typing import Any, Protocol

import numpy as np
from sklearn.linear_model import LogisticRegression

NEARLY = 0.01  # share of the rows that counts as beyond the margin at least: others soon are, where classes lie apart


class Loss(Protocol):
    """A loss of scores (m, k), one column a class; of two classes one column, positive for the second.

    Attributes:
        penalises_intercept: whether the intercept counts as the coefficient of a column of ones.
    """

    penalises_intercept: bool

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
        """The sum of the loss; its slope in each score takes the scores' place.

        Args:
            scores: (m, k) float64, overwritten.
            codes: (m,) int64 classes.
            weights: (m,) float32, how much each row counts.
        """

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The sum of the second derivatives by the scores, (k, k) float64; the scores are overwritten."""


class Softmax:
    """Cross-entropy of three or more classes, `LogisticRegression`'s."""

    penalises_intercept = False

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
        """See `Loss`."""
        rows = np.arange(len(codes))
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[rows, codes].copy()
        losses = np.log(_softmax(scores)) - own
        scores[rows, codes] -= 1
        scores *= weights[:, None]
        return float(losses @ weights)

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Loss`."""
        scores -= scores.max(axis=1, keepdims=True)
        _softmax(scores)
        counted = scores * weights[:, None]
        return np.diag(counted.sum(axis=0, dtype=np.float64)) - (counted.T @ scores).astype(np.float64)


class Logistic:
    """Logistic loss of two classes, `LogisticRegression`'s."""

    penalises_intercept = False

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
        """See `Loss`."""
        away = np.where(codes == 1, -1.0, 1.0)
        against = away * scores[:, 0]
        scores[:, 0] = away * _sigmoid(against) * weights
        return float(np.logaddexp(0, against) @ weights)

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Loss`."""
        share = _sigmoid(scores[:, 0].astype(np.float64))
        return np.array([[float((share * (1 - share)) @ weights)]])


class SquaredHinge:
    """Squared hinge of each class against the rest, `LinearSVC`'s.

    As in liblinear, weights of three or more classes count where a class is told from the rest, and not in the rest.
    """

    penalises_intercept = True

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
        """See `Loss`."""
        beyond = _beyond_margin(scores, codes)
        np.multiply(beyond, 2 * self._counts(codes, weights, scores.shape[1]), out=scores)
        return 0.5 * float(np.einsum("ij,ij->", beyond, scores, dtype=np.float64))

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Loss`."""
        counts = np.broadcast_to(self._counts(codes, weights, scores.shape[1]), scores.shape)
        beyond = np.sum(counts, axis=0, dtype=np.float64, where=_beyond_margin(scores, codes) != 0)
        return np.diag(2 * np.maximum(beyond, NEARLY * counts.sum(axis=0, dtype=np.float64)))

    def _counts(self, codes: np.ndarray, weights: np.ndarray, columns: int) -> np.ndarray:
        if columns == 1:
            return weights[:, None]
        counts = np.repeat((weights > 0).astype(np.float32)[:, None], columns, axis=1)
        counts[np.arange(len(codes)), codes] = weights
        return counts


def loss_of(estimator: Any, classes: int) -> Loss:
    """What scikit-learn's `LogisticRegression` or `LinearSVC` minimises."""
    if isinstance(estimator, LogisticRegression):
        return Softmax() if classes > 2 else Logistic()
    return SquaredHinge()


def columns(classes: int) -> int:
    """How many scores a row has: one a class, and one alone for two."""
    return classes if classes > 2 else 1


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax in place of scores (m, k) whose largest is 0; the sums (m,) of their exponentials."""
    np.exp(scores, out=scores)
    total: np.ndarray = scores.sum(axis=1)
    scores /= total[:, None]
    return total


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _beyond_margin(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """How far each score is on the wrong side of its margin, (m, k): below 0 for the row's own class, else above."""
    rows, own = np.arange(len(codes)), codes
    if scores.shape[1] == 1:
        rows, own = np.flatnonzero(codes == 1), np.zeros(int((codes == 1).sum()), int)
    beyond: np.ndarray = np.maximum(scores + 1, 0)
    beyond[rows, own] = np.minimum(scores[rows, own] - 1, 0)
    return beyond
