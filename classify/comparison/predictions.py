"""`predictions.csv`: what a model said about each test row, written and read."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from features import Failed, Stack


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One model's predictions of the test rows.

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


def write_predictions(path: Path, test: Stack, predicted: np.ndarray, probabilities: np.ndarray | None) -> None:
    """`path,label,predicted` of every test row, then one column a class with its probability, if there are any."""
    names = test.label_names
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "predicted", *(names if probabilities is not None else [])])
        for i, name in enumerate(test.paths):
            given = [] if probabilities is None else map(repr, probabilities[i].tolist())
            table.writerow([name, names[test.y[i]], names[predicted[i]], *given])
