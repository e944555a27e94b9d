"""One cell of a comparison: one model, on one feature set, fitted and scored on one split."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from classify.across.feature_set import FeatureSet
from classify.across.splits import Split
from classify.classical import memory
from classify.classical.calibration import Tempered
from classify.classical.crossfit import HeldOut, answered_by_passes, cross_fit, row_weights
from classify.classical.descent import SCORED, Descent, Minimum
from classify.classical.linear import gives_probabilities
from classify.classical.losses import loss_of
from classify.classical.search import Spaces, tried
from classify.comparison.predictions import read_predictions
from classify.fitting import Settings, TrainRows, choose_method, fit_classical
from classify.models import Model
from classify.saved import load_answers
from classify.task import Task
from features import Stack


class Answers(NamedTuple):
    """What a cell's model says.

    Attributes:
        predicted: (m,) int64 class indices 0…k−1 of the test rows.
        probabilities: (m, k) float64; None where there are none.
        held: (h,) indices of train rows that were held out: in turn, or of a network, to stop by.
        held_probabilities: (h, k) float32 of models that had not seen them; None where there are none.
        facts: JSON: `fit_seconds`, `predict_seconds`, and the settings that a search chose.
    """

    predicted: np.ndarray
    probabilities: np.ndarray | None
    held: np.ndarray
    held_probabilities: np.ndarray | None
    facts: dict[str, Any]


def answers(model: Model, features: FeatureSet, split: Split, settings: Settings, job: "Job") -> Answers:
    """Fit a model to the train part of a split, and ask it about the test part.

    With a search, settings are chosen inside the train part. Where the inner products of all rows are shared, a cell
    costs no look at the rows themselves.

    Args:
        model: the classifier's row.
        features: the rows.
        split: the parts.
        settings: how.
        job: what networks need beside.
    """
    if model.network:
        return _by_network(model, features, split, settings, job)
    if model.by_products and features.shares and model.paired(features.y) <= memory.MOST_PAIRED:
        with threadpool_limits(settings.threads, "blas"):
            return _by_products(model, features, split, settings)
    return _by_rows(model, features, split, settings)


class Job(NamedTuple):
    """What a network's cell needs beside rows and split.

    Attributes:
        folder: where it is saved.
        options: settings that the command line gave.
        about: what to record beside it.
    """

    folder: Path
    options: dict[str, Any]
    about: dict[str, Any]


def _by_products(model: Model, features: FeatureSet, split: Split, settings: Settings) -> Answers:
    """A linear model along the shared axes, or a kernel machine or neighbours on the shared inner products."""
    shared, y = features.shared, features.y
    began = time.perf_counter()
    balanced = model.balanced if settings.balance else {}
    path = "passes" if model.takes == "span" else "kernel"
    estimator: Tempered = model.build(settings.seed).set_params(path=path, **balanced)
    scale = shared.spread(split.train)

    def space_of(each: Any) -> Any:
        return shared.descent if model.takes == "span" else each.space(None, y, shared.products, scale)

    inside: HeldOut | None = None
    facts: dict[str, Any] = {}
    grid = model.searched(settings.search, int(np.unique(y[split.train], return_counts=True)[1].min()))
    if grid and split.folds:
        every = tried(estimator, grid, Spaces(scale, space_of, y), split.folds, settings.balance, settings.threads)
        best = min(every, key=lambda each: each.rank())
        estimator.set_params(**best.params)
        inside, facts = best.held_out, {"best": best.params}
    estimator.set_params(**estimator.left_open(y[split.train]))
    parts = [(split.train, split.test), *([] if inside else split.folds)]
    plain, space = estimator.plain(scale), space_of(estimator)
    if isinstance(space, Descent):
        test, folds = _by_descent(plain, space, y, parts)
    else:
        test, folds = _apart(cross_fit([plain], space, y, parts, settings.threads)[0])
    inside = inside or folds
    T = None
    if inside is not None or gives_probabilities(plain):
        known = inside or test  # logistic regression's is its own, and asks no rows
        T = estimator.find_temperature(known.decisions, y[known.rows])
    probabilities = estimator.probabilities(test.decisions, test.predicted, T)
    held = None if inside is None else estimator.probabilities(inside.decisions, inside.predicted, T)
    facts |= {"fit_seconds": time.perf_counter() - began, "converged": test.converged}
    return Answers(
        test.predicted,
        probabilities,
        np.empty(0, np.int64) if inside is None else inside.rows,
        None if held is None else held.astype(np.float32),
        facts,
    )


def _by_descent(plain: Any, descent: Descent, y: np.ndarray, parts: Any) -> tuple[HeldOut, HeldOut | None]:
    """Decisions of the first part's model about its held-out rows, and of the others' about theirs: all in one go."""
    weights = row_weights(plain, y, [train for train, _ in parts])
    loss = loss_of(plain, int(y.max()) + 1)
    rough = descent.minimise(loss, plain.C, weights, tolerance=SCORED)
    columns = rough.coef.shape[1] // len(parts)
    near = Minimum(rough.coef[:, :columns], rough.intercept[:columns], 0, True)
    fine = descent.minimise(loss, plain.C, weights[:, :1], near)
    test = answered_by_passes(descent, fine, [parts[0][1]])
    if len(parts) == 1:
        return test, None
    rest = Minimum(rough.coef[:, columns:], rough.intercept[columns:], rough.steps, rough.converged)
    return test, answered_by_passes(descent, rest, [held for _, held in parts[1:]])


def _apart(every: HeldOut) -> tuple[HeldOut, HeldOut | None]:
    """The first part of held-out rows, and the others."""
    end = every.ends[0]

    def some(at: slice, ends: list[int]) -> HeldOut:
        return HeldOut(every.rows[at], every.predicted[at], every.decisions[at], ends, every.converged)

    first = some(slice(end), [end])
    return first, some(slice(end, None), [each - end for each in every.ends[1:]]) if len(every.ends) > 1 else None


def _by_rows(model: Model, features: FeatureSet, split: Split, settings: Settings) -> Answers:
    """A model fitted to the rows themselves, as `fit` does."""
    pool = features.pool_for(model.pool)
    train, test = features.stack.take(split.train), features.stack.take(split.test)
    method = choose_method(model, train, pool)
    rows = features.rows(pool)
    seen, asked = (train, test) if isinstance(rows, Stack) else (rows[split.train], rows[split.test])
    if model.takes == "rows" and isinstance(rows, Stack):
        seen, asked = train.X, test.X
    began = time.perf_counter()
    found = TrainRows(train, seen, features.y[split.train], None, len(features.stack))
    fitted = fit_classical(model, method, found, settings)
    ended = time.perf_counter()
    if isinstance(fitted.estimator, Tempered):
        predicted, probabilities = fitted.estimator.answering.answer(asked)
    else:
        predicted = np.asarray(fitted.estimator.predict(asked))
        tells = hasattr(fitted.estimator, "predict_proba")
        probabilities = np.asarray(fitted.estimator.predict_proba(asked), np.float64) if tells else None
    clock = {"fit_seconds": ended - began, "predict_seconds": time.perf_counter() - ended}
    facts = clock | {name: fitted.facts[name] for name in ("best", "converged") if name in fitted.facts}
    return Answers(predicted, probabilities, np.empty(0, np.int64), None, facts)


def _by_network(model: Model, features: FeatureSet, split: Split, settings: Settings, job: Job) -> Answers:
    """A network, trained and saved as `fit` does."""
    task = Task(features.stack.with_split(split.code), None, settings)
    task.run(model, features.pool_for(model.pool), job.options, job.folder, job.about)
    result = json.loads((job.folder / "result.json").read_text("utf-8"))
    if result["params"].get("stopped_") == "interrupted":
        raise KeyboardInterrupt
    said = read_predictions(job.folder / "predictions.csv", features.stack.label_names)
    classes = np.unique(features.stack.y)
    probabilities = None if said.proba is None else said.proba[:, classes]
    _, check = model.build(settings.seed).sides(task.train, task.y_train)  # that it stopped by, and did not learn from
    inside = load_answers(job.folder)[0].predict_proba(task.train.take(check)) if len(check) else None
    facts = {name: result[name] for name in ("fit_seconds", "predict_seconds")}
    held = split.train[check]
    return Answers(np.searchsorted(classes, said.predicted), probabilities, held, inside, facts)
