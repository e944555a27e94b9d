"""The nearest neighbours by cosine against scikit-learn's own, through the same command as every other classifier."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny import contents, stack

from classify import fit
from classify.classical.neighbours import CosineNeighbours
from classify.folds import folds
from classify.saved import load_model
from features import open_stack


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of 160 rows of four overlapping classes, each row of its own length."""
    held = contents(rows=160, shape=(2, 2, 60), classes=4)
    random = np.random.default_rng(1)
    centres = random.standard_normal((4, 240))
    rows = centres[held["labels"]] + 4 * random.standard_normal((160, 240))
    held["features"] = (rows * random.uniform(1, 50, (160, 1))).astype("<f4")
    held["split"][:] = np.where(random.permutation(160) < 40, 2, 0)
    return stack(tmp_path_factory.mktemp("clouds") / "clouds.h5", held)


@parametrize_with_checks([CosineNeighbours(k=3)])
def test_is_a_scikit_learn_estimator(estimator, check):
    """Guards the whole contract of an estimator: clone, fit, predict, shapes, errors."""
    check(estimator)


@pytest.mark.parametrize("k", [1, 4, 10, 500])
def test_the_labels_are_scikit_learns(clouds: Path, k: int) -> None:
    """Guards exactness: the same labels and shares of votes as brute force on the raw rows, ties of votes too."""
    opened = open_stack(clouds)
    train, test = opened.select("train"), opened.select("test")
    plain = KNeighborsClassifier(min(k, len(train)), metric="cosine", algorithm="brute").fit(train.X, train.y)
    ours = CosineNeighbours(k=k).fit(train, train.y)
    np.testing.assert_array_equal(ours.predict(test), plain.predict(test.X))
    np.testing.assert_allclose(ours.decision_function(test), plain.predict_proba(test.X), atol=1e-12)


def test_probabilities_follow_the_votes(clouds: Path) -> None:
    """Guards the temperature: no probability is zero, the likeliest class is the predicted one, better than chance."""
    opened = open_stack(clouds)
    train, test = opened.select("train"), opened.select("test")
    ours = CosineNeighbours(k=10).fit(train, train.y)
    given = ours.predict_proba(test)
    assert given.min() > 0
    np.testing.assert_array_equal(given.argmax(axis=1), ours.predict(test))
    assert log_loss(test.y, given) < np.log(4)


def test_a_rare_class_has_heavier_votes() -> None:
    """Guards --balance: two near rows of a large class against one of a small class."""
    X = np.array([[1, 0.02], [1, 0.03], [1, 0.5], [1, 0.6], [1, 0.7], [1, 0.8], [1, 0.01]])
    y = np.array([0, 0, 0, 0, 0, 0, 1])
    asked = np.array([[1.0, 0.0]])
    assert CosineNeighbours(k=3).fit(X, y).predict(asked) == [0]
    assert CosineNeighbours(k=3, balance=True).fit(X, y).predict(asked) == [1]


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 3, 3), (5, 5, 5, 5), (10, 10, 10), (1, 5, 5, 5), (3, 12)])
def test_few_rows_of_a_class_ask_few_neighbours(tmp_path: Path, caplog: pytest.LogCaptureFixture, sizes: tuple) -> None:
    """Guards the default k, which of 20 rows of other classes made a constant classifier; said and recorded."""
    random = np.random.default_rng(0)
    each = [*sizes, *[20] * len(sizes)]  # train, then test
    held = contents(rows=sum(each), shape=(1, 1, 100), classes=len(sizes))
    held["labels"] = np.repeat(np.tile(np.arange(len(sizes)), 2), each)
    held["features"] = (random.standard_normal((len(sizes), 100))[held["labels"]] * 0.6).astype("<f4")
    held["features"] += random.standard_normal(held["features"].shape).astype("<f4")
    held["split"] = np.repeat([0, 2], [sum(sizes), 20 * len(sizes)]).astype("u1")
    path = stack(tmp_path / "few.h5", held)
    result = json.loads((fit(str(path), model="knn", out=str(tmp_path / "knn")) / "result.json").read_text())
    train, test = open_stack(path).select("train"), open_stack(path).select("test")
    k = result["params"]["k_"]
    assert k <= max(1, min(sizes)) or k < sum(sizes) / len(sizes)
    plain = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train.X, train.y)
    assert result["accuracy"] == pytest.approx(plain.score(test.X, test.y))
    assert result["accuracy"] > 0.75
    if min(sizes) > 1:
        assert f"with k = {k}" in caplog.text and {"k": k} == result["best"]
    else:
        assert f"neighbours: {k} instead of 20, half as many as a usual class has images" in caplog.text


def test_many_rows_of_a_class_ask_20_neighbours(clouds: Path, tmp_path: Path) -> None:
    """Guards the default of usual sets, with no search that nobody asked for."""
    X = np.random.default_rng(0).standard_normal((100, 8))
    assert CosineNeighbours().fit(X, np.arange(100) % 2).k_ == 20


def test_the_command_searches_k_and_saves_what_it_needs(clouds: Path, tmp_path: Path) -> None:
    """Guards the row of the table: search, scores, and a saved model that answers without the stack."""
    folder = fit(str(clouds), model="knn", search=True, out=str(tmp_path / "knn"))
    result = json.loads((folder / "result.json").read_text())
    opened = open_stack(clouds)
    train, test = opened.select("train"), opened.select("test")
    splits = folds(train, train.y)
    means = {}
    for entry in result["search"]:
        k = entry["params"]["k"]
        plain = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        if k <= min(len(rows) for rows, _ in splits):
            means[k] = cross_val_score(plain, np.asarray(train.X), train.y, cv=splits).mean()
            assert entry["mean"] == pytest.approx(means[k])
    best = result["best"]["k"]
    assert best == max(k for k in means if means[k] == max(means.values()))
    reference = KNeighborsClassifier(best, metric="cosine", algorithm="brute").fit(train.X, train.y)
    assert result["accuracy"] == pytest.approx(reference.score(test.X, test.y))
    saved, _ = load_model(folder)
    np.testing.assert_array_equal(saved.predict(np.asarray(test.X)), reference.predict(test.X))
