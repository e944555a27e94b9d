"""Probabilities for classifiers that have none: one temperature, fitted on decisions about rows held out."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from classify.classical.crossfit import HeldOut, cross_fit
from classify.folds import Splits


class NoProbabilities(ValueError):
    """A class had too few train images to calibrate a classifier on."""


def temperature(decisions: np.ndarray, y: np.ndarray) -> float:
    """T that makes softmax(decision / T) likeliest, as scikit-learn's `CalibratedClassifierCV(method="temperature")`.

    Temperature scaling (Guo et al., ICML 2017) leaves the order of the classes alone, so probabilities and predictions
    agree; on food101-10 inside train its log loss was also lower than Platt's sigmoids' (0.94 and 0.98 for the RBF SVM,
    0.70 and 0.75 for the linear one). scikit-learn's own wants folds that hold out every row once, which views of
    held-out images are not, and fits each fold again.

    Args:
        decisions: (m,) or (m, classes) decisions of models that had not seen the rows.
        y: (m,) int64 class indices.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    scores = _logits(decisions)

    def loss(log_inverse: float) -> float:
        return -float(log_softmax(np.exp(log_inverse) * scores, axis=1)[np.arange(len(y)), y].mean())

    return float(np.exp(-minimize_scalar(loss, bounds=(-10, 10), options={"xatol": 1e-10}).x))


def fit_temperature(
    estimator: Any, space: np.ndarray, y: np.ndarray, splits: Splits, held_out: HeldOut | None, jobs: int
) -> float | None:
    """The temperature of an estimator's decisions about rows held out; None where there are no folds.

    Args:
        estimator: unfitted.
        space: (n, r) rows, or (n, n) their kernel, as `cross_fit` takes them.
        y: (n,) int64 class indices.
        splits: (train, held-out) indices of each fold.
        held_out: the decisions, if they are known.
        jobs: threads.
    """
    if held_out is None:
        if not splits:
            return None
        held_out = cross_fit([estimator], space, y, splits, jobs)[0]
    return temperature(held_out.decisions, y[held_out.rows])


def tempered(classifier: Any, decisions: np.ndarray) -> np.ndarray:
    """(m, classes) probabilities of a fitted classifier's decisions, by its `temperature_`.

    Raises:
        NoProbabilities: it has no temperature.
    """
    from scipy.special import softmax

    check_is_fitted(classifier)
    if classifier.temperature_ is None:
        raise NoProbabilities("no probabilities: a class has a single train image, too few to calibrate on")
    return np.asarray(softmax(_logits(decisions) / classifier.temperature_, axis=1))


def _logits(decisions: np.ndarray) -> np.ndarray:
    """(m, classes); of two classes, whose decision is one number, minus and plus that number."""
    return decisions if decisions.ndim == 2 else np.column_stack([-decisions, decisions])
