"""The bootstrapped dense head: a small network on the rows of a stack."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from classify.networks.checkpoint import Checkpoint
from classify.networks.training import Network, compiled, train
from classify.rows import pooled, shape, taken, unit_centre
from extract.network.importing import import_keras
from features import Stack
from features.schema import SPLITS

FEW = 10  # images of the smallest class, below which 15 % are a single one


class Dense(Network):
    """Dense layers, dropout, softmax: what the sources train on frozen features.

    The defaults had the best accuracy on validation rows inside train of food101-10 on MobileNetV2, six seeds (77.7 %;
    77.5 % with 256 units at 1e-3, 77.1 % with those and without roots). The sources' own settings:
    `Dense(pool="flatten", widths=(4096, 1072), dropout=0.2, scale=False, rate=1e-3)`.

    Args:
        pool: avg, max or flatten: how the rows of a stack are pooled; arrays are taken as they are.
        widths: units of the hidden layers.
        dropout: share of the last hidden layer's units that each training step leaves out.
        scale: whether each number is first replaced by its signed root (Perronnin et al., ECCV 2010), and rows are
            scaled to unit length, centred, and divided by the root of their spread, so that one rate suits every
            backbone.
        rate: Adam's learning rate.
        epochs: maximum number; the validation loss decides when to stop.
        random_state: seed of weights, validation rows, order and dropout.

    Example:
        Dense().fit(train, train.y).predict_proba(test)
    """

    FACTS = ("pool", "n_features_in_", *Network.FACTS)

    def __init__(
        self,
        pool: str = "avg",
        widths: Sequence[int] = (1024,),
        dropout: float = 0.5,
        scale: bool = True,
        rate: float = 3e-4,
        epochs: int = 50,
        random_state: int = 0,
    ) -> None:
        self.pool = pool
        self.widths = widths
        self.dropout = dropout
        self.scale = scale
        self.rate = rate
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Any, y: np.ndarray, checkpoint: Checkpoint | None = None) -> Self:
        """Fit to rows.

        Args:
            X: (n, d) array, memmap or `Stack`; a stack is never held whole in memory.
            y: (n,) labels.
            checkpoint: see `train`.
        """
        if not isinstance(X, Stack):
            X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        split = self.sides(X, y)
        X = pooled(X, self.pool)
        self.n_features_in_ = shape(X)[1]
        self.classes_, y = np.unique(y, return_inverse=True)
        keras = import_keras()
        keras.utils.set_random_seed(self.random_state)
        centre = unit_centre(taken(X, split[0]), root=True) if self.scale else None
        self.model_ = dense_head(self.n_features_in_, len(self.classes_), self.widths, self.dropout, centre, root=True)
        network = compiled(self.model_, self.rate)
        trained = train(network, X, y, split, self.epochs, self.random_state, checkpoint=checkpoint)
        self._keep(trained)
        return self

    def sides(self, X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Network`; none to stop by where a class has fewer than ten images, but for a dataset's own.

        A single image would be put aside of such a class: it says little, and half of two images is lost. Of two
        classes of two photos of food101-10, 78 % were right without and 74 % with; nearest mean had 79 %.
        """
        train, check = super().sides(X, y)
        images = y if not isinstance(X, Stack) else y[X.view == 0]
        has_own = isinstance(X, Stack) and (X.split == SPLITS["val"]).any()
        if has_own or np.unique(images, return_counts=True)[1].min() >= FEW:
            return train, check
        return np.arange(len(y)), np.arange(0)

    def _inputs(self, X: Any) -> Any:
        return (
            pooled(X, self.pool)
            if isinstance(X, Stack)
            else validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        )


def dense_head(
    width: int,
    classes: int,
    widths: Sequence[int],
    dropout: float,
    centre: tuple[np.ndarray, float] | None,
    root: bool = False,
) -> Any:
    """Dense layers, dropout and softmax on rows.

    Args:
        width: of the rows.
        classes: how many there are.
        widths: units of the hidden layers.
        dropout: share of the last hidden layer's units that each training step leaves out.
        centre: mean (width,) and spread of rows of unit length, to scale them by; None leaves rows as they are.
        root: whether those are rows of signed roots. Their slope has no bound at zero: not for what trains below.

    Returns:
        the Keras model, (batch, width) → (batch, classes) probabilities.
    """
    keras = import_keras()
    layers, ops = keras.layers, keras.ops
    rows = x = keras.Input((width,))
    if centre:
        scaling = layers.Normalization(name="centre")
        x = layers.UnitNormalization()(ops.sign(rows) * ops.sqrt(ops.abs(rows)) if root else rows)
        x = scaling(x)
        mean, spread = centre
        scaling.adapt_mean.assign(mean)  # weights, and not arguments, which would be written out as text
        scaling.adapt_variance.assign(np.full(width, spread or 1.0))
        scaling.finalize_state()
    for units in widths:
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(rows, layers.Dense(classes, activation="softmax")(layers.Dropout(dropout)(x)))
