"""The RBF support vector machine on wide rows, through one matrix of inner products."""

from copy import copy
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.svm import SVC

from classify.classical.calibration import NONE, Calibrate, NoProbabilities, Tempered, temperature, tempered
from classify.classical.coupling import coupled, pair_temperature
from classify.classical.span import spread, squared_distances, unit_products
from classify.rows import row_chunks, taken

ROWS = 256  # of a kernel that are computed together


class KernelSVC(Tempered):
    """RBF SVM on rows scaled to unit length, through a precomputed kernel.

    Equal, but for rounding, to `make_pipeline(Normalizer(), SVC(C=C, gamma=gamma / spread)).fit(X, y)`, which on wide
    rows spends minutes computing the same inner products again and again.

    Args:
        C: inverse penalty.
        gamma: γ at unit spread: γ = gamma / spread, where spread is the mean squared distance of the unit rows to their
            mean, so that one default fits every backbone. 0.5 makes γ about one over the median squared distance.
        class_weight: None or `balanced`, see scikit-learn's SVC.

    Attributes:
        gamma_: the γ that was used.
        model_: the fitted scikit-learn SVC with its precomputed kernel.
        temperature_: T of the sigmoids σ(decision / T) of all pairs of classes, fitted on out-of-fold decisions and
            coupled; None where a class is too small for folds.
        support_rows_: (support vectors, d) rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.
    """

    walked = "C"
    FOUND = ("gamma_",)

    def __init__(self, C: float = 10.0, gamma: float = 0.5, class_weight: str | None = None) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray, calibrate: Calibrate) -> None:
        self.gamma_ = self.gamma / self.scale(X, products)
        kernel, svc = self.space(X, products), self.plain(1.0)
        self.coupled_ = len(self.classes_) > 2
        self.temperature_ = calibrate(svc, kernel, pair_temperature if self.coupled_ else temperature)
        self.model_ = svc.set_params(decision_function_shape="ovr").fit(kernel, codes)
        self.support_rows_ = taken(X, self.model_.support_)

    def wants_products(self, X: Any) -> bool:
        """Always: its kernel is made of them."""
        return True

    def plain(self, scale: float) -> SVC:
        """scikit-learn's SVC, unfitted, on a kernel, with a decision for each pair of classes; its C needs no scale."""
        how = {"class_weight": self.class_weight, "decision_function_shape": "ovo"}
        return SVC(C=self.C, kernel="precomputed", **how)

    def scale(self, X: Any, products: np.ndarray) -> float:
        """Spread of X's rows, from their products; 1 where all rows are one."""
        return spread(products) or 1.0

    def space(self, X: Any, products: np.ndarray) -> np.ndarray:
        """(n, n) float64 kernel of X's rows, from their products."""
        squares = np.diag(products)
        return rbf(products, squares, squares, self.gamma / self.scale(X, products))

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels (m,) and decisions (m,) or (m, classes) of rows (m, d), from one kernel.

        The largest decision is the label's but where one-to-one votes tie.
        """
        kernel = self._kernel(self._checked(X))
        return self.classes_[self.model_.predict(kernel)], np.asarray(self.model_.decision_function(kernel))

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one."""
        proba = self.answer(X)[1]
        if proba is None:
            raise NoProbabilities(NONE)
        return proba

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels (m,) and probabilities (m, classes), None where there are none, from one look at the rows."""
        kernel = self._kernel(self._checked(X))
        codes = self.model_.predict(kernel)
        labels = self.classes_[codes]
        if self.temperature_ is None:
            return labels, None
        if not getattr(self, "coupled_", False):  # two classes, or saved before pairs were coupled
            return labels, tempered(self, np.asarray(self.model_.decision_function(kernel)))
        pairs = copy(self.model_).set_params(decision_function_shape="ovo").decision_function(kernel)
        return labels, coupled(expit(pairs / self.temperature_), codes, len(self.classes_))

    def _kernel(self, X: Any) -> np.ndarray:
        """Kernel of rows X with the training rows, (m, n); zero, and unused, at those that support nothing."""
        products = unit_products(X, self.support_rows_)
        kernel = np.zeros((len(products), self.model_.shape_fit_[0]))
        kernel[:, self.model_.support_] = rbf(products, _is_row(X), _is_row(self.support_rows_), self.gamma_)
        return kernel


def rbf(products: np.ndarray, squares_x: np.ndarray, squares_y: np.ndarray, gamma: float) -> np.ndarray:
    """exp(−γ·|x − y|²) of all pairs, (n, m) float64, from inner products (n, m) and squared lengths (n,) and (m,)."""
    kernel = np.empty_like(products)
    for start in range(0, len(products), ROWS):  # in pieces, so that no second matrix of this size is ever held
        rows = slice(start, start + ROWS)
        kernel[rows] = np.exp(-gamma * squared_distances(products[rows], squares_x[rows], squares_y))
    return kernel


def _is_row(X: Any) -> np.ndarray:
    """Squared lengths of unit rows, (n,) float64: 1, or 0 where a row is all zeros and has no direction."""
    return np.concatenate([piece.any(axis=1) for piece in row_chunks(X)]).astype(np.float64)
