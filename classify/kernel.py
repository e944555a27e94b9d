"""The RBF support vector machine on wide rows, through one matrix of inner products."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.calibration import fit_calibrated, require_calibrated
from classify.folds import source_groups
from classify.gram import spread, squared_distances, unit_products
from classify.rows import row_chunks, shape
from features import Stack


class KernelSVC(ClassifierMixin, BaseEstimator):
    """RBF SVM on rows scaled to unit length, through a precomputed kernel.

    Equal, but for rounding, to `make_pipeline(Normalizer(), SVC(C=C, gamma=gamma / spread)).fit(X, y)`, which on wide
    rows spends minutes computing the same inner products again and again.

    Args:
        C: inverse penalty.
        gamma: γ at unit spread: γ = gamma / spread, where spread is the mean squared distance of the unit rows to their
            mean, so that one default fits every backbone. 0.5 makes γ about one over the median squared distance.

    Attributes:
        gamma_: the γ that was used.
        svc_: the fitted scikit-learn SVC with its precomputed kernel.
        calibrated_: a `CalibratedClassifierCV` around it, one temperature fitted on out-of-fold decisions, for the
            probabilities; None where a class is too small for folds.
        support_rows_: (support vectors, d) rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.
    """

    def __init__(self, C: float = 10.0, gamma: float = 0.5) -> None:
        self.C = C
        self.gamma = gamma

    def fit(self, X: Any, y: np.ndarray, products: np.ndarray | None = None) -> Self:
        """Fit to rows.

        Args:
            X: (n, d) array, memmap or `Stack`.
            y: (n,) labels.
            products: (n, n) `unit_products` of X, if known.
        """
        if not isinstance(X, Stack):
            X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_features_in_ = shape(X)[1]
        products = unit_products(X) if products is None else products
        self.gamma_ = self.gamma / (spread(products) or 1.0)
        squares = np.diag(products)
        kernel = np.exp(-self.gamma_ * squared_distances(products, squares, squares))
        svc = SVC(C=self.C, kernel="precomputed")
        self.svc_, self.calibrated_ = fit_calibrated(svc, kernel, codes, source_groups(X))
        support = self.svc_.support_
        self.support_rows_ = X.take(support) if isinstance(X, Stack) else X[support]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(m,) labels of rows (m, d)."""
        codes = self._svc().predict(self._kernel(X))
        return self.classes_[codes]

    def decision_function(self, X: Any) -> np.ndarray:
        """(m,) or (m, classes) distances."""
        return np.asarray(self._svc().decision_function(self._kernel(X)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one; the largest is `predict`'s class but where one-to-one votes tie."""
        require_calibrated(self)
        return np.asarray(self.calibrated_.predict_proba(self._kernel(X)))

    def _svc(self) -> SVC:
        check_is_fitted(self)
        return self.svc_

    def _kernel(self, X: Any) -> np.ndarray:
        """Kernel of rows X with the training rows, (m, n); zero, and unused, at those that support nothing."""
        if not isinstance(X, Stack):
            X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        products = unit_products(X, self.support_rows_)
        distances = squared_distances(products, _is_row(X), _is_row(self.support_rows_))
        kernel = np.zeros((len(products), self.svc_.shape_fit_[0]))
        kernel[:, self.svc_.support_] = np.exp(-self.gamma_ * distances)
        return kernel


def _is_row(X: Any) -> np.ndarray:
    """Squared lengths of unit rows, (n,) float64: 1, or 0 where a row is all zeros and has no direction."""
    return np.concatenate([piece.any(axis=1) for piece in row_chunks(X)]).astype(np.float64)
