"""Decisions about held-out rows, which choose between candidates and calibrate probabilities."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags
from sklearn.utils.class_weight import compute_sample_weight

from classify.classical.axes import Axes
from classify.classical.descent import ROUGH, SCORED, STEPS, Descent, Minimum
from classify.classical.losses import columns, loss_of
from classify.classical.passes import Rows
from classify.folds import Splits
from classify.models import model_versions
from features.runtime.cluster import all_fit, connect, other_versions

AXES_OF = 2048  # rows or columns up to which finding the axes of a matrix is the smaller part of a descent on it
LIBLINEAR = threading.Lock()  # it draws from one generator: side by side, fits would take each other's numbers


class HeldOut(NamedTuple):
    """Decisions of models about the rows that each had not seen, fold after fold.

    Attributes:
        rows: (m,) indices of those rows; with augmented views not all there are.
        predicted: (m,) labels.
        decisions: (m,) or (m, classes) decisions.
        ends: where each fold ends in them.
        converged: whether every fold's solver did.
    """

    rows: np.ndarray
    predicted: np.ndarray
    decisions: np.ndarray
    ends: list[int]
    converged: bool


def cross_fit(
    estimators: Sequence[Any],
    space: Any,
    y: np.ndarray,
    splits: Splits,
    jobs: int = 1,
    done: Callable[[int], object] = lambda fits: None,
) -> list[HeldOut]:
    """Fit estimators to the train part of every fold.

    Folds and estimators run side by side in threads: the solvers of scikit-learn release the interpreter. Each takes
    its rows out of one shared matrix, and several estimators share what was taken. BLAS gets the cores that are left.
    On Dask (`over`) joblib sends the matrix to the workers once, and the answers come back.

    Args:
        estimators: unfitted, alike but for their penalty `C`; those that can start warm walk along it.
        space: (n, r) rows, or (n, n) kernel where the estimators take one; or a `Descent`, which fits all folds in the
            same passes.
        y: (n,) labels.
        splits: (train, held-out) indices of each fold, at least one.
        jobs: threads.
        done: told how many more fits were done, fold by fold.

    Returns:
        of each estimator.
    """
    if isinstance(space, Descent):
        return _cross_fit_by_passes(estimators, space, splits, done)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.parallel import Parallel, delayed
    from threadpoolctl import threadpool_limits

    walks = "warm_start" in estimators[0].get_params()
    parts = 1 if walks else min(len(estimators), -(-4 * jobs // len(splits)))
    tasks = [(fold, part) for fold in splits for part in np.array_split(np.arange(len(estimators)), parts)]
    with threadpool_limits(max(1, jobs // len(tasks)), "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        answers = []
        for answer in Parallel(n_jobs=min(jobs, len(tasks)), prefer="threads", return_as="generator")(
            delayed(_fit_fold)([estimators[i] for i in part], space, y, *fold, walks) for fold, part in tasks
        ):
            answers.append(answer)
            done(len(answer))
    held_out = []
    for i in range(len(estimators)):
        mine = [a[list(part).index(i)] for a, (_, part) in zip(answers, tasks, strict=True) if i in part]
        predicted, decisions, converged = zip(*mine, strict=True)
        held = [rows for _, rows in splits]
        ends = np.cumsum([len(rows) for rows in held]).tolist()
        held_out.append(
            HeldOut(np.concatenate(held), np.concatenate(predicted), np.concatenate(decisions), ends, all(converged))
        )
    return held_out


def ask_held_out(estimator: Any, space: Any, y: np.ndarray, splits: Splits, jobs: int = 1) -> HeldOut | None:
    """Decisions about the rows held out that say how sure a model of these settings is; None without folds.

    Logistic regression needs none to have probabilities, and five fits by its own solver cost four times as much as the
    model itself. So its folds come near their minima only, in the same passes.

    Args:
        estimator, space, y, splits, jobs: see `cross_fit`; there may be no fold.
    """
    if not splits:
        return None
    # Passes are over many rows: those that one fold holds out are enough, and five folds cost five times as much.
    some = splits[:1] if isinstance(space, Descent) else splits
    if not isinstance(estimator, LogisticRegression):
        return cross_fit([estimator], space, y, some, jobs)[0]
    if not isinstance(space, Descent):
        rows = space.astype(np.float32)
        axes = Axes.along(rows) if min(rows.shape) > AXES_OF else None
        space = Descent(Rows(rows, y, are_unit=True, threads=jobs), axes)
    weights = row_weights(estimator, y, [train for train, _ in some])
    found = space.minimise(loss_of(estimator, int(y.max()) + 1), estimator.C, weights, tolerance=ROUGH)
    return answered_by_passes(space, found, [held for _, held in some])


def fit_by_passes(estimator: Any, descent: Descent) -> Any:
    """Fit a `LogisticRegression` or `LinearSVC` to all rows: its coefficients are the minimum that a descent finds."""
    codes = descent.passes.codes
    classes = int(codes.max()) + 1
    weights = row_weights(estimator, codes, [np.arange(len(codes))])
    found = descent.minimise(loss_of(estimator, classes), estimator.C, weights)
    estimator.classes_, estimator.n_features_in_ = np.arange(classes), descent.passes.shape[1]
    estimator.coef_, estimator.intercept_ = found.coef.T.astype(np.float64), found.intercept
    estimator.set_params(max_iter=STEPS)
    estimator.n_iter_, estimator.fit_status_ = np.array([found.steps]), int(not found.converged)
    return estimator


def _cross_fit_by_passes(
    estimators: Sequence[Any], descent: Descent, splits: Splits, done: Callable[[int], object]
) -> list[HeldOut]:
    """`cross_fit` of all folds at a time; each estimator starts from the one before."""
    codes = descent.passes.codes
    classes = int(codes.max()) + 1
    answers: list[HeldOut] = []
    found = None
    for estimator in estimators:
        weights = row_weights(estimator, codes, [train for train, _ in splits])
        found = descent.minimise(loss_of(estimator, classes), estimator.C, weights, found, SCORED)
        answers.append(answered_by_passes(descent, found, [held for _, held in splits]))
        done(len(splits))
    return answers


def answered_by_passes(descent: Descent, found: Minimum, parts: Sequence[np.ndarray]) -> HeldOut:
    """What models that a descent found say of some rows, each of its own part."""
    classes = int(descent.passes.codes.max()) + 1
    held = np.concatenate(parts)
    model = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    order = np.argsort(held, kind="stable")
    scores = np.empty((len(held), len(parts), columns(classes)), np.float32)
    scores[order] = descent.passes.scores(found.coef, found.intercept, held[order]).reshape(scores.shape)
    decisions = scores[np.arange(len(held)), model].astype(np.float64)
    predicted = decisions.argmax(axis=1) if classes > 2 else (decisions[:, 0] > 0).astype(np.int64)
    ends = np.cumsum([len(rows) for rows in parts]).tolist()
    return HeldOut(held, predicted, decisions if classes > 2 else decisions[:, 0], ends, found.converged)


def row_weights(estimator: Any, codes: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """(n, f) float32: how much each row counts in a fit to each of f parts of the rows, by the `class_weight`."""
    weights = np.zeros((len(codes), len(parts)), np.float32)
    for part, rows in enumerate(parts):
        weights[rows, part] = compute_sample_weight(estimator.class_weight, codes[rows])
    return weights


@contextmanager
def over(dask: str | None, jobs: int) -> Iterator[int]:
    """Have joblib run jobs in threads here, or on a Dask cluster; yields how many run at a time.

    Args:
        dask: see `fit`.
        jobs: threads here.

    Raises:
        Refused, Failed: there is no such cluster, or a worker of it has other versions; see `connect`.
    """
    from joblib import parallel_config

    if dask is None:
        with parallel_config("threading"):
            yield jobs
        return
    with alike(dask) as client, parallel_config("dask", client=client):
        yield sum(client.nthreads().values())


@contextmanager
def alike(dask: str) -> Iterator[Any]:
    """A client of a cluster whose workers have the versions that are here; raises what `over` does."""
    with connect(dask) as client:
        all_fit(client, _unfit, model_versions())
        yield client


def _unfit(here: dict[str, str]) -> str:
    return other_versions(here, model_versions())


def _fit_fold(
    estimators: Sequence[Any],
    space: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    walks: bool,
) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """(predicted, decisions, whether it converged) of each estimator on one fold's held-out rows."""
    pairwise = get_tags(estimators[0]).input_tags.pairwise
    seen, unseen = (space[np.ix_(rows, train)] if pairwise else space[rows] for rows in (train, held))
    answers = []
    fitted = clone(estimators[0])
    for estimator in estimators:
        fitted = fitted.set_params(C=estimator.C, warm_start=True) if walks else clone(estimator)
        with LIBLINEAR if isinstance(fitted, LinearSVC) else nullcontext():
            fitted.fit(seen, y[train])
        steps, most = np.max(getattr(fitted, "n_iter_", 0)), getattr(fitted, "max_iter", -1)  # not all have a solver
        answers.append((fitted.predict(unseen), fitted.decision_function(unseen), bool(most < 0 or steps < most)))
    return answers
