"""Probabilities for classifiers that have none: one temperature, fitted on decisions about held-out rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.classical.answering import Answering
from classify.classical.coupling import logits, tempered
from classify.classical.crossfit import HeldOut, ask_held_out
from classify.classical.products import spread, unit_products
from classify.coverage import scores_of
from classify.folds import Splits, folds
from classify.rows import shape, unit_centre
from features import Stack

Calibrate = Callable[..., float | None]
Likeliest = Callable[[np.ndarray, np.ndarray], float]  # decisions about rows held out and their labels → T


NONE = "no probabilities: a class has a single train image, too few to calibrate on"


class NoProbabilities(ValueError):
    """A class had too few train images to calibrate a classifier on."""


class Tempered(ClassifierMixin, BaseEstimator):
    """A classifier of rows through their inner products, whose probabilities are softmax(decision / T).

    Its kinds say how to fit it, and how a model of the same settings is cross-fitted: `plain` builds it, and `space`
    makes what it takes of rows. `walked` names the setting that candidates of a search differ in inside one space.

    Attributes:
        temperature_: T, fitted on out-of-fold decisions; None where a class is too small for folds.
        model_: scikit-learn's fitted estimator; None where there is none.
        support_rows_: rows that predicting takes, (k, d), unscaled; None where it takes none.
        scores_: (h,) float64 `scores_of` rows that were held out; None where a class is too small for folds.
        classes_: class labels.
    """

    walked: ClassVar[str]
    FOUND: ClassVar[tuple[str, ...]] = ()  # attributes that fitting found, beside the parameters
    classes_: np.ndarray
    temperature_: float | None
    model_: Any = None
    support_rows_: Any = None
    scores_: np.ndarray | None = None

    def fit(
        self,
        X: Any,
        y: np.ndarray,
        products: np.ndarray | None = None,
        splits: Splits | None = None,
        held_out: HeldOut | None = None,
        nested: Sequence[HeldOut] = (),
        jobs: int = 1,
    ) -> Self:
        """Fit to rows.

        Args:
            X: (n, d) array, memmap or `Stack`.
            y: (n,) labels.
            products: (n, n) `unit_products` of X, if known.
            splits: (train, held-out) indices to calibrate on; by default those of `folds`.
            held_out: decisions of models with these settings about the rows held out, if known.
            nested: of each fold, decisions of models whose settings were chosen without it, if a search chose them.
            jobs: threads.
        """
        if not isinstance(X, Stack):
            X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_features_in_ = shape(X)[1]
        parts = folds(X, codes) if splits is None else splits
        if products is None and self.wants_products(X):
            products = unit_products(X)

        def calibrate(estimator: Any, space: np.ndarray, likeliest: Likeliest = temperature) -> float | None:
            known = ask_held_out(estimator, space, codes, parts, jobs) if held_out is None else held_out
            return None if known is None else self._calibrated(known, codes, likeliest, nested)

        self._fit(X, codes, products, calibrate)
        return self

    def _fit(self, X: Any, codes: np.ndarray, products: Any, calibrate: Calibrate) -> None:
        """Fit to checked rows.

        Args:
            X: (n, d) array or `Stack`.
            codes: (n,) int64 classes 0…k−1.
            products: (n, n) `unit_products` of X; None where `wants_products` says that they are not wanted.
            calibrate: unfitted estimator, its `space`, and what finds T → the temperature of its decisions about rows
                held out, whose scores are kept; None where there are no folds.
        """
        raise NotImplementedError

    def wants_products(self, X: Any) -> bool:
        """Whether fitting to these rows takes the inner products of all pairs."""
        raise NotImplementedError

    @property
    def answering(self) -> Answering:
        """What answers for the fitted model."""
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """(m,) labels of rows (m, d)."""
        X = self._checked(X)
        return self.answering.decide(X)[0]

    def decision_function(self, X: Any) -> np.ndarray:
        """(m,) or (m, classes) decisions."""
        X = self._checked(X)
        return self.answering.decide(X)[1]

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, classes) float64, rows sum to one; the largest is the predicted class's.

        Raises:
            NoProbabilities: it has no temperature.
        """
        X = self._checked(X)
        proba = self.answering.answer(X)[1]
        if proba is None:
            raise NoProbabilities(NONE)
        return proba

    def scale(self, X: Any, products: np.ndarray | None) -> float:
        """Spread of X's rows, from their products where they are known; 1 where all rows are one."""
        return (spread(products) if products is not None else unit_centre(X)[1]) or 1.0

    def find_temperature(self, decisions: np.ndarray, y: np.ndarray) -> float:
        """T of the probabilities, by decisions of plain estimators about rows held out; see `temperature`."""
        return temperature(decisions, y)

    def probabilities(self, decisions: np.ndarray, predicted: np.ndarray, T: float | None) -> np.ndarray | None:
        """(m, classes) float64, of decisions of plain estimators and the codes (m,) that they predicted; None
        without a T.
        """
        return tempered(decisions, T)

    def _calibrated(
        self, known: HeldOut, codes: np.ndarray, likeliest: Likeliest, nested: Sequence[HeldOut] = ()
    ) -> float:
        """The temperature that decisions about rows held out ask for; keeps the rows' scores.

        A fold's scores come from settings and a temperature that the other folds chose: its own rows would choose those
        that suit them, and sets of few train rows would cover less than asked for.
        """
        y = codes[known.rows]
        scores = []
        for fold, end in enumerate(known.ends):
            said = nested[fold] if nested else known
            own = np.arange(len(y)) < end
            own[: known.ends[fold - 1] if fold else 0] = False
            others = ~own if len(known.ends) > 1 else own
            temperature = likeliest(said.decisions[others], y[others])
            probabilities = self.probabilities(said.decisions[own], said.predicted[own], temperature)
            scores.append(scores_of(np.asarray(probabilities), y[own]))
        self.scores_ = np.concatenate(scores)
        return likeliest(known.decisions, y)

    def left_open(self, codes: np.ndarray) -> dict[str, Any]:
        """Settings that nobody gave and that depend on the classes (n,) of the train rows, with their values."""
        return {}

    def found(self) -> dict[str, Any]:
        """What fitting found that decides the model, beside its parameters."""
        return {name: getattr(self, name) for name in self.FOUND}

    def _checked(self, X: Any) -> Any:
        """Rows to predict: a fitted model's, an array or a `Stack`."""
        check_is_fitted(self)
        return X if isinstance(X, Stack) else validate_data(self, X, reset=False, dtype=[np.float64, np.float32])


def doubt(rows: int) -> float:
    """The share of a decision that is counted as wrong: after n right answers out of n, the next one is right with a
    probability of (n + 1) / (n + 2) by Laplace's rule of succession. So few rows give no certainty."""
    return 1 / (rows + 2)


def temperature(decisions: np.ndarray, y: np.ndarray, wrong: float | None = None) -> float:
    """T that makes softmax(decision / T) likeliest, as scikit-learn's `CalibratedClassifierCV(method="temperature")`.

    Temperature scaling (Guo et al., ICML 2017) leaves the order of the classes alone, so probabilities and predictions
    agree; on food101-10 inside train its log loss was also lower than Platt's sigmoids' (0.94 and 0.98 for the RBF SVM,
    0.70 and 0.75 for the linear one). scikit-learn's own wants folds that hold out every row once, which views of
    held-out images are not, and fits each fold again.

    Args:
        decisions: (m,) or (m, classes) decisions of models that had not seen the rows.
        y: (m,) int64 class indices.
        wrong: the share of each label that is spread over the other classes; by default `doubt`.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    scores = logits(decisions)
    share = doubt(len(y)) if wrong is None else wrong
    target = np.full(scores.shape, share / max(1, scores.shape[1] - 1))
    target[np.arange(len(y)), y] = 1 - share

    def loss(log_inverse: float) -> float:
        return -float((target * log_softmax(np.exp(log_inverse) * scores, axis=1)).sum(axis=1).mean())

    return float(np.exp(-minimize_scalar(loss, bounds=(-10, 10), options={"xatol": 1e-10}).x))


def pair_temperature(decisions: np.ndarray, y: np.ndarray) -> float:
    """T that makes the sigmoids σ(decision / T) of all pairs likeliest, on rows that the models had not seen.

    One T for all pairs, and no offset: a sigmoid of its own for each pair (Platt) has too few rows to learn from.

    Args:
        decisions: (m, k(k−1)/2), positive for the first class of a pair; pairs (0, 1), (0, 2), … as libsvm has them.
        y: (m,) int64 class indices 0…k−1.
    """
    from scipy.optimize import minimize_scalar

    count = classes_of_pairs(decisions)
    first, second = np.triu_indices(count, 1)
    place, sign = np.zeros((count, count), int), np.zeros((count, count))
    place[first, second] = place[second, first] = np.arange(len(first))
    sign[first, second], sign[second, first] = 1, -1
    margins = np.take_along_axis(decisions, place[y], axis=1) * sign[y]  # of the true class, over each other
    margins = margins[sign[y] != 0]
    wrong = doubt(len(y))

    def loss(log_inverse: float) -> float:
        scaled = np.exp(log_inverse) * margins
        return float(((1 - wrong) * np.logaddexp(0, -scaled) + wrong * np.logaddexp(0, scaled)).mean())

    return float(np.exp(-minimize_scalar(loss, bounds=(-10, 10), options={"xatol": 1e-10}).x))


def classes_of_pairs(decisions: np.ndarray) -> int:
    """k, of decisions (m, k(k−1)/2)."""
    return round((1 + math.sqrt(1 + 8 * decisions.shape[1])) / 2)
