"""Models fitted in passes over blocks of rows, against plain scikit-learn on the same rows in memory."""

import h5py
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight
from test_exactness import clouds, margins
from tiny import contents, stack

from classify.classical import descent, losses, passes
from classify.classical.crossfit import cross_fit
from classify.classical.descent import Descent
from classify.classical.kernel import C_OF_LINEAR, KernelSVC
from classify.classical.linear import SpanLinear
from classify.classical.neighbours import CosineNeighbours
from classify.classical.nystrom import landmarks
from classify.classical.passes import Rows
from classify.folds import folds
from features import open_stack

CLOSE = 1e-5  # of the loss, relative
NEAR = 1e-4  # margins below which the answer may differ
KINDS = {
    "logreg": LogisticRegression(solver="newton-cg", tol=1e-9, max_iter=10_000),
    "linearsvm": LinearSVC(dual=True, tol=1e-7, max_iter=300_000, random_state=0),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks of rows a pass, and a start from coordinates along few axes, also on few rows."""
    monkeypatch.setattr(passes, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(descent, "FEWEST", 8)


def loss(model, X, y):
    """What scikit-learn's estimator minimises, in float64, at its own coefficients."""
    rows, weights = normalize(np.asarray(X, "f8")), compute_sample_weight(model.class_weight, y)
    scores = rows @ model.coef_.T + model.intercept_
    penalty = 0.5 * (model.coef_**2).sum()
    if isinstance(model, LinearSVC):
        own = np.eye(y.max() + 1)[y][:, -scores.shape[1] :] * 2 - 1
        penalty += 0.5 * (model.intercept_**2).sum()
        counts = np.where(own > 0, weights[:, None], 1) if y.max() > 1 else weights[:, None]  # liblinear's way
        losses, weights = (counts * np.maximum(0, 1 - own * scores) ** 2).sum(axis=1), np.ones(len(y))
    else:
        both = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
        losses = np.logaddexp.reduce(both, axis=1) - both[np.arange(len(y)), y]
    return model.C * float(weights @ losses) + penalty


def assert_minimum(kind, X, y, new, **settings):
    """The same loss as scikit-learn's, and the same answers about new rows."""
    plain = KINDS[kind].set_params(class_weight=settings.get("class_weight"))
    ours = SpanLinear(plain, c=settings.get("c", 5.0), path="passes").fit(X, y)
    raw = np.asarray(X.X if hasattr(X, "X") else X, "f8")
    expected = type(plain)(**plain.get_params() | {"C": ours.C_}).fit(normalize(raw), y)
    assert loss(ours.model_, raw, y) == pytest.approx(loss(expected, raw, y), rel=CLOSE)
    rows = normalize(np.asarray(new, "f8"))
    differ = ours.predict(new) != expected.predict(rows)
    assert not differ[margins(expected.decision_function(rows)) >= NEAR].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
    ("n", "d", "duplicates"), [(90, 600, 0), (1500, 60, 0), (400, 300, 90)], ids=["wide", "tall", "duplicates"]
)
def test_the_minimum_is_scikit_learns(kind, classes, n, d, duplicates):
    X, y = clouds(n, d, duplicates, classes)
    assert_minimum(kind, X[:n], y[:n], X[n:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", [None, "balanced"])
def test_of_unbalanced_classes_too(kind, weighting):
    """One class has a twentieth of the rows; `balanced` gives them twenty times the weight."""
    X, y = clouds(900, 80, classes=4)
    kept = (y != 2) | (np.arange(len(y)) % 20 == 2)
    assert_minimum(kind, X[kept][:600], y[kept][:600], X[-60:], class_weight=weighting)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_of_a_stack_whose_rows_lie_apart(kind, dtype, tmp_path):
    """Train rows among test rows, float16 too, a row of zeros, read in blocks from the file."""
    X, y = clouds(300, 300)
    X[8] = 0
    path = stack(tmp_path / "s.h5", contents(rows=360, shape=(5, 6, 10), classes=3) | {"features": X, "labels": y})
    if dtype == "<f2":
        with h5py.File(path, "r+") as file:
            del file["features"]
            file.create_dataset("features", data=X.astype(dtype))
    opened = open_stack(path)
    train, test = opened.select("train"), opened.select("test")
    assert train.X.dtype == dtype
    assert_minimum(kind, train, train.y, np.asarray(test.X, "f4"))


@pytest.mark.parametrize("kind", KINDS)
def test_folds_are_fitted_in_the_same_passes(kind):
    """Decisions about held-out rows are scikit-learn's, fold by fold, at each penalty."""
    X, y = clouds(500, 60)
    splits = folds(X, y)
    plain = [type(KINDS[kind])(**KINDS[kind].get_params() | {"C": C}) for C in (0.1, 1.0, 10.0)]
    compared = cross_fit(plain, Descent(Rows(X, y)), y, splits)
    for estimator, held_out in zip(plain, compared, strict=True):
        expected = cross_val_predict(estimator, normalize(X.astype("f8")), y, cv=splits, method="decision_function")
        np.testing.assert_allclose(held_out.decisions, expected[held_out.rows], atol=0.02 * np.abs(expected).max())
        assert held_out.converged
        assert (held_out.predicted == expected[held_out.rows].argmax(axis=1)).mean() > 0.995


def test_what_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(descent, "STEPS", 2)
    X, y = clouds(500, 60)
    fitted = SpanLinear(KINDS["logreg"], c=1e4, path="passes").fit(X, y)
    assert fitted.model_.fit_status_ == 1


def test_a_nystrom_machine_is_scikit_learns(monkeypatch):
    """`Nystroem` on the same landmarks, and a linear SVM on its features."""
    monkeypatch.setattr("classify.classical.nystrom.LANDMARKS", 100)
    X, y = clouds(600, 60)
    ours = KernelSVC(C=20, path="nystrom").fit(X, y)
    rows = landmarks(X, y)
    assert len(rows) == 100 and len(ours.support_rows_) == 100
    features = Nystroem(gamma=ours.gamma_, n_components=100).fit(normalize(rows.astype("f8")))
    plain = LinearSVC(C=20 / C_OF_LINEAR, dual=True, tol=1e-6, max_iter=100_000)
    plain.fit(features.transform(normalize(X.astype("f8"))), y)
    new = clouds(700, 60)[0][600:]
    expected = plain.decision_function(features.transform(normalize(new.astype("f8"))))
    np.testing.assert_allclose(ours.decision_function(new), expected, atol=0.02 * np.abs(expected).max())
    assert (ours.predict_proba(new).argmax(axis=1) == ours.predict(new)).all()


def test_landmarks_are_of_every_class_in_proportion(monkeypatch):
    monkeypatch.setattr("classify.classical.nystrom.LANDMARKS", 30)
    codes = np.repeat([0, 1, 2], [200, 80, 20])
    drawn = landmarks(np.arange(300, dtype="f4")[:, None], codes)[:, 0].astype(int)
    np.testing.assert_allclose(np.bincount(codes[drawn]), [20, 8, 2], atol=1)
    np.testing.assert_array_equal(drawn, landmarks(np.arange(300, dtype="f4")[:, None], codes)[:, 0])


@pytest.mark.parametrize("classes", [2, 4])
def test_neighbours_in_blocks_are_scikit_learns(monkeypatch, classes):
    monkeypatch.setattr("classify.rows.CHUNK_BYTES", 1 << 14)
    X, y = clouds(600, 60, classes=classes)
    ours = CosineNeighbours(k=9, path="blocks").fit(X[:600], y[:600])
    plain = KNeighborsClassifier(9, metric="cosine", algorithm="brute").fit(X[:600].astype("f8"), y[:600])
    np.testing.assert_array_equal(ours.predict(X[600:]), plain.predict(X[600:].astype("f8")))
    assert 0.02 < ours.temperature_ < 2


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_penalties_are_fitted_in_the_same_passes(kind):
    """Each with its own C and its own rows, to the minimum that scikit-learn finds for it alone."""
    X, y = clouds(300, 40)
    weights = np.ones((len(y), 3), np.float32)
    weights[::2, 1] = 0
    penalties = np.array([1.0, 10.0, 30.0])
    found = Descent(Rows(X, y)).minimise(losses.loss_of(KINDS[kind], 3), penalties, weights)
    unit = normalize(X.astype("f8"))
    for model, C in enumerate(penalties):
        rows, own = weights[:, model] > 0, slice(3 * model, 3 * model + 3)
        expected = (
            clone(KINDS[kind]).set_params(C=C, class_weight=None).fit(unit[rows], y[rows]).decision_function(unit)
        )
        scores = unit @ found.coef[:, own] + found.intercept[own]
        assert np.abs(scores - expected).max() < 0.02 * np.abs(expected).max()
