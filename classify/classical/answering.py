"""What fitted classical models answer, in NumPy alone: who predicts imports neither scikit-learn nor SciPy.

`of` makes each from a fitted estimator, or from the plain data of its file (`classify.skops_file`). Both have the same
attributes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from classify.classical.coupling import from_pairs, own_temperature, tempered
from classify.classical.nystrom import kernels
from classify.classical.products import has_direction, rbf, unit_products
from classify.classical.votes import Ballots, nearest
from classify.rows import row_chunks, unit_rows


class Answering(Protocol):
    """A fitted model, as far as its answers need it."""

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """Made of an object with the attributes of the fitted estimator."""

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels (m,) and decisions (m,) or (m, classes) of rows (m, d), an array or a `Stack`."""

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels (m,) and probabilities (m, classes) float64, None where there are none."""


class Linear(NamedTuple):
    """Linear decisions about rows of unit length.

    Attributes:
        coef: (classes, d) float64; of two classes (1, d).
        intercept: (classes,) or (1,).
        classes: labels.
        temperature: T of the probabilities softmax(decision / T); None where there are none.
    """

    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    temperature: float | None

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """See `Answering`; logistic regression brings no temperature."""
        coef = fitted.model_.coef_
        temperature = fitted.temperature_ if "temperature_" in vars(fitted) else own_temperature(len(coef))
        return cls(coef, fitted.model_.intercept_, fitted.classes_, temperature)

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Answering`."""
        pieces = [unit_rows(piece) @ self.coef.T + self.intercept for piece in row_chunks(X)]
        return _linear(np.concatenate(pieces), self.classes)

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Answering`."""
        labels, decisions = self.decide(X)
        return labels, tempered(decisions, self.temperature)


class Kernel(NamedTuple):
    """An RBF kernel machine: a decision for each pair of classes, which vote.

    Attributes:
        rows: (s, d) support rows, unscaled, in the order of their classes: an array or a `Stack`.
        counts: (classes,) how many belong to each.
        dual: (classes − 1, s) coefficients, as libsvm has them.
        intercept: (pairs,), of pairs (0, 1), (0, 2), …
        classes: labels.
        gamma: of the kernel.
        temperature: T of the sigmoids σ(decision / T); None where there are no probabilities.
        is_coupled: whether the pairs' sigmoids are coupled to probabilities; else they are `tempered` decisions.
    """

    rows: Any
    counts: np.ndarray
    dual: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    gamma: float
    temperature: float | None
    is_coupled: bool

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """See `Answering`."""
        svc = fitted.model_
        coupled = getattr(fitted, "coupled_", False)  # two classes, or saved before pairs were coupled: not
        return cls(
            fitted.support_rows_,
            svc._n_support,
            svc.dual_coef_,
            svc.intercept_,
            fitted.classes_,
            fitted.gamma_,
            fitted.temperature_,
            coupled,
        )

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Answering`; decisions of more than two classes are scikit-learn's `ovr`: votes, and confidence below 1.

        The largest decision is the label's but where one-to-one votes tie.
        """
        pairs = self._pairs(X)
        if len(self.classes) == 2:
            return self.classes[(pairs[:, 0] > 0).astype(int)], pairs[:, 0]
        votes = self._votes(pairs)
        first, second = np.triu_indices(len(self.classes), 1)
        confidence = np.zeros_like(votes)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            confidence[:, i] += pairs[:, pair]
            confidence[:, j] -= pairs[:, pair]
        return self.classes[votes.argmax(axis=1)], votes + confidence / (3 * (np.abs(confidence) + 1))

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Answering`."""
        if not self.is_coupled:
            labels, decisions = self.decide(X)
            return labels, tempered(decisions, self.temperature)
        pairs = self._pairs(X)
        codes = self._votes(pairs).argmax(axis=1)
        if self.temperature is None:
            return self.classes[codes], None
        return self.classes[codes], from_pairs(pairs, codes, len(self.classes), self.temperature)

    def _pairs(self, X: Any) -> np.ndarray:
        """(m, pairs) decisions, positive for the first class of a pair; of two classes (m, 1), for the second."""
        products = unit_products(X, self.rows)
        kernel = rbf(products, has_direction(X), has_direction(self.rows), self.gamma)
        if len(self.classes) == 2:
            return np.asarray(kernel @ self.dual.T + self.intercept)
        ends = np.cumsum(self.counts)
        own = [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]
        parts = [kernel[:, rows] @ self.dual[:, rows].T for rows in own]  # (m, classes − 1): against each other class
        first, second = np.triu_indices(len(self.classes), 1)
        decisions = [parts[i][:, j - 1] + parts[j][:, i] for i, j in zip(first, second, strict=True)]
        return np.stack(decisions, axis=1) + self.intercept

    def _votes(self, pairs: np.ndarray) -> np.ndarray:
        """(m, classes) float64: how many of its pairs each class wins."""
        votes = np.zeros((len(pairs), len(self.classes)))
        for pair, (i, j) in enumerate(zip(*np.triu_indices(len(self.classes), 1), strict=True)):
            votes[:, i] += pairs[:, pair] > 0
            votes[:, j] += pairs[:, pair] <= 0
        return votes


class Landmarks(NamedTuple):
    """Linear decisions about kernels with landmarks.

    Attributes:
        rows: (m, d) float32 landmarks, unscaled.
        coef: (classes, m) float64; of two classes (1, m).
        intercept: (classes,) or (1,).
        classes: labels.
        gamma: of the kernel.
        temperature: T of the probabilities softmax(decision / T); None where there are none.
    """

    rows: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    gamma: float
    temperature: float | None

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """See `Answering`."""
        svc, rows = fitted.model_, np.asarray(fitted.support_rows_)
        return cls(rows, svc.coef_, svc.intercept_, fitted.classes_, fitted.gamma_, fitted.temperature_)

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Answering`."""
        pieces = [piece @ self.coef.T + self.intercept for piece in kernels(X, self.rows, self.gamma)]
        return _linear(np.concatenate(pieces), self.classes)

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Answering`."""
        labels, decisions = self.decide(X)
        return labels, tempered(decisions, self.temperature)


def of_kernel_machine(fitted: Any) -> Kernel | Landmarks:
    """What answers for a `KernelSVC`, by the path that it was fitted by."""
    return Landmarks.of(fitted) if getattr(fitted, "path_", "") == "nystrom" else Kernel.of(fitted)


class Neighbours(NamedTuple):
    """Votes of the nearest rows by cosine.

    Attributes:
        rows: (n, d) train rows, unscaled: an array or a `Stack`.
        votes: of those rows.
        k: how many are asked.
        classes: labels.
        temperature: T of the probabilities softmax(share of votes / T); None where there are none.
    """

    rows: Any
    votes: Ballots
    k: int
    classes: np.ndarray
    temperature: float | None

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """See `Answering`."""
        votes = Ballots.of(fitted.codes_, fitted.balance)
        k = getattr(fitted, "k_", fitted.k)  # saved before it followed the classes: what it was given
        return cls(fitted.support_rows_, votes, k, fitted.classes_, fitted.temperature_)

    def decide(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Answering`; of two classes, by how much the second has the greater share."""
        found = self.votes.shares(nearest(X, self.rows, self.k))
        return self.classes[found.argmax(axis=1)], found[:, 1] - found[:, 0] if len(self.classes) == 2 else found

    def answer(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Answering`."""
        labels, decisions = self.decide(X)
        return labels, tempered(decisions, self.temperature)


ANSWERING: dict[str, Callable[[Any], Answering]] = {
    "classify.classical.linear.SpanLinear": Linear.of,
    "classify.classical.kernel.KernelSVC": of_kernel_machine,
    "classify.classical.neighbours.CosineNeighbours": Neighbours.of,
}


def _linear(decisions: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the decisions (m, classes); of two classes both from one column (m, 1)."""
    if decisions.shape[1] == 1:
        return classes[(decisions[:, 0] > 0).astype(int)], decisions[:, 0]
    return classes[decisions.argmax(axis=1)], decisions
