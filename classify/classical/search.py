"""Search a classifier's settings by cross-validation inside the train rows, on one matrix of inner products."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from classify.classical.crossfit import HeldOut, cross_fit
from classify.classical.products import unit_products
from classify.folds import Splits
from classify.fusion import SideBySide, combined, weightings
from features.runtime.log import log
from features.runtime.progress import progress

# Candidates that score the same: the simplest wins, which stands first in its list, then even weights.


class Searched(NamedTuple):
    """The result of a search.

    Attributes:
        params: the best settings.
        weights: the best weights of stacks side by side, else None.
        held_out: what models of these settings said of held-out rows.
        nested: of each fold, what models of the settings said that are the best on the other folds.
        products: (n, n) of the rows under these weights, None where rows are not wide.
        table: `params`, `mean` and `scores` (of each fold) of all candidates, in the order they were tried.
    """

    params: dict[str, Any]
    weights: tuple[float, ...] | None
    held_out: HeldOut
    nested: list[HeldOut]
    products: np.ndarray | None
    table: list[dict[str, Any]]


def search(
    estimator: Any,
    grid: Mapping[str, Sequence[float]],
    X: Any,
    y: np.ndarray,
    splits: Splits,
    products: Sequence[np.ndarray] | None = None,
    balance: bool = False,
    jobs: int = 1,
) -> Searched:
    """Score every combination of a grid, and of weights where rows are of several stacks, on the same folds.

    Args:
        estimator: a `Tempered`, unfitted.
        grid: settings → values, the simplest model's first; the setting that the estimator names as `walked` is walked
            along inside each combination of the others.
        X: (n, d) array or `Stack`.
        y: (n,) int64 class indices.
        splits: (train, held-out) indices of each fold, see `folds`.
        products: (n, n) `unit_products` of X, of each stack if there are several; by default computed where needed.
        balance: score balanced accuracy instead of accuracy.
        jobs: fits at a time, see `over`.
    """
    fused = isinstance(X, SideBySide)
    weighting: Sequence[Any] = weightings(len(X.parts)) if fused else [None]
    total = len(weighting) * int(np.prod([len(values) for values in grid.values()]))
    if products is None and estimator.wants_products(X):
        products = [unit_products(part) for part in (X.parts if fused else [X])]
    table: list[dict[str, Any]] = []
    best: tuple[Any, ...] = ()
    nested: list[tuple[Any, HeldOut]] = []
    with SearchBar(total, len(splits)) as progress:
        for weights in weighting:
            rows = X.weighted(weights) if fused else X
            shared = None if products is None else combined(products, weights) if weights else products[0]
            scale = estimator.scale(rows, shared)

            def space_of(candidate: Any, rows: Any = rows, shared: Any = shared, scale: float = scale) -> Any:
                return candidate.space(rows, y, shared, scale)

            spaces = Spaces(scale, space_of, y)
            for candidate in tried(estimator, grid, spaces, splits, balance, jobs, progress.update):
                entry = candidate.entry | ({"weights": weights} if weights else {})
                table.append(entry)
                uneven = float(np.ptp(weights)) if weights else 0.0
                rank = (*candidate.rank(), uneven)
                if not best or rank < best[0]:
                    best = (rank, candidate.params, weights, candidate.held_out)
                without = [((*candidate.rank(fold), uneven), candidate.held_out) for fold in range(len(splits))]
                nested = [min(pair, key=lambda each: each[0]) for pair in zip(nested or without, without, strict=True)]
                progress.best(-best[0][0], best[1])
    _, params, weights, held_out = best
    shared = None if products is None else combined(products, weights) if weights else products[0]
    return Searched(params, weights, held_out, [each for _, each in nested], shared, table)


class Spaces(NamedTuple):
    """What plain estimators take of the same rows.

    Attributes:
        scale: of the rows, see `Tempered.scale`.
        of: an estimator → what its plain form takes, see `Tempered.space`.
        y: (n,) int64 class indices.
    """

    scale: float
    of: Callable[[Any], Any]
    y: np.ndarray


class Candidate(NamedTuple):
    """Settings that were tried.

    Attributes:
        params: the settings.
        held_out: what models of these settings said of held-out rows.
        scores: of each fold.
        places: of the settings in their lists, the simplest model's first.
    """

    params: dict[str, Any]
    held_out: HeldOut
    scores: list[float]
    places: list[int]

    def rank(self, but: int | None = None) -> tuple[float, ...]:
        """The least is the best: the highest mean score, without that of one fold, and of equal ones the simplest."""
        counted = [score for fold, score in enumerate(self.scores) if fold != but or len(self.scores) == 1]
        return (-round(float(np.mean(counted)), 9), *self.places)

    @property
    def entry(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        told = {"params": self.params, "mean": float(np.mean(self.scores)), "scores": self.scores}
        return told | {"converged": self.held_out.converged}


def tried(
    estimator: Any,
    grid: Mapping[str, Sequence[float]],
    spaces: Spaces,
    splits: Splits,
    balance: bool = False,
    jobs: int = 1,
    done: Callable[[int], object] = lambda fits: None,
) -> Iterator[Candidate]:
    """Every combination of a grid, scored on the same folds.

    Args:
        spaces: of the rows.
        done: told how many more fits were done.
        estimator, grid, splits, balance, jobs: see `search`.
    """
    walked = estimator.walked
    others = [name for name in grid if name != walked]
    for values in product(*(grid[name] for name in others)):
        fixed = dict(zip(others, values, strict=True))
        candidates = [clone(estimator).set_params(**fixed, **{walked: value}) for value in grid[walked]]
        plain = [candidate.plain(spaces.scale) for candidate in candidates]
        answers = cross_fit(plain, spaces.of(candidates[0]), spaces.y, splits, jobs, done)
        for candidate, answer in zip(candidates, answers, strict=True):
            params = {walked: getattr(candidate, walked), **fixed}
            places = [list(grid[name]).index(params[name]) for name in (walked, *others)]
            yield Candidate(params, answer, fold_scores(answer, spaces.y, balance), places)


def fold_scores(answer: HeldOut, y: np.ndarray, balance: bool) -> list[float]:
    """Accuracy, or balanced accuracy, of each fold's held-out rows."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    score = balanced_accuracy_score if balance else accuracy_score
    pieces = zip(np.split(answer.rows, answer.ends[:-1]), np.split(answer.predicted, answer.ends[:-1]), strict=True)
    return [float(score(y[rows], predicted)) for rows, predicted in pieces]


def settings(score: float, params: Mapping[str, Any]) -> str:
    """A score and the settings that reached it, in words."""
    return f"{score:.2%} with " + ", ".join(f"{name} = {value:g}" for name, value in params.items())


class SearchBar:
    """A bar on a terminal, and in any case a line at the end, on stderr."""

    def __init__(self, candidates: int, folds: int) -> None:
        self.candidates, self.folds = candidates, folds

    def __enter__(self) -> "SearchBar":

        self._bar = progress(total=self.candidates * self.folds, unit="fits")
        self._began = time.perf_counter()
        self._found = ""
        return self

    def update(self, fits: int) -> None:
        """Count more finished fits."""
        self._bar.update(fits)

    def best(self, score: float, params: Mapping[str, Any]) -> None:
        """These settings are the best so far."""
        self._found = settings(score, params)

    def __exit__(self, kind: object, *_: object) -> None:
        self._bar.close()
        if kind is None:
            seconds = time.perf_counter() - self._began
            fits = self.candidates * self.folds
            log.info(
                f"{self.candidates} candidates × {self.folds} folds in {seconds:.1f} s ({fits / seconds:.1f} fits/s); "
                f"best inside train: {self._found}",
            )
