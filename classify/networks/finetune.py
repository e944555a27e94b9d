"""The fine-tuned network: the top of the backbone and the head, trained from a stack cut below them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from classify.networks.checkpoint import Checkpoint
from classify.networks.dense import dense_head
from classify.networks.training import Network, compiled, train
from classify.rows import pooled, shape, taken, unit_centre
from extract.backbones import backbone_named
from extract.layers import extract_layer
from extract.model_file import is_model_file
from extract.network.base import cut, load_base
from extract.network.importing import import_keras
from extract.network.tail import cut_below, default_layers, tail_of
from extract.stack.changes import recipe_changes
from features import Failed, Refused, Stack, open_stack
from features.runtime.log import log
from features.schema import made_by, recipe_attrs


class Finetune(Network):
    """The last layers of the backbone and a dense head on top, trained together.

    What lies below stays frozen, so it is run once: a second stack of the same rows, cut just below the first
    trainable layer, is made as `cuts/<stem>-<layer>.h5` unless it is there. The head is trained first, on the rows it
    is given: a random head would wreck the layers below it. Then both are trained from the second stack.

    Args:
        layers: how many of the backbone's last layers are trained; by default what suits the backbone.
        pool: avg, max or flatten: what the head gets of the base's (h, w, c).
        widths, dropout, scale: of the head, see `Dense`.
        head_rate, rate: Adam's learning rates, for the head alone and for both.
        epochs: maximum number of each; the validation loss decides when to stop.
        random_state: seed of weights, validation rows, order and dropout.

    Attributes:
        cut_: what made the rows that `model_` takes, (batch, width) flattened: backbone, layer, weights, engine, …
        warmup_: how the head's own training went.
        extract_seconds_: that stage one worked on the second stack, whenever that was.
        cut_seconds_: of `fit` that went into having it.

    Example:
        Finetune(layers=2).fit(train, train.y).predict(test)
    """

    FACTS = ("pool", "cut_", *Network.FACTS)
    FOUND = ("cut_", *Network.FOUND)

    def __init__(
        self,
        layers: int | None = None,
        pool: str = "avg",
        widths: Sequence[int] = (256,),
        dropout: float = 0.5,
        scale: bool = True,
        head_rate: float = 1e-3,
        rate: float = 1e-4,
        epochs: int = 50,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.pool = pool
        self.widths = widths
        self.dropout = dropout
        self.scale = scale
        self.head_rate = head_rate
        self.rate = rate
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Stack, y: np.ndarray, checkpoint: Checkpoint | None = None) -> Self:
        """Fit to a stack's rows, (n,) labels; `checkpoint`: see `train`.

        Raises:
            Refused: the base has fewer layers than `layers`, or images or weights are no longer those of the stack.
            Failed: the base has no weights to train.
            KeyboardInterrupt: interrupted before both were trained together for an epoch.
        """
        attrs = _stack(X).attrs
        if is_model_file(attrs["backbone"]):
            raise Failed(
                f"{attrs['backbone']} is a model file: fine-tuning takes the backbones of python -m extract --list"
            )
        row = backbone_named(attrs["backbone"])
        weights = attrs["weights_file"] or attrs["weights"]
        if weights == "formula":
            raise Failed(f"{row.name} has nothing to fine-tune: a formula gives its filters")
        base, _ = load_base(row, weights, attrs["input_size"], attrs["seed"])
        base = cut(base, attrs["layer"])
        layers = self.layers or row.trained or default_layers(base)
        layer = cut_below(base, layers)
        log.info(f"training the last {layers} layers of {row.name}, from rows cut at {layer}")
        began = time.perf_counter()
        rows = cut_rows(X, layer)
        self.cut_seconds_ = time.perf_counter() - began
        self.extract_seconds_ = rows.extract_seconds if rows.path != X.path else 0.0
        self.cut_ = made_by(rows.attrs)

        self.classes_, y = np.unique(y, return_inverse=True)
        split = self.sides(X, y)
        keras = import_keras()
        keras.utils.set_random_seed(self.random_state)
        bottleneck = pooled(X, self.pool)
        centre = unit_centre(taken(bottleneck, split[0])) if self.scale else None
        top = dense_head(shape(bottleneck)[1], len(self.classes_), self.widths, self.dropout, centre)
        warm = checkpoint.part("head") if checkpoint else None
        top = compiled(top, self.head_rate)
        self.warmup_ = train(top, bottleneck, y, split, self.epochs, self.random_state, checkpoint=warm)
        if self.warmup_.stopped == "interrupted":
            raise KeyboardInterrupt  # nothing is fine-tuned yet: a result would bear the wrong name
        self.model_ = join(tail_of(base, layer, layers), self.pool, top)
        network = compiled(self.model_, self.rate)
        trained = train(network, rows, y, split, self.epochs, self.random_state, checkpoint=checkpoint)
        self._keep(trained)
        return self

    def _inputs(self, X: Any) -> Any:
        rows = cut_rows(_stack(X), self.cut_["layer"])
        if changes := recipe_changes(rows.attrs, recipe_attrs(self.cut_)):
            raise Refused(f"{rows.path} does not fit this network:\n  " + "\n  ".join(changes))
        return rows


def join(tail: Any, pool: str, top: Any) -> Any:
    """Tail and head as one network, (batch, width) rows flattened at the cut → (batch, classes)."""
    keras = import_keras()
    layers = keras.layers
    pools = {"flatten": layers.Flatten, "avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    at_cut = tail.input_shape[1:]
    rows = keras.Input((int(np.prod(at_cut)),))
    return keras.Model(rows, top(pools[pool]()(tail(layers.Reshape(at_cut)(rows)))))


def cut_rows(X: Stack, layer: str) -> Stack:
    """The same rows at another layer; extracted, where that has not been done yet, to `cuts/<stem>-<layer>.h5`."""
    if X.attrs["layer"] == layer:
        return X
    path: Path = X.path.parent / "cuts" / f"{X.path.stem}-{layer}.h5"  # apart from what `make classify` may pick
    return open_stack(extract_layer(X, layer, path)).take(X.rows)


def _stack(X: Any) -> Stack:
    if not isinstance(X, Stack):
        raise Refused("fine-tuning needs the backbone below the rows: give it a stack, whose attributes name it")
    return X
