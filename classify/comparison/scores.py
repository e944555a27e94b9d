"""Scores of predictions."""

from typing import Any

import numpy as np

from classify.comparison.statistics import calibration_error, log_loss, reliability


def scores(y: np.ndarray, predicted: np.ndarray, classes: int, proba: np.ndarray | None = None) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro F1 (fractions), log loss (nats), calibration error and the confusion matrix.

    Balanced accuracy is a mean over the classes that occur in `y`; macro F1, as in scikit-learn, over those that occur
    in `y` or `predicted`: one that only is predicted has an F1 of 0. The matrix has true classes as rows, predicted
    ones as columns. Log loss and calibration error are None without probabilities.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    confusion = confusion_matrix(y, predicted, labels=np.arange(classes))
    present = np.unique(y)
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        "accuracy": float(np.mean(predicted == y)),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1_score(y, predicted, average="macro")),
        "log_loss": None if proba is None else log_loss(y, proba),
        "calibration_error": None if proba is None else calibration_error(reliability(y, proba)),
        "confusion": confusion.tolist(),
    }
