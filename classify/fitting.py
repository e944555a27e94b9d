"""Fit a classical model to the train rows by the method that memory allows, with or without a search."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from classify.classical import memory
from classify.folds import Splits, folds, sides
from classify.fusion import SideBySide, combined, parts
from classify.models import Model
from classify.rows import shape
from features import Refused, Stack
from features.runtime.log import log
from features.runtime.machine import cores, free_memory

ALONE = "--search needs at least two train images of every class, to hold one out"
METHODS = {
    "span": "fewer rows than columns: fitted in the rows' span",
    "primal": "no fewer rows than columns: fitted to the rows as they are",
    "passes": "fitted in passes over the rows",
    "kernel": "fitted on the inner products of all pairs of rows",
    "nystrom": "fitted on kernels with some of the rows (Nyström)",
    "blocks": "neighbours are found in blocks of rows",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How models are fitted; see `fit`.

    Attributes:
        search: whether classical models choose their settings by cross-validation inside the train rows; `fine` has
            linear models try 45 penalties.
        balance: whether every class weighs the same in classical models.
        jobs: threads; 0 for as many as there are cores.
        dask: where the search's fits run, and passes over many rows; None for this machine.
        seed: of everything random.
    """

    search: bool | str = False
    balance: bool = False
    jobs: int = 0
    dask: str | None = None
    seed: int = 0

    @property
    def threads(self) -> int:
        return self.jobs or cores()


class TrainRows(NamedTuple):
    """What a classifier learns from.

    Attributes:
        stack: (n,) rows.
        X: the same rows as the classifier takes them, (n, d) array or `Stack`.
        y: (n,) int64 class indices 0…k−1.
        products: (n, n) `unit_products` of the flattened rows, of each stack, where X is those; else None.
        n_all: number of train and test rows together, which bounds the memory.
    """

    stack: Stack
    X: Any
    y: np.ndarray
    products: Sequence[np.ndarray] | None
    n_all: int


class Fitted(NamedTuple):
    """A fitted classifier.

    Attributes:
        estimator: fitted.
        weights: of the stacks that rows were fused of, else None.
        facts: what `result.json` says of the fit: `path`, `search`, `best`, `converged`, `history`.
        found: what fitting found that decides the model, beside the estimator's parameters.
        extract_seconds: of stage one for a stack that the classifier had made for itself.
        cut_seconds: of `fit` that went into having that stack.
        scores: (h,) float64 `scores_of` train rows that were held out; None where there are none.
    """

    estimator: Any
    weights: tuple[float, ...] | None
    facts: dict[str, Any]
    found: dict[str, Any]
    extract_seconds: float = 0.0
    cut_seconds: float = 0.0
    scores: np.ndarray | None = None


def choose_method(model: Model, train: Stack, pool: str) -> str | None:
    """A name in `METHODS`; None for XGBoost, which takes rows as they are, and for networks.

    Raises:
        Refused: the inner products of all pairs, or the rows that trees take, do not fit into memory.
    """
    if model.network:
        return None
    stacks = parts(train)
    width = shape(train)[1] if pool == "flatten" else sum(part.feature_shape[-1] for part in stacks)
    if model.takes == "rows":
        memory.check_trees(len(train), width, free_memory(), model.title)
        return None
    kernel, paired = model.takes == "products", model.paired(train.y)
    method = memory.choose_method(len(train), width, kernel, free_memory(), len(stacks), paired)
    why = ""
    if paired > memory.MOST_PAIRED:
        why = f": each of {paired:,} classes against the rest, as pairs of more than {memory.MOST_PAIRED} are too many"
    elif method is None and (kernel or len(train) < memory.MANY):
        gigabytes = memory.needed(len(train), width, kernel, len(stacks), paired) / 1e9
        why = f" (exact matrices would need {gigabytes:.1f} GB of memory, and {free_memory() / 1e9:.1f} GB are free)"
    log.info(f"{len(train):,} rows of {width:,} columns, {METHODS[method or model.of_many]}{why}")
    return method or model.of_many


def fit_classical(model: Model, method: str | None, train: TrainRows, settings: Settings) -> Fitted:
    """Fit, after a search where one is wanted.

    Args:
        model: the classifier's row.
        method: see `choose_method`.
        train: the rows.
        settings: how.

    Raises:
        Refused: a search is asked for that is not possible.
    """
    splits = folds(train.stack, train.y)
    if settings.search and not splits:
        raise Refused(ALONE)
    if settings.search and method == "blocks":
        raise Refused(f"{model.title}: --search needs the inner products of all pairs, which do not fit into memory")
    estimator = model.build(settings.seed).set_params(**(model.balanced if settings.balance else {}))
    if model.by_products:
        estimator.set_params(path=method)
    with threadpool_limits(settings.threads, "blas"), _rows_by(method, settings):
        if not model.saved_as:
            return _fit_own(estimator, train, splits)
        if model.takes == "rows":
            return _fit_trees(model, estimator, train, splits, settings)
        return _fit_products(model, estimator, train, splits, settings, {"path": method})


@contextmanager
def _rows_by(method: str | None, settings: Settings) -> Iterator[None]:
    """Passes over rows go to the workers of a Dask cluster, if one was named."""
    from classify.classical.crossfit import alike
    from classify.classical.workers import on_workers

    if method != "passes" or settings.dask is None:
        yield
        return
    with alike(settings.dask) as client, on_workers(client):
        yield


def _fit_products(
    model: Model, estimator: Any, train: TrainRows, splits: Splits, settings: Settings, facts: dict[str, Any]
) -> Fitted:
    X, products, weights = train.X, train.products, _weights(train.X)
    from classify.classical.crossfit import over
    from classify.classical.search import search

    jobs = memory.threads(settings.threads, *shape(X), train.n_all, free_memory(), len(parts(train.stack)))
    held_out, nested = None, []
    whole = None if products is None else combined(products, weights) if weights else products[0]
    grid = model.searched(settings.search, int(np.bincount(train.y).min()))
    if grid and splits and facts["path"] != "blocks":
        dask = None if facts["path"] == "passes" else settings.dask  # they are on the cluster already
        with over(dask, jobs) as fits:
            best = search(estimator, grid, X, train.y, splits, products, settings.balance, fits)
        estimator.set_params(**best.params)
        held_out, nested = best.held_out, best.nested
        whole, weights = best.products, best.weights
        facts = {**facts, "search": best.table, "best": best.params}
        X = X.weighted(weights) if weights else X
    estimator.fit(X, train.y, whole, splits, held_out, nested, jobs)
    facts = facts | converged(estimator.model_)
    return Fitted(estimator, weights, facts, estimator.found(), scores=estimator.scores_)


def _fit_trees(model: Model, estimator: Any, train: TrainRows, splits: Splits, settings: Settings) -> Fitted:
    from classify.classical.trees import FEW, OF_FEW, are_few, fit_trees, search_trees

    estimator.set_params(n_jobs=settings.threads)
    facts: dict[str, Any] = {}
    if settings.search:
        balance, dask = settings.balance, settings.dask
        best, table = search_trees(estimator, model.grid, train.X, train.y, splits, balance, dask)
        estimator.set_params(**best)
        facts = {"search": table, "best": best}
    elif are_few(train.y):
        estimator.set_params(**OF_FEW)
        log.info(f"{OF_FEW['n_estimators']} small trees, as a class has fewer than {FEW} rows")
    split = sides(train.stack, train.y, settings.seed)
    fitted, scores = fit_trees(estimator, train.X, train.y, *split, settings.balance)
    return Fitted(fitted, None, facts, {}, scores=scores)


def _fit_own(estimator: Any, train: TrainRows, splits: Splits) -> Fitted:
    """A user's classifier. A search among its settings gets our folds, which keep groups and copies together."""
    if "cv" in estimator.get_params(deep=False) and estimator.get_params()["cv"] is None and splits:
        estimator.set_params(cv=list(splits))
    return Fitted(estimator.fit(np.asarray(train.X), train.y), None, {}, {})


def converged(solver: Any) -> dict[str, bool]:
    """`converged`: False if scikit-learn's solver gave up, which stderr says too. Empty if there is no solver.

    Args:
        solver: a fitted scikit-learn estimator, or None.
    """
    if solver is None:
        return {}
    steps, most = int(np.max(solver.n_iter_)), solver.max_iter
    sound = not getattr(solver, "fit_status_", 0) and (most < 0 or steps < most)
    if not sound:
        log.warning(f"not converged after {steps} iterations; `converged` in result.json is false")
    return {"converged": sound}


def _weights(X: Any) -> tuple[float, ...] | None:
    return X.weights if isinstance(X, SideBySide) else None
