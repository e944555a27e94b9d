"""Linear classifiers at the minimum of scikit-learn's losses, by the path that suits the number of rows."""

from typing import Any

import numpy as np
from sklearn.base import clone

from classify.classical.answering import Linear
from classify.classical.calibration import Calibrate, Tempered
from classify.classical.coupling import own_temperature
from classify.classical.crossfit import fit_by_passes
from classify.classical.descent import Descent
from classify.classical.span import SpanRotation
from classify.classical.workers import passes_over
from classify.rows import row_chunks, shape, unit_rows


class SpanLinear(Tempered):
    """A scikit-learn linear classifier on rows scaled to unit length, exact and fast.

    Equal, but for rounding, to `make_pipeline(Normalizer(), estimator.set_params(C=c / spread)).fit(X, y)`. With fewer
    rows than columns it is fitted on the coordinates of the rows in their span (see `SpanRotation`), then mapped back.
    On the path `passes` it reads the rows again and again (see `Descent`), until its scores settle.

    Args:
        estimator: LogisticRegression, LinearSVC or, but for `passes`, another with `C`, an L2 penalty, `coef_` and
            `intercept_`.
        c: inverse penalty at unit spread. C = c / spread, where spread is the mean squared distance of the unit rows to
            their mean: features that hardly differ need a larger C, so one default fits every backbone.
        path: `span`, `primal` or `passes`; by default `span` for fewer rows than columns, else `primal`.

    Attributes:
        C_: the C that was used.
        model_: the fitted scikit-learn estimator over the full width; takes rows scaled to unit length.
        temperature_: T of the probabilities softmax(decision / T) where `model_` gives none itself, fitted on
            out-of-fold decisions; None where a class is too small for folds.
        path_: the path that was taken.
        classes_: class labels.

    Example:
        SpanLinear(LogisticRegression(), c=20).fit(train.X, train.y).score(test.X, test.y)
    """

    def __init__(self, estimator: Any = None, c: float = 20.0, path: str | None = None) -> None:
        self.estimator = estimator
        self.c = c
        self.path = path

    walked = "c"
    FOUND = ("C_",)

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray | None, calibrate: Calibrate) -> None:
        self.path_ = self._path(X)
        rotation = SpanRotation().fit(X, products=products) if self.path_ == "span" else None
        scale = self.scale(X, products)
        space: Any = self.space(X, codes, products, scale) if rotation is None else rotation.Z_
        estimator = self.plain(scale)
        self.C_ = estimator.C
        found = calibrate(estimator, space, self.find_temperature)
        if not gives_probabilities(estimator):
            self.temperature_ = found
        self.model_ = fit_by_passes(estimator, space) if self.path_ == "passes" else estimator.fit(space, codes)
        if rotation is not None:
            self.model_.coef_ = rotation.to_width(X, self.model_.coef_)
            self.model_.n_features_in_ = self.n_features_in_

    def wants_products(self, X: Any) -> bool:
        """Whether it is fitted through inner products: in the rows' span."""
        return self._path(X) == "span"

    def _path(self, X: Any) -> str:
        rows, width = shape(X)
        return self.path or ("span" if rows < width else "primal")

    def find_temperature(self, decisions: np.ndarray, y: np.ndarray) -> float:
        """See `Tempered`; logistic regression's own probabilities need no search for one."""
        if gives_probabilities(self.plain(1.0)):
            return own_temperature(1 if decisions.ndim == 1 else decisions.shape[1])
        return super().find_temperature(decisions, y)

    def plain(self, scale: float) -> Any:
        """The estimator itself, unfitted, with the C that it has at a spread of `scale`."""
        estimator = _default_estimator() if self.estimator is None else clone(self.estimator)
        return estimator.set_params(C=self.c / scale)

    def space(self, X: Any, codes: np.ndarray, products: np.ndarray | None, scale: float) -> Any:
        """(n, r) float64 rows for the estimator itself: coordinates in their span, or as they are; or a `Descent`."""
        path = self._path(X)
        if path == "passes":
            return Descent(passes_over(X, codes))
        return SpanRotation().fit_transform(X, products=products) if path == "span" else _unit_matrix(X)

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
