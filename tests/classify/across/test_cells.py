"""Every cell of a comparison against `fit` on that stack and split, and against plain scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer
from tiny import contents, stack

from classify import compare, fit
from classify.across.cells import Job, answers
from classify.across.feature_set import feature_sets
from classify.across.splits import splits_of
from classify.comparison.predictions import read_predictions
from classify.fitting import Settings
from classify.models import MODELS
from features import open_stack

ROWS = 240


def digits(path: Path, width: int, seed: int = 0, classes: int = 4, **attrs: object) -> Path:
    """A stack of digits seen through random weights: wide rows have more columns than there are rows."""
    images, labels = load_digits(n_class=classes, return_X_y=True)
    seen = np.maximum(images[:ROWS] @ np.random.default_rng(seed).standard_normal((64, width)), 0)
    held = contents(rows=ROWS, shape=(2, 2, width // 4), classes=classes)
    return stack(path, held | {"features": seen.astype("<f4"), "labels": labels[:ROWS]}, **attrs)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same 240 images seen by three networks: one wide, one narrow, one that sees little."""
    folder = tmp_path_factory.mktemp("stacks")
    return [
        str(digits(folder / "digits-vgg16.h5", 400)),
        str(digits(folder / "digits-vgg16-pool4.h5", 64, 1, layer="block4_pool")),
        str(digits(folder / "digits-resnet50.h5", 8, 2, backbone="resnet50")),
    ]


@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "knn", "xgboost"])
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("at", [0, 1])
def test_a_cell_is_fit_on_that_stack_and_split(
    stacks: list[str], tmp_path: Path, model: str, seed: int | None, at: int
) -> None:
    """Every prediction is the same; probabilities differ by what solvers leave."""
    folder = fit(stacks[at], model, split_seed=seed, out=str(tmp_path))
    opened = open_stack(stacks[at])
    said = read_predictions(folder / "predictions.csv", opened.label_names)
    (split,) = splits_of(opened, opened.y, None if seed is None else [seed])
    (features,) = feature_sets([opened], opened.y, None)
    cell = answers(MODELS[model], features, split, Settings(), Job(tmp_path, {}, {}))
    assert said.paths == opened.take(split.test).paths
    assert cell.predicted.tolist() == said.predicted.tolist()
    assert cell.probabilities is not None and said.proba is not None
    assert np.abs(cell.probabilities - said.proba).max() < 2e-3


@pytest.mark.parametrize("model", ["logreg", "svm"])
def test_a_searched_cell_is_fit_with_a_search(stacks: list[str], tmp_path: Path, model: str) -> None:
    folder = fit(stacks[1], model, search=True, out=str(tmp_path))
    result = json.loads((folder / "result.json").read_text())
    opened = open_stack(stacks[1])
    (split,) = splits_of(opened, opened.y, None)
    (features,) = feature_sets([opened], opened.y, None)
    cell = answers(MODELS[model], features, split, Settings(search=True), Job(tmp_path, {}, {}))
    assert cell.facts["best"] == result["best"]
    assert float(np.mean(cell.predicted == opened.y[split.test])) == result["accuracy"]


def test_a_cell_is_plain_scikit_learn(stacks: list[str], tmp_path: Path) -> None:
    """Logistic regression on the stack's own rows, and out of fold on those held out."""
    opened = open_stack(stacks[0])
    (split,) = splits_of(opened, opened.y, [3])
    (features,) = feature_sets([opened], opened.y, None)
    cell = answers(MODELS["logreg"], features, split, Settings(), Job(tmp_path, {}, {}))
    X, y = Normalizer().transform(np.asarray(opened.X, "f8")), opened.y
    spread = float(((X[split.train] - X[split.train].mean(axis=0)) ** 2).sum(axis=1).mean())
    plain = LogisticRegression(C=20 / spread, tol=1e-8, max_iter=5000).fit(X[split.train], y[split.train])
    assert np.abs(cell.probabilities - plain.predict_proba(X[split.test])).max() < 2e-3
    start = 0
    for train, held in split.folds:
        fold = LogisticRegression(C=20 / spread, tol=1e-8, max_iter=5000).fit(X[train], y[train])
        some = slice(start, start + len(held))
        assert cell.held[some].tolist() == held.tolist()
        assert np.abs(cell.held_probabilities[some] - fold.predict_proba(X[held])).max() < 0.02
        start += len(held)


def test_the_accuracies_of_a_comparison_are_those_of_fit(stacks: list[str], tmp_path: Path) -> None:
    """To the last digit, on the splits that `fit --split-seed` draws."""
    report = compare(stacks[:2], ["logreg", "knn"], repeats=2, split_seed=5, out=str(tmp_path / "out"))
    for row in report.table():
        if row["model"] == "ensemble":
            continue
        path = next(p for p in stacks if ("pool4" in p) == ("block4_pool" in row["features"]))
        alone = [fit(path, row["model"], split_seed=s, out=str(tmp_path / f"{s}")).table()[0] for s in (5, 6)]
        assert row["accuracy"] == np.mean([each["accuracy"] for each in alone])
        assert row["macro_f1"] == pytest.approx(np.mean([each["macro_f1"] for each in alone]), abs=1e-12)


def test_rows_that_are_not_shared_are_fitted_as_fit_does(
    stacks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all pairs of rows are too many to hold, each cell reads the rows."""
    opened = open_stack(stacks[0])
    (split,) = splits_of(opened, opened.y, None)
    (features,) = feature_sets([opened], opened.y, None)
    job = Job(tmp_path, {}, {})
    shared = answers(MODELS["svm"], features, split, Settings(), job)
    monkeypatch.setattr("classify.across.feature_set.MOST_SHARED", 10)
    assert not features.shares
    alone = answers(MODELS["svm"], features, split, Settings(), job)
    assert alone.predicted.tolist() == shared.predicted.tolist()
