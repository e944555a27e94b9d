"""Linear classifiers on wide rows, fitted in the rows' own span."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.calibration import fit_calibrated, require_calibrated
from classify.folds import source_groups
from classify.gram import spread, unit_products
from classify.rows import row_chunks, shape, unit_centre, unit_rows
from classify.span import SpanRotation
from features import Stack


class SpanLinear(ClassifierMixin, BaseEstimator):
    """A scikit-learn linear classifier on rows scaled to unit length, exact and fast when rows are wide.

    Equal, but for rounding, to `make_pipeline(Normalizer(), estimator.set_params(C=c / spread)).fit(X, y)`. With fewer
    rows than columns it is fitted on the coordinates of the rows in their span (see `SpanRotation`), then mapped back.

    Args:
        estimator: LogisticRegression, LinearSVC or another with `C`, an L2 penalty, `coef_` and `intercept_`.
        c: inverse penalty at unit spread. C = c / spread, where spread is the mean squared distance of the unit rows to
            their mean: features that hardly differ need a larger C, so one default fits every backbone.

    Attributes:
        C_: the C that was used.
        model_: the fitted scikit-learn estimator over the full width; takes rows scaled to unit length.
        calibrated_: gives the probabilities: `model_` itself where it has some, else a `CalibratedClassifierCV` around
            it, one temperature fitted on out-of-fold decisions; None where a class is too small for folds.
        classes_: class labels.

    Example:
        SpanLinear(LogisticRegression(), c=20).fit(train.X, train.y).score(test.X, test.y)
    """

    def __init__(self, estimator: Any = None, c: float = 20.0) -> None:
        self.estimator = estimator
        self.c = c

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
        rows, width = shape(X)
        self.n_features_in_ = width
        wide = rows < width
        if wide:
            products = unit_products(X) if products is None else products
            rotation = SpanRotation().fit(X, products=products)
            Z, scale = rotation.Z_, spread(products)
        else:
            Z = np.concatenate([unit_rows(piece).astype(np.float64) for piece in row_chunks(X)])
            scale = unit_centre(X)[1]
        self.C_ = self.c / (scale or 1.0)
        estimator = _default_estimator() if self.estimator is None else clone(self.estimator)
        estimator.set_params(C=self.C_)
        if hasattr(estimator, "predict_proba"):
            self.model_ = self.calibrated_ = estimator.fit(Z, codes)
        else:
            self.model_, self.calibrated_ = fit_calibrated(estimator, Z, codes, source_groups(X))
        if wide:
            self.model_.coef_ = rotation.to_width(X, self.model_.coef_)
            self.model_.n_features_in_ = width
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(m,) labels of rows (m, d)."""
        codes = [self.model_.predict(piece) for piece in self._unit_pieces(X)]
        return self.classes_[np.concatenate(codes)]

    def decision_function(self, X: Any) -> np.ndarray:
        """(m,) or (m, classes) signed distances."""
        return np.concatenate([self.model_.decision_function(piece) for piece in self._unit_pieces(X)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one; the largest is the predicted class's."""
        require_calibrated(self)
        return np.concatenate([self.calibrated_.predict_proba(piece) for piece in self._unit_pieces(X)])

    def _unit_pieces(self, X: Any) -> Any:
        check_is_fitted(self)
        if not isinstance(X, Stack):
            X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return (unit_rows(piece) for piece in row_chunks(X))


def _default_estimator() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="newton-cg", max_iter=1000)
