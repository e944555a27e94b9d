"""Linear classifiers on more rows than memory holds in any form: stochastic gradients over the memory map."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from classify.classical.calibration import temperature
from classify.classical.linear import SpanLinear, gives_probabilities
from classify.folds import folds
from classify.rows import batches, row_chunks, shape, unit_rows
from features.layout import CHUNK_BYTES

EPOCHS = 10
STEPS = 20_000  # rows to see at least, however few there are


class OutOfCore(SpanLinear):
    """scikit-learn's averaged SGD on rows scaled to unit length: a linear model nearly at its minimum.

    Reads blocks of rows in random order, ten times over at least (and as often for one fold, on whose held-out rows the
    temperature is fitted), and holds 256 MB of them at a time. Classes are fitted one against the rest.

    Args:
        estimator: an SGDClassifier; its `alpha` is set to 1 / (C · n), and class_weight may be `balanced`.
        c: see `SpanLinear`. With the plain hinge, not `LinearSVC`'s squared one, on which SGD's steps blow up: with
            180 rows of digits 25 to 63 % were right, with the hinge 73 to 77 %, with `LinearSVC` 75 %.
    """

    def fit(self, X: Any, y: np.ndarray) -> Self:  # type: ignore[override]
        """Fit to rows (n, d) of an array or a `Stack`, labels (n,)."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_features_in_ = shape(X)[1]
        self.path_ = "out of core"
        self.C_ = self.c / self.scale(X, None)
        self.temperature_ = None
        splits = folds(X, codes)
        if splits and not gives_probabilities(self.estimator):
            train, held = splits[0]
            probe = self._descend(X, codes, train)
            rows = X[held] if isinstance(X, np.ndarray) else X.take(held)
            decisions = np.concatenate([probe.decision_function(unit_rows(piece)) for piece in row_chunks(rows)])
            self.temperature_ = temperature(decisions, codes[held])
        self.model_ = self._descend(X, codes, np.arange(len(codes)))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one; scikit-learn's own where SGD's loss has them."""
        X = self._checked(X)
        if not gives_probabilities(self.model_):
            return super().predict_proba(X)
        return np.concatenate([self.model_.predict_proba(unit_rows(piece)) for piece in row_chunks(X)])

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels (m,) and probabilities (m, classes), None where there are none."""
        known = gives_probabilities(self.model_) or self.temperature_ is not None
        return self.predict(X), self.predict_proba(X) if known else None

    def _descend(self, X: Any, y: np.ndarray, rows: np.ndarray) -> Any:
        model = clone(self.estimator).set_params(alpha=1 / (self.C_ * len(rows)))
        classes = np.unique(y)
        if model.class_weight == "balanced":  # which takes all rows to know
            weights = compute_class_weight("balanced", classes=classes, y=y[rows])
            model.set_params(class_weight=dict(zip(classes.tolist(), weights.tolist(), strict=True)))
        rng = np.random.default_rng(model.random_state)
        for _ in range(max(EPOCHS, STEPS // len(rows))):
            for inputs, targets in _larger(batches(X, y, rows, rng)):
                model.partial_fit(unit_rows(inputs).astype(np.float64), targets, classes)
        return model


def _larger(pieces: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same rows in the same order, 32 MB at a time: each call of `partial_fit` costs milliseconds."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for piece in pieces:
        held.append(piece)
        if sum(inputs.nbytes for inputs, _ in held) >= CHUNK_BYTES:
            yield np.concatenate([inputs for inputs, _ in held]), np.concatenate([targets for _, targets in held])
            held = []
    if held:
        yield np.concatenate([inputs for inputs, _ in held]), np.concatenate([targets for _, targets in held])
