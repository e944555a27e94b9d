"""Linear models in passes against scikit-learn's minimum in float64: the same labels, and the same search."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from classify.classical.linear import SpanLinear
from classify.classical.search import search
from classify.folds import folds

TIE = 1e-3  # margins below this share of the decisions' spread may go either way
EXACT = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000)
HINGE = LinearSVC(dual=True, tol=1e-7, max_iter=1_000_000, random_state=0)


def faint(rows, loud=50, quiet=100, classes=4):
    """Rows (n, loud + quiet) float32 whose classes differ only in columns of a thirtieth of the others' spread."""
    random = np.random.default_rng(rows)
    y = np.arange(rows) % classes
    means = 0.25 * random.standard_normal((classes, quiet))
    noise = random.standard_normal((rows, loud + quiet))
    return np.hstack([3 * noise[:, :loud], 0.1 * (means[y] + noise[:, loud:])]).astype("f4"), y


def uneven(rows, width, classes):
    """Overlapping classes, the last a fifth as frequent as the first; some rows twice, and a constant column."""
    random = np.random.default_rng(classes)
    shares = np.linspace(5, 1, classes)
    y = np.sort(random.choice(classes, rows, p=shares / shares.sum()))
    y[:classes] = np.arange(classes)
    X = 0.5 * random.standard_normal((classes, width))[y] + random.standard_normal((rows, width)) + 1
    X[: rows // 20], y[: rows // 20] = X[-(rows // 20) :], y[-(rows // 20) :]
    X[:, 0] = 2
    return X.astype("f4"), np.unique(y, return_inverse=True)[1]


def assert_same_labels(ours, X, y, plain):
    rows = normalize(X.astype("f8"))
    expected = type(plain)(**plain.get_params() | {"C": ours.C_}).fit(rows, y)
    decisions = expected.decision_function(rows)
    if decisions.ndim == 1:
        decisions = np.stack([-decisions, decisions], axis=1) / 2
    ordered = np.sort(decisions, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] < TIE * np.sqrt(np.var(decisions, axis=0).sum())
    differ = ours.predict(X) != expected.predict(rows)
    assert not differ[~tied].any()
    assert tied.mean() < 0.05


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("classes", [2, 4, 25])
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 1e2, 1e4])
def test_labels_are_those_of_the_minimum(c, classes, dtype):
    """At every penalty: where it is strong, losses hardly differ, and labels still do."""
    X, y = uneven(600, 30, classes)
    X = X.astype(dtype).astype("f4")
    assert_same_labels(SpanLinear(EXACT, c=c, path="passes").fit(X, y), X, y, EXACT)


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_labels_of_linear_machines(c, classes):
    X, y = uneven(400, 30, classes)
    assert_same_labels(SpanLinear(HINGE, c=c, path="passes").fit(X, y), X, y, HINGE)


def test_a_search_finds_a_signal_of_little_variance():
    """Scores are `GridSearchCV`'s to a tenth of a point, and the same C wins."""
    X, y = faint(1200, loud=30, quiet=60)
    grid = {"c": tuple(10.0**i for i in range(-1, 4))}
    splits = folds(X, y)
    found = search(SpanLinear(EXACT, path="passes"), grid, X, y, splits)
    scale = SpanLinear().scale(X, None)
    plain = GridSearchCV(EXACT, {"C": [c / scale for c in grid["c"]]}, cv=splits).fit(normalize(X.astype("f8")), y)
    means = plain.cv_results_["mean_test_score"]
    np.testing.assert_allclose([entry["mean"] for entry in found.table], means, atol=1e-3)
    assert found.params["c"] / scale == pytest.approx(plain.best_params_["C"])
    assert max(means) > 0.7  # the loud columns alone say nothing
