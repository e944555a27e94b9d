"""The whole search against plain scikit-learn pipelines on the raw rows: same folds, same grid, same answers."""

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC, LinearSVC
from tiny import contents, stack

from classify.classical.kernel import KernelSVC
from classify.classical.linear import SpanLinear
from classify.classical.products import unit_products
from classify.classical.search import search
from classify.folds import folds
from features import open_stack

GRID = (1e-2, 1e-1, 1.0, 1e1)
GAMMAS = (0.1, 0.5, 2.0)
NEAR = 1e-6  # margins below which rounding may decide


def linear(estimator):
    return SpanLinear(estimator), {"c": GRID}, estimator, lambda scale: {"C": [c / scale for c in GRID]}


MODELS = {
    "logreg": linear(LogisticRegression(solver="newton-cg", tol=1e-9, max_iter=10_000)),
    "linearsvm": linear(LinearSVC(dual=True, tol=1e-6, max_iter=100_000, random_state=0)),
    "svm": (
        KernelSVC(),
        {"C": GRID, "gamma": GAMMAS},
        SVC(),
        lambda scale: {"C": list(GRID), "gamma": [gamma / scale for gamma in GAMMAS]},
    ),
}


def clouds(n, d, duplicates=0, classes=3):
    """Overlapping classes, (n + 60, d) float32 rows, and labels; the last of the first n rows are copies of others."""
    random = np.random.default_rng(n + d)
    y = np.arange(n + 60) % classes
    X = (random.standard_normal((classes, d))[y] * 0.5 + random.standard_normal((n + 60, d))).astype("f4")
    X[n - duplicates : n] = X[:duplicates]
    y[n - duplicates : n] = y[:duplicates]
    return X, y


def margins(decisions):
    """Distance from the decision that would change the answer."""
    if decisions.ndim == 1:
        return np.abs(decisions)
    ordered = np.sort(decisions, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def assert_same(model, X, y, new):
    """Search and refit X, an array or a stack, and the same by scikit-learn on its float64 copy in memory."""
    ours, grid, plain, absolute = MODELS[model]
    raw = np.asarray(X.X if hasattr(X, "X") else X, "f8")
    splits = folds(X, y)
    found = search(ours, grid, X, y, splits, jobs=2)
    fitted = ours.set_params(**found.params).fit(X, y, found.products, splits, found.held_out)
    scale = fitted.scale(X, found.products)
    name = type(plain).__name__.lower()
    pipeline = make_pipeline(Normalizer(), plain)
    reference = GridSearchCV(pipeline, {f"{name}__{k}": v for k, v in absolute(scale).items()}, cv=splits).fit(raw, y)

    scores = {
        tuple(np.round(list(p.values()), 12)): s
        for p, s in zip(
            [{k.split("__")[1]: v for k, v in p.items()} for p in reference.cv_results_["params"]],
            reference.cv_results_["mean_test_score"],
            strict=True,
        )
    }
    for entry in found.table:
        ours_at = entry["params"]
        at = (ours_at["c"] / scale,) if "c" in ours_at else (ours_at["C"], ours_at["gamma"] / scale)
        assert entry["mean"] == pytest.approx(scores[tuple(np.round(at, 12))], abs=1e-12)
    best = max(scores.values())
    ties = sum(abs(score - best) < 1e-9 for score in scores.values())
    if ties == 1:
        chosen = {k.split("__")[1]: v for k, v in reference.best_params_.items()}
        assert pytest.approx(chosen["C"]) == fitted.plain(scale).C
        assert getattr(fitted, "gamma_", None) == pytest.approx(chosen.get("gamma"))
    settings = {"C": fitted.plain(scale).C} | ({"gamma": fitted.gamma_} if hasattr(fitted, "gamma_") else {})
    expected = make_pipeline(Normalizer(), type(plain)(**(plain.get_params() | settings))).fit(raw, y)
    differ = fitted.predict(new) != expected.predict(new.astype("f8"))
    assert not differ[margins(expected.decision_function(new.astype("f8"))) >= NEAR].any()
    assert differ.sum() <= 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("n", "d", "duplicates"), [(90, 600, 0), (240, 30, 0), (90, 600, 9)], ids=["wide", "tall", "duplicates"]
)
def test_the_search_is_scikit_learns(model, n, d, duplicates):
    """Every candidate's score, the winner, and the winner's predictions of new rows."""
    X, y = clouds(n, d, duplicates)
    assert_same(model, X[:n], y[:n], X[n:])


@pytest.mark.parametrize("model", MODELS)
def test_two_classes(model):
    """Decisions are one number then."""
    X, y = clouds(80, 300, classes=2)
    assert_same(model, X[:80], y[:80], X[80:])


@pytest.mark.parametrize("model", MODELS)
def test_a_stack_with_copies_and_its_own_scattered_rows(model, tmp_path):
    """Streamed from the file, with copies of an image kept in one fold."""
    X, y = clouds(100, 300)
    held = contents(rows=160, shape=(5, 6, 10), classes=3) | {"features": X, "labels": y}
    held["sha256"][3:9] = held["sha256"][0:6]
    opened = open_stack(stack(tmp_path / "s.h5", held))
    assert_same(model, opened.select("train"), opened.select("train").y, opened.select("test").X)


@pytest.mark.parametrize("model", MODELS)
def test_a_float16_stack(model, tmp_path):
    """Rows stored at half precision are computed with at single precision, like scikit-learn's copy of the values."""
    X, y = clouds(100, 300)
    path = stack(tmp_path / "s.h5", contents(rows=160, shape=(5, 6, 10), classes=3) | {"features": X, "labels": y})
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=X.astype("<f2"))
    opened = open_stack(path)
    assert opened.X.dtype == np.float16
    new = opened.select("test")
    assert_same(model, opened.select("train"), opened.select("train").y, np.asarray(new.X, "f4"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_real_photos(model, shared):
    """Pixels of real photos as rows: far from round clouds, nearly dependent."""
    files = sorted((shared / "data" / "food101-10" / "images").glob("*/*.jpg"))
    classes = sorted({file.parent.name for file in files})[:3]
    chosen = [file for name in classes for file in [f for f in files if f.parent.name == name][:50]]
    X = np.stack([np.asarray(Image.open(f).convert("RGB").resize((24, 24)), "f4").ravel() for f in chosen])
    y = np.array([classes.index(file.parent.name) for file in chosen])
    held = np.arange(len(y)) % 3 == 2
    assert_same(model, X[~held], y[~held], X[held])


@pytest.mark.parametrize(("C", "gamma"), [((0.1, 1.0, 10.0), (0.5, 2.0)), ((10.0, 1.0, 0.1), (2.0, 0.5))])
def test_candidates_that_tie_go_to_the_first_listed(C, gamma):
    """Far apart clouds are all right with every C: the first of each list wins, in `MODELS` the most regularised."""
    X, y = clouds(60, 40)
    X += 20 * np.eye(40, dtype="f4")[y]
    found = search(KernelSVC(), {"C": C, "gamma": gamma}, X, y, folds(X, y))
    assert {entry["mean"] for entry in found.table} == {1.0}
    assert found.params == {"C": C[0], "gamma": gamma[0]}


def test_threads_do_not_change_the_answer():
    """One thread and three give the same table."""
    X, y = clouds(80, 200)
    tables = [search(*MODELS["svm"][:2], X, y, folds(X, y), [unit_products(X)], jobs=jobs).table for jobs in (1, 3)]
    assert tables[0] == tables[1]
