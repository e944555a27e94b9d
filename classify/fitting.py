"""Fit one of scikit-learn's classifiers or XGBoost to the train rows: the path that memory allows, searched or not."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from classify.classical import memory
from classify.classical.search import search
from classify.folds import folds
from classify.fusion import SideBySide, combined, parts
from classify.models import Model
from classify.rows import shape
from features import Refused, Stack
from features.runtime.machine import free_memory

ALONE = "--search needs at least two train images of every class, to hold one out"


class Fitted(NamedTuple):
    """A fitted classifier.

    Attributes:
        estimator: fitted.
        weights: of the stacks that rows were fused of, else None.
        facts: what `result.json` says of the fit: `path`, `search` and `best`.
    """

    estimator: Any
    weights: tuple[float, ...] | None
    facts: dict[str, Any]


def choose_path(model: Model, train: Stack, pool: str) -> str | None:
    """`kernel`, `span`, `primal` or `out of core`; None for XGBoost, which takes rows as they are.

    Raises:
        Refused: a kernel machine's matrices, or the rows that trees take, do not fit into memory.
    """
    stacks = parts(train)
    width = shape(train)[1] if pool == "flatten" else sum(part.feature_shape[-1] for part in stacks)
    if model.takes != "products":
        memory.check_trees(len(train), width, free_memory())
        return None
    way = memory.choose_method(len(train), width, "gamma" in model.grid, free_memory(), len(stacks))
    told = {
        "span": "fewer rows than columns: fitted in the rows' span",
        "primal": "no fewer rows than columns: fitted to the rows as they are",
        "out of core": "the matrices do not fit into memory: fitted by stochastic gradients, read from the disk",
        "kernel": "fitted on the kernel of all pairs of rows",
    }
    print(f"{len(train):,} rows of {width:,} columns, {told[way]}", file=sys.stderr)
    return way


def fit_classical(
    model: Model,
    way: str | None,
    train: Stack,
    X: Any,
    y: np.ndarray,
    products: Sequence[np.ndarray] | None,
    *,
    seed: int,
    wanted: bool,
    balance: bool,
    jobs: int,
    dask: str | None,
    rows: int,
) -> Fitted:
    """Fit, after a search where one is wanted.

    Args:
        model: the classifier's row.
        way: as of `choose_path`.
        train: the train rows.
        X: the same rows as the classifier takes them.
        y: (n,) int64 class indices 0…k−1.
        products: (n, n) `unit_products` of the flattened rows of each stack, if X is those.
        seed: of everything random.
        wanted: whether to search.
        balance: whether every class weighs the same.
        jobs: threads.
        dask: where the search's fits run, as of `fit`; else here.
        rows: train and test rows, which bound the memory.

    Raises:
        Refused: a search is asked for that is not possible.
    """
    estimator = model.build(seed).set_params(**(model.balanced if balance else {}))
    splits = folds(train, y)
    if wanted and (not splits or way == "out of core"):
        raise Refused(ALONE if not splits else f"--search needs the rows in memory, which {model.title} does not get")
    weights = X.weights if isinstance(X, SideBySide) else None
    facts: dict[str, Any] = {} if way is None else {"path": way}
    with threadpool_limits(jobs, "blas"):
        if model.takes == "array":
            return _trees(model, estimator.set_params(n_jobs=jobs), train, X, y, splits, seed, wanted, balance, dask)
        if way == "out of core":
            from sklearn.linear_model import SGDClassifier

            from classify.classical.outofcore import OutOfCore

            weighed = "balanced" if balance else None
            sgd = SGDClassifier(loss=model.loss, average=True, class_weight=weighed, random_state=seed)
            return Fitted(OutOfCore(sgd, estimator.c).fit(X, y), weights, facts)
        jobs = memory.threads(jobs, *shape(X), rows, free_memory(), len(parts(train)))
        held_out = None
        whole = None if products is None else combined(products, weights) if weights else products[0]
        if wanted:
            found = search(estimator, model.grid, X, y, splits, products, balance, jobs, dask)
            estimator.set_params(**found.params)
            held_out, whole, weights = found.held_out, found.products, found.weights
            facts |= {"search": found.table, "best": found.params}
            X = X.weighted(weights) if weights else X
        estimator.fit(X, y, whole, splits, held_out, jobs)
        return Fitted(estimator, weights, facts | converged(estimator))


def converged(estimator: Any) -> dict[str, bool]:
    """`converged`, False where the solver of a fitted linear or kernel machine gave up; said on stderr too."""
    inner = estimator.svc_ if hasattr(estimator, "svc_") else estimator.model_
    steps, most = int(np.max(inner.n_iter_)), inner.max_iter
    sound = not getattr(inner, "fit_status_", 0) and (most < 0 or steps < most)
    if not sound:
        print(f"warning: not converged after {steps} iterations; `converged` in result.json is false", file=sys.stderr)
    return {"converged": sound}


def _trees(
    model: Model,
    estimator: Any,
    train: Stack,
    X: np.ndarray,
    y: np.ndarray,
    splits: Any,
    seed: int,
    wanted: bool,
    balance: bool,
    dask: str | None,
) -> Fitted:
    from classify.classical.trees import fit_trees, search_trees
    from classify.folds import sides

    facts: dict[str, Any] = {}
    if wanted:
        best, table = search_trees(estimator, model.grid, X, y, splits, balance, dask)
        estimator.set_params(**best)
        facts = {"search": table, "best": best}
    return Fitted(fit_trees(estimator, X, y, *sides(train, y, seed), balance), None, facts)
