"""What the networks share: the training loop, and the contract of a scikit-learn estimator."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from classify.folds import sides
from classify.networks.adam import adam
from classify.networks.checkpoint import Checkpoint, Trained
from classify.networks.epochs import Epochs
from classify.rows import BATCH, batches, in_memory, taken
from extract.network.importing import import_keras
from features.runtime.log import log

PATIENCE = 5  # epochs without a lower validation loss before training stops

STOPPED = {
    "epochs": "all epochs are done, and more of them (--epochs) might still bring something",
    "patience": f"{PATIENCE} epochs brought nothing better",
    "nan": "stopped: the loss is no longer a number (try a lower rate)",
    "interrupted": "interrupted",
}
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Network(ClassifierMixin, BaseEstimator):
    """A Keras network as a scikit-learn classifier; its kinds say how to fit it and what it takes for rows.

    Attributes:
        model_: the network, (batch, …) inputs → (batch, classes) probabilities.
        classes_: class labels.
        history_, best_epoch_, stopped_: see `Trained`.
        extract_seconds_, cut_seconds_: that a stack of its own took; see `Finetune`.
    """

    FACTS: ClassVar[tuple[str, ...]] = ("history_", "best_epoch_", "stopped_")  # attributes that `facts` keeps
    FOUND: ClassVar[tuple[str, ...]] = ("best_epoch_", "stopped_")  # of these, what says how the training ended
    model_: Any
    classes_: np.ndarray
    random_state: int
    extract_seconds_: float = 0.0
    cut_seconds_: float = 0.0

    def sides(self, X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the rows to train on and of those to stop by; see `classify.folds.sides`."""
        return sides(X, y, self.random_state)

    def predict(self, X: Any) -> np.ndarray:
        """(m,) labels of rows."""
        labels = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[labels])

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one."""
        check_is_fitted(self)
        return probabilities(self.model_, self._inputs(X))

    def facts(self) -> dict[str, Any]:
        """Everything that was fitted except the network itself, as JSON can hold it."""
        return {"classes_": self.classes_.tolist(), **{name: getattr(self, name) for name in self.FACTS}}

    def found(self) -> dict[str, Any]:
        """What training found that decides the model, beside its parameters."""
        return {name: getattr(self, name) for name in self.FOUND}

    def restore(self, model: Any, facts: dict[str, Any]) -> Self:
        """A saved network and its `facts`, ready to predict."""
        self.model_ = model
        for name, value in facts.items():
            setattr(self, name, np.array(value) if name == "classes_" else value)
        return self

    def _inputs(self, X: Any) -> Any:
        """What the network takes, for rows that `predict` was given."""
        raise NotImplementedError

    def _keep(self, trained: Trained) -> None:
        self.history_, self.best_epoch_, self.stopped_ = trained.history, trained.best, trained.stopped


def compiled(model: Any, rate: float) -> Any:
    """A network, inputs → (batch, classes) probabilities, ready to be trained with Adam at a learning rate."""
    model.compile(adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=_needs_xla())
    return model


def _needs_xla() -> bool:
    """XLA slows down convolutions (see extract.network.forward) and small heads (see adam) on CPUs; JAX needs it."""
    return bool(import_keras().backend.backend() == "jax")


def train(
    model: Any,
    X: Any,
    y: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    epochs: int,
    seed: int,
    augment: Augment | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a network with Adam until its validation loss stops falling, and give it its best weights.

    A loss that is no number ends the training, and so does Ctrl-C once an epoch is done: the best weights stay.

    Args:
        model: inputs → (batch, classes) probabilities, see `compiled`.
        X: (n, …) array or `Stack`; read in pieces of 256 MB, never whole.
        y: (n,) int64 class indices.
        split: indices of the rows to train on and to validate on; without any of these, the training loss decides.
        epochs: maximum number.
        seed: of the rows' order, and of `augment`.
        augment: changes one training input; given anew each epoch.
        checkpoint: keeps the best weights on disk too. If those of the same training are there, it goes on from them,
            Adam's averages and the order of rows begun anew.

    Raises:
        KeyboardInterrupt: interrupted before the first epoch was done.
    """
    train_rows, val_rows = split
    val_X, val_y = taken(X, val_rows), y[val_rows]
    begun = checkpoint.load(model.get_weights()) if checkpoint else None
    if begun is None:
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        at_first = evaluate(model, val_X, val_y)[0] if len(val_y) else np.inf
        begun = Trained({name: [] for name in names}, 0, at_first, "interrupted"), model.get_weights()
    (history, best, lowest, stopped), weights = begun
    model.set_weights(weights)
    rng = np.random.default_rng(seed + best)
    left = range(best + 1, epochs + 1) if stopped == "interrupted" else ()
    stopped = "epochs" if stopped == "interrupted" else stopped
    progress = Epochs(epochs, best)
    try:
        for epoch in left:
            result = _epoch(model, batches(X, y, train_rows, rng), augment, rng)
            if len(val_y):
                result += evaluate(model, val_X, val_y)
            if not np.isfinite(result).all():
                stopped = "nan"
                break
            for name, value in zip(history, result, strict=False):
                history[name].append(value)
            watched = result[2 if len(val_y) else 0]
            if watched < lowest:
                weights, lowest, best = model.get_weights(), watched, epoch
                if checkpoint:
                    checkpoint.keep(Trained(history, best, lowest, "interrupted"), weights)
            progress.tell(epoch, history)
            if epoch - best >= PATIENCE:
                stopped = "patience"
                break
    except KeyboardInterrupt:
        if not history["loss"]:
            raise
        stopped = "interrupted"
    finally:
        progress.close()
    trained = Trained(history, best, lowest, stopped)
    if checkpoint:
        checkpoint.keep(trained, weights, at_once=True)
    model.set_weights(weights)
    # SGD has no state; Adam's, twice the size of the network, would be saved with it.
    model.compile("sgd", jit_compile=_needs_xla())
    resumable = "; the same command goes on from there" if checkpoint and stopped == "interrupted" else ""
    log.info(f"{STOPPED[stopped]}; kept are the weights of epoch {best}{resumable}")
    return trained


def _epoch(model: Any, data: Any, augment: Augment | None, rng: np.random.Generator) -> list[float]:
    """Train on every batch once. Returns mean loss and accuracy over the rows, as they were before each step."""
    total, count = np.zeros(2), 0
    for inputs, targets in data:
        if augment:
            inputs = np.stack([augment(one, rng) for one in inputs])
        model.reset_metrics()  # versions of Keras differ in whether they add up over batches
        result = model.train_on_batch(inputs, targets, return_dict=True)
        total += np.array([result["loss"], result["accuracy"]], np.float64) * len(targets)
        count += len(targets)
        if not np.isfinite(total[0]):
            break
    return (total / count).tolist()


def probabilities(model: Any, X: Any) -> np.ndarray:
    """(n, classes) float64 of the rows of an array or a stack."""
    parts = []
    for start in range(0, len(X), BATCH):
        rows = in_memory(X, np.arange(start, min(start + BATCH, len(X))))
        whole = np.zeros((BATCH, *rows.shape[1:]), rows.dtype)  # one shape: traced once, same bits among any neighbours
        whole[: len(rows)] = rows
        parts.append(np.asarray(model.predict_on_batch(whole), np.float64)[: len(rows)])
    softmax = np.concatenate(parts)
    return softmax / softmax.sum(axis=1, keepdims=True)  # float32 sums to one only nearly


def evaluate(model: Any, X: Any, y: np.ndarray) -> list[float]:
    """Mean cross-entropy and accuracy on rows of an array or a stack."""
    given = probabilities(model, X)
    chosen = given[np.arange(len(y)), y]
    return [float(-np.log(np.maximum(chosen, 1e-7)).mean()), float((given.argmax(axis=1) == y).mean())]
