"""What predictions are worth."""

from typing import Any

import numpy as np


def scores(y: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro F1 (fractions) and the confusion matrix (rows true, columns predicted).

    Balanced accuracy and macro F1 are means over the classes that occur in `y`.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    confusion = confusion_matrix(y, predicted, labels=np.arange(classes))
    present = np.unique(y)
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        "accuracy": float(np.mean(predicted == y)),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1_score(y, predicted, labels=present, average="macro", zero_division=0)),
        "confusion": confusion.tolist(),
    }
