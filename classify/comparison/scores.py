"""What predictions are worth."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from classify.comparison.statistics import calibration_error, log_loss, reliability
from features import Failed


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What one model said of the test rows.

    Attributes:
        paths: (n,) images, relative to the dataset root.
        y, predicted: (n,) int64 index into the stack's label names.
        proba: (n, classes) float64; None where the model gives no probabilities.
    """

    paths: list[str]
    y: np.ndarray
    predicted: np.ndarray
    proba: np.ndarray | None

    @property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        return np.asarray(self.predicted == self.y)


def read_predictions(path: Path, label_names: list[str]) -> Predictions:
    """Read a `predictions.csv`: path, label, predicted, and a column per class where there are probabilities.

    Raises:
        Failed: its columns are not those.
    """
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    if header[:3] != ["path", "label", "predicted"] or header[3:] not in ([], label_names):
        raise Failed(f"{path} has columns {', '.join(header)}; expected path, label, predicted and the stack's classes")
    index = {name: i for i, name in enumerate(label_names)}
    paths, labels, guesses = ([line[i] for line in lines] for i in range(3))
    return Predictions(
        paths,
        np.array([index[name] for name in labels], np.int64),
        np.array([index[name] for name in guesses], np.int64),
        np.array([line[3:] for line in lines], np.float64) if header[3:] else None,
    )


def scores(y: np.ndarray, predicted: np.ndarray, classes: int, proba: np.ndarray | None = None) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro F1 (fractions), log loss (nats), calibration error and the confusion matrix.

    Balanced accuracy and macro F1 are means over the classes that occur in `y`. The matrix has true classes as rows,
    predicted ones as columns. Log loss and calibration error are None without probabilities.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    confusion = confusion_matrix(y, predicted, labels=np.arange(classes))
    present = np.unique(y)
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        "accuracy": float(np.mean(predicted == y)),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1_score(y, predicted, labels=present, average="macro", zero_division=0)),
        "log_loss": None if proba is None else log_loss(y, proba),
        "calibration_error": None if proba is None else calibration_error(reliability(y, proba)),
        "confusion": confusion.tolist(),
    }
