"""The nearest neighbours by cosine: the plainest yardstick of frozen features, with nothing fitted but one number."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags

from classify.classical.calibration import Calibrate, Tempered
from classify.classical.span import unit_products


class CosineNeighbours(Tempered):
    """The k nearest train rows by cosine vote on the class, each with one vote.

    Labels equal those of `KNeighborsClassifier(k, metric="cosine", algorithm="brute")` but for rounding, where two rows
    are equally near. Of classes with as many votes the first wins. Cosines come from the inner products that the other
    classifiers share, so k is searched without another look at the rows.

    Args:
        k: number of neighbours; all of them where there are fewer.
        balance: whether a vote counts for as much more as its class has fewer rows.

    Attributes:
        codes_: (n,) int64 classes of the train rows, as indices of `classes_`.
        temperature_: T of the probabilities softmax(share of votes / T), fitted on rows held out; None where a class is
            too small for folds.
        support_rows_: (n, d) the train rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.

    Example:
        CosineNeighbours(k=20).fit(train, train.y).predict(test)
    """

    walked = "k"

    def __init__(self, k: int = 20, balance: bool = False) -> None:
        self.k = k
        self.balance = balance

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray, calibrate: Calibrate) -> None:
        self.codes_, self.support_rows_ = codes, X
        self.temperature_ = calibrate(self.plain(1.0), products)

    def wants_products(self, X: Any) -> bool:
        """Always: they are all it asks of rows."""
        return True

    def plain(self, scale: float) -> "Votes":
        """The vote on cosines themselves, unfitted."""
        return Votes(self.k, self.balance)

    def scale(self, X: Any, products: np.ndarray) -> float:
        """1: cosines have no scale."""
        return 1.0

    def space(self, X: Any, products: np.ndarray) -> np.ndarray:
        """(n, n) float64 cosines of the train rows with each other."""
        return products

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels (m,) and decisions of rows (m, d), see `Votes`."""
        cosines = unit_products(self._checked(X), self.support_rows_)
        votes = self.plain(1.0).fit(cosines, self.codes_)
        return self.classes_[votes.predict(cosines)], votes.decision_function(cosines)


class Votes(ClassifierMixin, BaseEstimator):
    """`CosineNeighbours` on known cosines: (m, n) of m rows with the n train rows.

    Args:
        k, balance: see `CosineNeighbours`.
    """

    def __init__(self, k: int = 20, balance: bool = False) -> None:
        self.k = k
        self.balance = balance

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Remember the classes (n,) of the train rows; X is not looked at."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.votes_ = np.eye(len(self.classes_))[codes]
        if self.balance:
            self.votes_ /= np.bincount(codes)
        return self

    def shares(self, X: np.ndarray) -> np.ndarray:
        """(m, classes) float64 shares of the votes, each row sums to one."""
        k = min(self.k, X.shape[1])
        nearest = np.argpartition(-X, k - 1, axis=1)[:, :k]
        votes = self.votes_[nearest].sum(axis=1)
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(m, classes) shares of the votes; with two classes (m,), by how much the second has the greater share."""
        shares = self.shares(X)
        return shares[:, 1] - shares[:, 0] if shares.shape[1] == 2 else shares

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(m,) labels."""
        return np.asarray(self.classes_[self.shares(X).argmax(axis=1)])

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's sign that rows are taken out of X on both sides."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        return tags
