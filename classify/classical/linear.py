"""Linear classifiers on wide rows, fitted in the rows' own span."""

from typing import Any

import numpy as np
from sklearn.base import clone

from classify.classical.answering import Linear
from classify.classical.calibration import Calibrate, Tempered
from classify.classical.products import spread
from classify.classical.span import SpanRotation
from classify.rows import row_chunks, shape, unit_centre, unit_rows


class SpanLinear(Tempered):
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
        temperature_: T of the probabilities softmax(decision / T) where `model_` gives none itself, fitted on
            out-of-fold decisions; None where a class is too small for folds.
        path_: `span` or `primal`.
        classes_: class labels.

    Example:
        SpanLinear(LogisticRegression(), c=20).fit(train.X, train.y).score(test.X, test.y)
    """

    def __init__(self, estimator: Any = None, c: float = 20.0) -> None:
        self.estimator = estimator
        self.c = c

    walked = "c"
    FOUND = ("C_",)

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray | None, calibrate: Calibrate) -> None:
        rotation = SpanRotation().fit(X, products=products) if self.wants_products(X) else None
        space = _unit_matrix(X) if rotation is None else rotation.Z_
        self.path_ = "primal" if rotation is None else "span"
        estimator = self.plain(self.scale(X, products))
        self.C_ = estimator.C
        if not gives_probabilities(estimator):
            self.temperature_ = calibrate(estimator, space)
        self.model_ = estimator.fit(space, codes)
        if rotation is not None:
            self.model_.coef_ = rotation.to_width(X, self.model_.coef_)
            self.model_.n_features_in_ = self.n_features_in_

    def wants_products(self, X: Any) -> bool:
        """Whether it is fitted through inner products: where there are fewer rows than columns."""
        rows, width = shape(X)
        return rows < width

    def plain(self, scale: float) -> Any:
        """The estimator itself, unfitted, with the C that it has at a spread of `scale`."""
        estimator = _default_estimator() if self.estimator is None else clone(self.estimator)
        return estimator.set_params(C=self.c / scale)

    def scale(self, X: Any, products: np.ndarray | None) -> float:
        """Spread of X's rows, from their products where they are known; 1 where all rows are one."""
        return (spread(products) if products is not None else unit_centre(X)[1]) or 1.0

    def space(self, X: Any, products: np.ndarray | None) -> np.ndarray:
        """(n, r) float64 rows for the estimator itself: coordinates in their span, or as they are if not wide."""
        return SpanRotation().fit_transform(X, products=products) if self.wants_products(X) else _unit_matrix(X)

    @property
    def answering(self) -> Linear:
        """See `Tempered`."""
        return Linear.of(self)


def gives_probabilities(estimator: Any) -> bool:
    """Whether a scikit-learn classifier has probabilities of its own, by scikit-learn's own sign for it."""
    return hasattr(estimator, "predict_proba")


def _unit_matrix(X: Any) -> np.ndarray:
    """(n, d) float64 rows of unit length, filled in pieces."""
    matrix = np.empty(shape(X))
    row = 0
    for piece in row_chunks(X):
        matrix[row : row + len(piece)] = unit_rows(piece)
        row += len(piece)
    return matrix


def _default_estimator() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="newton-cg", max_iter=1000)
