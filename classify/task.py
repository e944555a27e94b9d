"""The train and test rows of one comparison: fit a model, score it on the test rows, record it all."""

import json
import shlex
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from classify.classical.memory import MANY, check_classes
from classify.comparison.predictions import write_predictions
from classify.comparison.scores import scores
from classify.coverage import Coverage, scores_of
from classify.familiarity import Familiarity
from classify.fitting import Fitted, Settings, TrainRows, choose_method, fit_classical
from classify.folds import FOLDS
from classify.fusion import SideBySide, parts
from classify.history import DATE, keep_earlier, settle, write_rows
from classify.models import Model
from classify.networks.checkpoint import Checkpoint
from classify.rows import check_finite, checked_views, pooled
from features import Refused, Stack
from features.runtime.disk import write_json
from features.runtime.errors import listed
from features.runtime.lock import check_writable
from features.runtime.log import log
from features.runtime.machine import free_memory
from features.schema import SPLITS, UNLABELLED

Answers = tuple[np.ndarray, np.ndarray | None]  # labels (n,), and probabilities (n, classes) where there are any


class Task:
    """The train and test rows of a stack, and the inner products that several models share.

    Raises:
        Refused: fewer than two classes in train, no labelled test rows, fewer views than asked for, Dask and no search.

    Attributes:
        train, test: the labelled rows of either.
        views: augmented views of each train image among the train rows.
    """

    def __init__(self, stack: Stack, views: int | None, settings: Settings) -> None:
        if not (stack.y != UNLABELLED).any():
            raise Refused(f"{stack.path} is unlabelled. {how_to_label(parts(stack)[0])}")
        self.stack, self.settings, self.views = stack, settings, checked_views(stack, views)
        labelled = stack.take((stack.y != UNLABELLED) & (stack.view <= self.views))
        self.train = labelled.select(("train", "val"))
        self.test = labelled.take((labelled.split == SPLITS["test"]) & (labelled.view == 0))
        # Estimators get classes 0…k−1 even where every image of some class was rejected.
        self.classes, self.y_train = np.unique(self.train.y, return_inverse=True)
        if len(self.classes) < 2:
            raise Refused(f"{stack.path} has {len(self.classes)} classes among its train rows; a classifier needs two")
        if not len(self.test):
            raise Refused(f"{stack.path} has no labelled test rows to score on")
        if strange := [stack.label_names[label] for label in np.setdiff1d(self.test.y, self.classes)]:
            known = "no model can be right about these test rows"
            log.warning(f"classes without train rows, {known}: {listed(strange)}")
        self.name = "+".join(part.path.stem for part in parts(stack))
        self._products: list[np.ndarray] | None = None
        self._products_seconds = 0.0

    def products(self) -> list[np.ndarray]:
        """Inner products of the flattened train rows, of each stack, computed once."""
        from classify.classical.products import unit_products

        if self._products is None:
            began = time.perf_counter()
            with threadpool_limits(self.settings.threads, "blas"):
                self._products = [unit_products(part) for part in parts(self.train)]
            self._products_seconds = time.perf_counter() - began
        return self._products

    @cached_property
    def familiarity(self) -> Familiarity | None:
        """How like the train rows' images others are; `predict` says it of each."""
        return Familiarity.of(self.train, self.y_train)

    def run(self, model: Model, pool: str, options: dict[str, Any], folder: Path, about: dict[str, Any]) -> Path:
        """Fit, save, predict the test rows with the model as it is saved, score, and record it all in a folder.

        Args:
            model: the classifier's row.
            pool: see `fit`.
            options: the estimator's settings that the command line gave.
            folder: where the model and its scores go.
            about: what to record beside them.

        Returns:
            folder.
        """
        from classify.answers import FEW
        from classify.saved import load_answers, save_model

        if model.network and isinstance(self.stack, SideBySide):
            raise Refused(f"{model.title} takes one stack; the classical models take several")
        if model.takes == "cut base" and len(self.stack.files) > 1:
            way = "python -m features index SHARD … --out shards.json"
            raise Refused(f"{model.title} takes shards by a file that names them: {way}")
        method = choose_method(model, self.train, pool)
        held = len(self.train) if method in ("span", "primal", "kernel") else len(self.train) // FOLDS
        check_classes(held + len(self.test), len(self.classes), free_memory(), model.title)
        if self.settings.dask is not None and not self.settings.search and method != "passes":
            raise Refused(
                f"--dask {self.settings.dask} runs the fits of a search on a cluster, and passes over "
                f"{MANY:,} rows or more: give --search too"
            )
        check_writable(folder)
        shared = self.products() if pool == "flatten" and method in ("span", "kernel") else None
        began = time.perf_counter()
        if model.network:
            fitted, checkpoint = self._fit_network(model, pool, options, folder)
        else:
            rows = pooled(self.train, pool)
            X = rows.X if model.takes == "rows" and isinstance(rows, Stack) else rows
            train = TrainRows(self.train, X, self.y_train, shared, len(self.train) + len(self.test))
            fitted, checkpoint = fit_classical(model, method, train, self.settings), None
        # Each model is charged what it would have cost alone: the inner products that several share, and not for the
        # stack of its own that a fine-tuned network finds there or not.
        seconds = time.perf_counter() - began - fitted.cut_seconds + (0.0 if shared is None else self._products_seconds)
        about = self._described(model, pool, fitted, about)
        saved, coverage = fitted.estimator, Coverage.of(fitted.scores, folds=model.by_products)
        if not model.saved_as:
            keep_earlier(folder)
        else:
            like = None if model.takes in ("cut base", "pixels") else self.familiarity
            save_model(fitted.estimator, folder, about, like, coverage)
            saved, _ = load_answers(folder)
        began = time.perf_counter()
        answers, same_in_few = self._answers(saved, model, about)
        if same_in_few:
            described = json.loads((folder / "model.json").read_text("utf-8"))
            write_json(folder / "model.json", {**described, "small_block": FEW})
        clock = {"fit_seconds": seconds, "predict_seconds": time.perf_counter() - began}
        self._record(folder, about, fitted, coverage, answers, clock)
        if checkpoint and fitted.found["stopped_"] != "interrupted":
            checkpoint.remove()
        return folder

    def _fit_network(self, model: Model, pool: str, options: dict[str, Any], folder: Path) -> tuple[Fitted, Checkpoint]:
        pooling = {"pool": pool} if model.pool else {}
        estimator = model.build(self.settings.seed).set_params(**options, **pooling)
        run = {"stack_key": self.stack.key, "model": model.title, "views": self.views, **estimator.get_params()}
        checkpoint = Checkpoint(folder / "best.h5", run)
        estimator.fit(self.train, self.y_train, checkpoint)
        facts, found, scores = {"history": estimator.history_}, estimator.found(), None
        _, check = estimator.sides(self.train, self.y_train)  # that it stopped by, and did not learn from
        if len(check):
            scores = scores_of(estimator.predict_proba(self.train.take(check)), self.y_train[check])
        seconds = estimator.extract_seconds_, estimator.cut_seconds_
        return Fitted(estimator, None, facts, found, *seconds, scores), checkpoint

    def _described(self, model: Model, pool: str, fitted: Fitted, about: dict[str, Any]) -> dict[str, Any]:
        """The contents of `model.json`: which rows of which stacks, and the settings that JSON can hold."""
        from classify.saved import made_by_parts

        plain = (str, int, float, bool, tuple, dict) if model.saved_as else (str, int, float, bool)
        params = {**fitted.estimator.get_params(), **fitted.found}
        return {
            **about,
            **({"weights": fitted.weights} if fitted.weights else {}),
            "pool": pool,
            "stack": " ".join(map(str, self.stack.files)),
            "stack_key": self.stack.key,
            "stack_keys": [part.key for part in parts(self.stack)],
            "recipes": made_by_parts(self.stack),
            "label_names": self.stack.label_names,
            "classes": self.classes.tolist(),
            "seed": self.settings.seed,
            "views": self.views,
            "held_out": 0 if fitted.scores is None else len(fitted.scores),
            **({"balance": True} if self.settings.balance and not model.network else {}),
            "params": {n: v for n, v in params.items() if isinstance(v, plain) and v == v},
        }

    def _answers(self, estimator: Any, model: Model, about: dict[str, Any]) -> tuple[Answers, bool]:
        """Labels and probabilities of the test rows, as `SavedModel` gives them, and `SavedModel.same_in_few`."""
        from classify.answers import SavedModel

        if model.network:
            given = np.zeros((len(self.test), len(self.stack.label_names)))
            given[:, self.classes] = estimator.predict_proba(self.test)
            return (given.argmax(axis=1), given), False
        saved, same_in_few = SavedModel(estimator, about, model), False
        labels, probabilities = [], []
        for start in range(0, len(self.test), saved.rows):
            block = np.arange(start, min(start + saved.rows, len(self.test)))
            rows = [np.asarray(part.take(block).X, "<f4") for part in parts(self.test)]
            for part, X in zip(parts(self.test), rows, strict=True):
                check_finite(part, start, X)
            answers = saved(rows)
            same_in_few = same_in_few or (start == 0 and bool(model.saved_as) and saved.same_in_few(rows, answers))
            labels.append(answers[0])
            probabilities.append(answers[1])
        if probabilities[0] is None:
            few = "a class has a single train image, too few to calibrate on"
            why = few if model.saved_as else "it has no predict_proba"
            log.info(f"no probabilities: {why}")
            return (np.concatenate(labels), None), same_in_few
        every = np.concatenate([each for each in probabilities if each is not None])
        return (np.concatenate(labels), every), same_in_few

    def _record(
        self,
        folder: Path,
        about: dict[str, Any],
        fitted: Fitted,
        coverage: Coverage | None,
        answers: Answers,
        clock: dict[str, float],
    ) -> None:
        """Write `predictions.csv` and `result.json`."""
        from classify.comparison.lead import leading_score
        from classify.saved import MODEL_FILES

        predicted, probabilities = answers
        sets = coverage.figures(probabilities, self.test.y) if coverage and probabilities is not None else None
        result = {
            **about,
            "date": time.strftime(DATE),
            **fitted.facts,
            **scores(self.test.y, predicted, len(self.stack.label_names)),
            **({"sets": sets} if sets else {}),
            "leads_by": leading_score(self.y_train),
            "n_train": len(self.train),
            "n_test": len(self.test),
            "extract_seconds": self.stack.extract_seconds + fitted.extract_seconds,
            **clock,
            "model_bytes": sum(file.stat().st_size for file in folder.glob("*") if file.name in MODEL_FILES) or None,
        }
        write_predictions(folder / "predictions.csv", self.test, predicted, probabilities)
        write_rows(self.stack, folder)
        write_json(folder / "result.json", result)
        if since := settle(folder):
            write_json(folder / "result.json", {**result, "since": since})


def how_to_label(stack: Stack) -> str:
    """The command that gives a stack's rows labels, with the options that the stack was made with."""
    words = shlex.split(stack.attrs["command"])  # python -m extract [DATA] …
    rest = words[4:] if len(words) > 3 and not words[3].startswith("-") else words[3:]
    out = [] if "--out" in rest else ["--out", str(stack.path)]
    manifest = Path(stack.attrs["dataset_root"]) / "labels.csv"
    return (
        f"Write {manifest} with the columns path,label (paths relative to it), then run: "
        f"{shlex.join([*words[:3], str(manifest), *rest, *out])}"
    )
