"""The bootstrapped dense head: a small network on the rows of a stack."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from classify.network import Network, held_out, train
from classify.rows import shape
from extract.base import import_keras
from features import Stack


class Dense(Network):
    """Dense layers, dropout, softmax: what the sources train on frozen features.

    The sources' own settings are `Dense(widths=(4096, 1072), dropout=0.2, scale=False)`.

    Args:
        widths: units of the hidden layers.
        dropout: share of the last hidden layer's units that each training step leaves out.
        scale: whether rows are first scaled to unit length, as the other classifiers here do.
        rate: Adam's learning rate.
        epochs: at most so many; the validation loss decides when to stop.
        random_state: seed of weights, validation rows, order and dropout.

    Example:
        Dense().fit(train, train.y).predict_proba(test)
    """

    def __init__(
        self,
        widths: Sequence[int] = (256,),
        dropout: float = 0.5,
        scale: bool = True,
        rate: float = 1e-3,
        epochs: int = 50,
        random_state: int = 0,
    ) -> None:
        self.widths = widths
        self.dropout = dropout
        self.scale = scale
        self.rate = rate
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Fit to rows.

        Args:
            X: (n, d) array, memmap or `Stack`; a stack is never held whole in memory.
            y: (n,) labels.
        """
        if not isinstance(X, Stack):
            X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.n_features_in_ = shape(X)[1]
        self.classes_, y = np.unique(y, return_inverse=True)
        keras = import_keras()
        keras.utils.set_random_seed(self.random_state)
        rows = keras.Input((self.n_features_in_,))
        self.model_ = keras.Model(rows, head(rows, len(self.classes_), self.widths, self.dropout, self.scale))
        held = held_out(X, y, self.random_state)
        self._keep(train(self.model_, self.rate, X, y, held, self.epochs, self.random_state))
        return self

    def _inputs(self, X: Any) -> Any:
        return X if isinstance(X, Stack) else validate_data(self, X, reset=False, dtype=[np.float32, np.float64])


def head(rows: Any, classes: int, widths: Sequence[int], dropout: float, scale: bool) -> Any:
    """Dense layers on a Keras tensor of rows, (batch, d) → (batch, classes) probabilities."""
    keras = import_keras()
    layers = keras.layers
    if scale:
        rows = layers.UnitNormalization()(rows)
    for width in widths:
        rows = layers.Dense(width, activation="relu")(rows)
    return layers.Dense(classes, activation="softmax")(layers.Dropout(dropout)(rows))
