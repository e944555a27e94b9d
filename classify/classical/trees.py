"""XGBoost: how many trees, which settings, on which device."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.class_weight import compute_sample_weight

from classify.classical.crossfit import over
from classify.classical.search import settings
from classify.coverage import scores_of
from classify.folds import Splits
from features.runtime.log import log
from features.runtime.progress import progress

MOST_TREES = 1000
PATIENCE = 20  # trees without a lower loss before boosting stops
FACTOR = 3  # each round of halving keeps one candidate in three, and gives it three times the trees
FEWEST_TREES = 20  # of the first round
FEW = 15  # rows of the smallest class, below which trees are grown as `OF_FEW` says
# By default no leaf may hold a few rows, and the same few columns separate them again and again: of two classes of two
# photos of food101-10 every answer was the same. Many small trees on other columns were right about 70 %; of four
# classes of five about 70 instead of 56 %, nearest mean about 74.
OF_FEW = {
    "n_estimators": 600,
    "learning_rate": 0.05,
    "max_depth": 2,
    "colsample_bynode": 0.005,
    "min_child_weight": 0,
}
BLOCK, ROUNDS = 20_000, 5  # rows of a block, and rounds of boosting on it
TREES = 8000  # of all classes at most, in blocks


def fit_trees(
    estimator: Any, X: np.ndarray, y: np.ndarray, train: np.ndarray, check: np.ndarray, balance: bool
) -> tuple[Any, np.ndarray | None]:
    """Fit an XGBClassifier; rows put aside decide the number of trees.

    Trees are added to the train part until the log loss of the others has not fallen for 20 rounds; then the number
    at which it was least is grown on all rows. Where a class has fewer than 15 rows, the others are too few to say
    when: the estimator's own number is grown. More than 20,000 rows are boosted in blocks, see `_fit_in_blocks`.

    Args:
        estimator: unfitted; without rows to check on, its own `n_estimators` are grown.
        X: (n, d) rows.
        y: (n,) int64 class indices 0…k−1.
        train, check: indices of the rows to grow on and to check on.
        balance: whether every class weighs the same.

    Returns:
        the fitted classifier, and `scores_of` the rows to check on by the trees that were grown without them; None
        where there were none.
    """
    weights = compute_sample_weight("balanced", y) if balance else np.ones(len(y))
    if len(train) > BLOCK and len(check):
        fitted = _fit_in_blocks(estimator, X, y, weights, train, check)
        return fitted, scores_of(fitted.predict_proba(X[check]), y[check])
    scores = None
    if len(check) and len(np.unique(y[train])) == len(np.unique(y)):
        probe, told = clone(estimator), {}
        if not are_few(y):
            probe.set_params(n_estimators=MOST_TREES, early_stopping_rounds=PATIENCE)
            told = {"eval_set": [(X[check], y[check])], "sample_weight_eval_set": [weights[check]]}
        probe.fit(X[train], y[train], sample_weight=weights[train], verbose=False, **told)
        if told:
            estimator.set_params(n_estimators=probe.best_iteration + 1)
            log.info(f"{probe.best_iteration + 1} trees: the least loss on {len(check)} rows put aside")
        scores = scores_of(probe.predict_proba(X[check]), y[check])
    return estimator.fit(X, y, sample_weight=weights), scores


def are_few(y: np.ndarray) -> bool:
    """Whether a class of (n,) indices 0…k−1 has fewer than 15 rows."""
    return int(np.bincount(y).min()) < FEW


def _fit_in_blocks(
    estimator: Any, X: np.ndarray, y: np.ndarray, weights: np.ndarray, train: np.ndarray, check: np.ndarray
) -> Any:
    """Boost on blocks of rows, drawn anew every few rounds, until the loss of rows put aside does not fall.

    This is stochastic gradient boosting (Friedman, 2002). XGBoost's own `subsample` costs as much as all rows: on two
    cores a tree took 0.28 s for 94,000 rows at any share. Nothing is grown again on the rows put aside.
    """
    from xgboost import DMatrix, QuantileDMatrix
    from xgboost import train as boost

    classes = int(y.max()) + 1
    kind = {"objective": "multi:softprob", "num_class": classes} if classes > 2 else {"objective": "binary:logistic"}
    params = estimator.get_xgb_params() | kind | {"eval_metric": "mlogloss" if classes > 2 else "logloss"}
    random = np.random.default_rng(estimator.random_state)
    aside = np.sort(random.permutation(check)[: BLOCK // 4])
    beside = DMatrix(X[aside], y[aside], weight=weights[aside])
    most = min(MOST_TREES, max(PATIENCE, TREES // (classes if classes > 2 else 1)))
    losses: list[float] = []
    booster: Any = None
    with progress(total=most, unit="rounds") as bar:
        while len(losses) < most and len(losses) - int(np.argmin(losses or [0])) <= PATIENCE:
            rows = np.sort(random.choice(train, BLOCK, replace=False))
            block = QuantileDMatrix(X[rows], y[rows], weight=weights[rows], max_bin=estimator.max_bin)
            told: dict[str, Any] = {}
            rounds = min(ROUNDS, most - len(losses))
            how = {"evals": [(beside, "aside")], "evals_result": told, "verbose_eval": False, "xgb_model": booster}
            booster = boost(params, block, rounds, **how)
            losses += next(iter(told["aside"].values()))
            bar.update(rounds)
    best = int(np.argmin(losses)) + 1
    why = "the most that are grown" if best == most else f"the least loss on {len(aside):,} rows put aside"
    log.info(f"{best} trees a class, in blocks of {BLOCK:,} rows: {why}")
    estimator.load_model(bytearray(booster[:best].save_raw("ubj")))
    return estimator.set_params(n_estimators=best)


def search_trees(
    estimator: Any,
    grid: Mapping[str, Sequence[float]],
    X: np.ndarray,
    y: np.ndarray,
    splits: Splits,
    balance: bool,
    dask: str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The best settings by successive halving: all with few trees, the best third with three times as many, and so on.

    Args:
        estimator, X, y, balance: see `fit_trees`.
        grid: settings → values.
        splits: (train, held-out) indices of each fold.
        dask: where fits run, see `fit`; None for this machine.

    Returns:
        the best settings, and `params`, `mean` and `scores` (of each fold) of every candidate in every round.
    """
    began = time.perf_counter()
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    # One core a fit and the fits side by side: a tree's short parallel steps would mostly wait for each other.
    halving = HalvingGridSearchCV(
        clone(estimator).set_params(n_jobs=1),
        dict(grid),
        resource="n_estimators",
        factor=FACTOR,
        min_resources=FEWEST_TREES,
        max_resources=estimator.n_estimators,
        cv=splits,
        scoring="balanced_accuracy" if balance else "accuracy",
        refit=False,
    )
    with over(dask, estimator.n_jobs) as jobs:
        halving.set_params(n_jobs=jobs).fit(
            X, y, sample_weight=compute_sample_weight("balanced", y) if balance else np.ones(len(y))
        )
    results = halving.cv_results_
    table = [
        {
            "params": params,
            "mean": float(results["mean_test_score"][i]),
            "scores": [float(results[f"split{fold}_test_score"][i]) for fold in range(len(splits))],
        }
        for i, params in enumerate(results["params"])
    ]
    best = {name: value for name, value in halving.best_params_.items() if name in grid}
    log.info(
        f"{halving.n_candidates_[0]} candidates, halved to {halving.n_candidates_[-1]}, × {len(splits)} folds in "
        f"{time.perf_counter() - began:.1f} s; best inside train: {settings(halving.best_score_, best)}",
    )
    return best, table


def device() -> str:
    """`cuda` where XGBoost was built for it and there is a GPU, else `cpu`."""
    from xgboost import build_info

    return "cuda" if build_info().get("USE_CUDA") and list(Path("/dev").glob("nvidia[0-9]*")) else "cpu"
