"""The nearest neighbours by cosine: the plainest yardstick of frozen features, with nothing fitted but one number."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags

from classify.classical.answering import Neighbours
from classify.classical.calibration import Calibrate, Tempered, temperature
from classify.classical.crossfit import HeldOut
from classify.classical.votes import MOST, Ballots, most_alike, usual
from classify.folds import folds
from classify.rows import taken
from features.runtime.log import log

CALIBRATED = 2000  # rows held out at most


class CosineNeighbours(Tempered):
    """The k nearest train rows by cosine vote on the class, each with one vote.

    Labels equal those of `KNeighborsClassifier(k, metric="cosine", algorithm="brute")` but for rounding, where two rows
    are equally near. Of classes with as many votes the first wins. Cosines come from the inner products that the other
    classifiers share, so k is searched without another look at the rows.

    Args:
        k: number of neighbours; all of them where there are fewer. By default `usual`: 20, or fewer of small classes.
        balance: whether a vote counts for as much more as its class has fewer rows.
        path: `kernel`, the default, or `blocks`, which calibrates on some of the rows held out, found in blocks.

    Attributes:
        k_: the number that is asked.
        codes_: (n,) int64 classes of the train rows, as indices of `classes_`.
        temperature_: T of the probabilities softmax(share of votes / T), fitted on rows held out; None where a class is
            too small for folds.
        support_rows_: (n, d) the train rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.

    Example:
        CosineNeighbours(k=20).fit(train, train.y).predict(test)
    """

    walked = "k"
    FOUND = ("k_",)

    def __init__(self, k: int | None = None, balance: bool = False, path: str | None = None) -> None:
        self.k = k
        self.balance = balance
        self.path = path

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray | None, calibrate: Calibrate) -> None:
        self.codes_, self.support_rows_ = codes, X
        self.k_ = self.k or self.left_open(codes)["k"]
        if self.k is None and self.k_ < MOST:
            log.info(f"neighbours: {self.k_} instead of {MOST}, half as many as a usual class has images")
        if products is not None:
            self.temperature_ = calibrate(Votes(self.k_, self.balance), products)
            return
        splits = folds(X, codes)
        self.temperature_ = None
        if splits:
            train, held = splits[0]
            some = held[np.linspace(0, len(held) - 1, min(len(held), CALIBRATED)).astype(int)]
            votes = Ballots.of(codes[train], self.balance)
            asked = Neighbours(taken(X, train), votes, self.k_, self.classes_, None)
            known = HeldOut(some, *asked.decide(taken(X, some)), [len(some)], True)
            self.temperature_ = self._calibrated(known, codes, temperature)

    def left_open(self, codes: np.ndarray) -> dict[str, int]:
        """See `Tempered`."""
        return {} if self.k else {"k": usual(codes)}

    def wants_products(self, X: Any) -> bool:
        """Whether they are taken, from which a search and the calibration have all they ask of rows."""
        return self.path != "blocks"

    def plain(self, scale: float) -> "Votes":
        """The vote on cosines themselves, unfitted."""
        return Votes(self.k, self.balance)

    def scale(self, X: Any, products: np.ndarray | None) -> float:
        """1: cosines have no scale."""
        return 1.0

    def space(self, X: Any, codes: np.ndarray, products: np.ndarray, scale: float) -> np.ndarray:
        """(n, n) float64 cosines of the train rows with each other."""
        return products

    @property
    def answering(self) -> Neighbours:
        """See `Tempered`."""
        return Neighbours.of(self)


class Votes(ClassifierMixin, BaseEstimator):
    """`CosineNeighbours` on known cosines: (m, n) of m rows with the n train rows.

    Args:
        k, balance: see `CosineNeighbours`.
    """

    def __init__(self, k: int | None = None, balance: bool = False) -> None:
        self.k = k
        self.balance = balance

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Remember the classes (n,) of the train rows; X is not looked at."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.votes_, self.k_ = Ballots.of(codes, self.balance), self.k or usual(codes)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(m, classes) shares of the votes; with two classes (m,), by how much the second has the greater share."""
        found = self.votes_.shares(most_alike(X, self.k_))
        return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(m,) labels."""
        return np.asarray(self.classes_[self.votes_.shares(most_alike(X, self.k_)).argmax(axis=1)])

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's sign that rows are taken out of X on both sides."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        return tags
