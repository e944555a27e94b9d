"""A saved model's answers to rows. Blocks have one shape, so a row's bits do not depend on its neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.models import MODELS, Model
from classify.rows import unit_rows
from features.reader import pool_rows

ROWS = 256  # of a block at most, and …
FEW = 16  # of a small block
BLOCK_BYTES = 64 << 20  # … what it may take

Answers = tuple[np.ndarray, np.ndarray | None]  # labels (k,), and probabilities (k, all classes) float64 if there are


class SavedModel:
    """A saved model that answers rows, given side by side for each of its stacks.

    BLAS rounds the last bit of a row's products one way in a block of 256 rows and another way alone. So classical
    models get their rows in blocks of one shape, padded with zeros, here and when they are scored; networks pad their
    own batches. A block of 16 costs a tenth, and mostly rounds as the large one does: where a model that was being
    scored found that it does (`same_in_few`), up to 16 rows get one.

    Args:
        estimator, about: see `load_answers`.
        model: its row, if it is not one of `MODELS`.

    Attributes:
        rows: of a block.
        few: rows of a small block; 0 where there is none.
        recipes: how the rows of each of its stacks were made.
    """

    def __init__(self, estimator: Any, about: dict[str, Any], model: Model | None = None) -> None:
        self.estimator, self.model = estimator, model or MODELS[about["model"]]
        self.classes, self.count = np.array(about["classes"]), len(about["label_names"])
        own_pooling = self.model.takes in ("cut base", "pixels")
        self.pool = "flatten" if own_pooling else about["pool"]
        self.recipes: list[dict[str, Any]] = about["recipes"]
        self.shapes = [tuple(made["feature_shape"]) for made in about["recipes"]]
        self.weights = about.get("weights") or [1 / len(self.shapes)] * len(self.shapes)
        width = sum(int(np.prod(shape)) for shape in self.shapes)
        self.few = about.get("small_block", 0)
        self.rows = ROWS
        while self.rows > 1 and 4 * width * self.rows > BLOCK_BYTES:
            self.rows //= 2

    def __call__(self, parts: Sequence[np.ndarray]) -> Answers:
        """Labels and probabilities of rows.

        Args:
            parts: (k, width) float32 of each stack, as stage one gives them; of pixels for the from-scratch network.

        Returns:
            (k,) int64 indices of `label_names`, and (k, classes) float64, zero for classes that train had none of;
            None where a class was too small to calibrate on.
        """
        if not len(parts[0]):
            return np.empty(0, "i8"), np.empty((0, self.count))
        pieces = [slice(start, start + self.rows) for start in range(0, len(parts[0]), self.rows)]
        labels, given = zip(*(self._block([part[piece] for part in parts]) for piece in pieces), strict=True)
        return np.concatenate(labels), None if given[0] is None else np.concatenate(given)

    def same_in_few(self, parts: Sequence[np.ndarray], answers: Answers) -> bool:
        """Whether the last rows of a large block, alone in a small one, get the same answers to the last bit."""
        last = slice(-FEW, None)
        labels, given = self._block([part[last] for part in parts], FEW)
        if given is None or answers[1] is None:
            return np.array_equal(labels, answers[0][last])
        return np.array_equal(labels, answers[0][last]) and np.array_equal(given, answers[1][last])

    def _block(self, parts: Sequence[np.ndarray], size: int = 0) -> Answers:
        """Answers to at most `size` rows, padded to that; by default to the small block's or the large one's."""
        count = len(parts[0])
        size = size or (self.few if count <= self.few else self.rows)
        labels: np.ndarray
        given: np.ndarray | None
        if self.model.network:
            from classify.networks.training import probabilities

            given = probabilities(self.estimator.model_, self._joined(parts))
            labels = given.argmax(axis=1)
        else:
            whole = [np.zeros((size, part.shape[1]), part.dtype) for part in parts]
            for padded, part in zip(whole, parts, strict=True):
                padded[:count] = part
            X = self._joined(whole)
            if self.model.takes == "rows":
                labels = np.asarray(self.estimator.predict(X))
                tells = hasattr(self.estimator, "predict_proba")
                given = np.asarray(self.estimator.predict_proba(X), np.float64) if tells else None
            else:
                labels, given = self.estimator.answer(X)
            labels, given = labels[:count], None if given is None else given[:count]
        if given is None:
            return self.classes[labels], None
        probabilities_of_all = np.zeros((count, self.count))
        probabilities_of_all[:, self.classes] = given
        return self.classes[labels], probabilities_of_all

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The rows as the model takes them; of several stacks as `SideBySide` puts them."""
        if self.pool != "flatten":
            return np.hstack([pool_rows(x, shape, self.pool) for x, shape in zip(parts, self.shapes, strict=True)])
        if len(parts) == 1:
            return parts[0]
        return np.hstack([unit_rows(x) * np.float32(np.sqrt(w)) for x, w in zip(parts, self.weights, strict=True)])
