"""The train and test rows of one comparison: fit a model to the ones, score it on the others, write it all down."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from classify.comparison.predictions import write_predictions
from classify.comparison.scores import scores
from classify.fusion import SideBySide, parts
from classify.models import Model
from classify.networks.checkpoint import Checkpoint
from classify.rows import check_finite, pooled
from features import Refused, Stack
from features.runtime.errors import listed
from features.runtime.lock import check_writable
from features.runtime.machine import cores
from features.schema import UNLABELLED


class Task:
    """The train and test rows of a stack, and what several models can share of them.

    Raises:
        Refused: fewer than two classes in train, no labelled test rows, fewer views than asked for, Dask and no search.

    Attributes:
        train, test: the labelled rows of either.
        views: augmented views of each train image among the train rows.
    """

    def __init__(
        self,
        stack: Stack,
        views: int | None = None,
        search: bool = False,
        balance: bool = False,
        jobs: int | None = None,
        dask: str | None = None,
    ) -> None:
        if dask is not None and not search:
            raise Refused(f"--dask {dask} runs the fits of a search on a cluster: give --search too")
        self.search, self.balance, self.jobs, self.dask = search, balance, jobs or cores(), dask
        there = int(stack.view.max(initial=0))
        self.views = there if views is None else views
        if not 0 <= self.views <= there:
            raise Refused(
                f"--views {views}: {stack.path} has {there or 'no'} views of its train images. "
                f"Make one that has them: python -m extract DATA --views {views}"
            )
        labelled = stack.take((stack.y != UNLABELLED) & (stack.view <= self.views))
        self.stack = stack
        self.train, self.test = labelled.select(("train", "val")), labelled.select("test")
        # Estimators get classes 0…k−1 even where every image of some class was rejected.
        self.classes, self.y_train = np.unique(self.train.y, return_inverse=True)
        if len(self.classes) < 2:
            raise Refused(f"{stack.path} has {len(self.classes)} classes among its train rows; a classifier needs two")
        if not len(self.test):
            raise Refused(f"{stack.path} has no labelled test rows to score on")
        if strange := [stack.label_names[label] for label in np.setdiff1d(self.test.y, self.classes)]:
            known = "no model can be right about these test rows"
            print(f"warning: classes without train rows, {known}: {listed(strange)}", file=sys.stderr)
        self.name = "+".join(part.path.stem for part in parts(stack))
        self._products: list[np.ndarray] | None = None
        self._products_seconds = 0.0

    def products(self) -> list[np.ndarray]:
        """Inner products of the flattened train rows, of each stack, computed once."""
        from classify.classical.span import unit_products

        if self._products is None:
            began = time.perf_counter()
            with threadpool_limits(self.jobs, "blas"):
                self._products = [unit_products(part) for part in parts(self.train)]
            self._products_seconds = time.perf_counter() - began
        return self._products

    def run(
        self, model: Model, pool: str, seed: int, options: dict[str, Any], folder: Path, about: dict[str, Any]
    ) -> Path:
        """Fit, predict the test rows with the model as it is saved, score, and write it all to a folder."""
        from classify.comparison.judge import leading_score
        from classify.fitting import choose_path, fit_classical
        from classify.saved import MODEL_FILES, load_model, recipes, save_model, write_json

        if not model.grid and isinstance(self.stack, SideBySide):
            raise Refused(f"{model.title} takes one stack; the classical models take several")
        way = choose_path(model, self.train, pool) if model.grid else None
        check_writable(folder)
        uses_products = pool == "flatten" and way in ("span", "kernel")
        shared = self.products() if uses_products else None
        started = time.perf_counter()
        train = self._rows(self.train, model, pool)
        facts: dict[str, Any] = {}
        checkpoint = None
        if model.grid:
            estimator, weights, facts = fit_classical(
                model,
                way,
                self.train,
                train,
                self.y_train,
                shared,
                seed=seed,
                wanted=self.search,
                balance=self.balance,
                jobs=self.jobs,
                dask=self.dask,
                rows=len(self.train) + len(self.test),
            )
            if weights:
                about = {**about, "weights": weights}
        else:
            pooling = {"pool": pool} if model.pool else {}
            estimator = model.build(seed).set_params(**options, **pooling)
            recorded = {
                "stack_key": self.stack.key,
                "model": model.title,
                "views": self.views,
                **estimator.get_params(),
            }
            checkpoint = Checkpoint(folder / "best.h5", recorded)
            estimator.fit(train, self.y_train, checkpoint)
        fitted = time.perf_counter()
        names = self.stack.label_names
        about = {
            **about,
            "pool": pool,
            "stack": " ".join(str(part.path) for part in parts(self.stack)),
            "stack_key": self.stack.key,
            "stack_keys": [part.key for part in parts(self.stack)],
            "recipes": recipes(self.stack),
            "label_names": names,
            "classes": self.classes.tolist(),
            "seed": seed,
            "views": self.views,
            **({"balance": True} if self.balance and model.grid else {}),
            "params": _parameters(estimator),
        }
        save_model(estimator, folder, about)
        saved, _ = load_model(folder)
        loaded = time.perf_counter()
        predicted, probabilities = self._answers(saved, about, model)
        predicted_at = time.perf_counter()
        result = {
            **about,
            **facts,
            **scores(self.test.y, predicted, len(names)),
            "leads_by": leading_score(self.y_train),
            "n_train": len(self.train),
            "n_test": len(self.test),
            # Each model is charged what it would have cost alone: the inner products that several share, and not for
            # the stack of its own that a fine-tuned network finds there or not.
            "extract_seconds": self.stack.extract_seconds + getattr(estimator, "extract_seconds_", 0.0),
            "fit_seconds": fitted
            - started
            - getattr(estimator, "cut_seconds_", 0.0)
            + (self._products_seconds if uses_products else 0.0),
            "predict_seconds": predicted_at - loaded,
            "model_bytes": sum(file.stat().st_size for file in folder.glob("*") if file.name in MODEL_FILES),
        }
        if hasattr(estimator, "history_"):
            result["history"] = estimator.history_
        write_predictions(folder / "predictions.csv", self.test, predicted, probabilities)
        write_json(folder / "result.json", result)
        if checkpoint and estimator.stopped_ != "interrupted":
            checkpoint.remove()
        return folder

    def _rows(self, split: Stack, model: Model, pool: str) -> Any:
        if model.takes == "stack":
            return split
        rows = pooled(split, pool)
        return rows.X if model.takes == "array" and isinstance(rows, Stack) else rows

    def _answers(self, estimator: Any, about: dict[str, Any], model: Model) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and probabilities of the test rows, as `SavedModel` gives them."""
        from classify.answers import SavedModel

        if not model.grid:
            given = np.zeros((len(self.test), len(self.stack.label_names)))
            given[:, self.classes] = estimator.predict_proba(self.test)
            return given.argmax(axis=1), given
        model_saved = SavedModel(estimator, about)
        labels, probabilities = [], []
        for start in range(0, len(self.test), model_saved.rows):
            block = np.arange(start, min(start + model_saved.rows, len(self.test)))
            rows = [np.asarray(part.take(block).X, "<f4") for part in parts(self.test)]
            for part, X in zip(parts(self.test), rows, strict=True):
                check_finite(part, start, X)
            answers = model_saved(rows)
            labels.append(answers[0])
            probabilities.append(answers[1])
        if probabilities[0] is None:
            print("no probabilities: a class has a single train image, too few to calibrate on", file=sys.stderr)
            return np.concatenate(labels), None
        return np.concatenate(labels), np.concatenate([each for each in probabilities if each is not None])


def _parameters(estimator: Any) -> dict[str, Any]:
    """The settings that JSON can hold, and of what was found while fitting what decides the model."""
    names = ("C_", "gamma_", "cut_", "best_epoch_", "stopped_")
    found = {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}
    plain = (str, int, float, bool, tuple, dict)
    return {n: v for n, v in {**estimator.get_params(), **found}.items() if isinstance(v, plain) and v == v}
