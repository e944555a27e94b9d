"""The classifiers against plain scikit-learn on the raw rows, and scikit-learn's own checks of estimators."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, normalize
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny import REPO, contents, stack

from classify import skops_file
from classify.classical import calibration
from classify.classical.calibration import pair_temperature
from classify.classical.coupling import coupled
from classify.classical.kernel import KernelSVC
from classify.classical.linear import SpanLinear
from classify.folds import folds, sides, source_groups
from classify.fusion import side_by_side
from classify.models import MODELS
from classify.saved import load_model, save_model
from features import Refused, open_stack


def data(n: int, d: int, classes: int = 3, duplicates: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in d dimensions, (n, d) float32 and labels (n,)."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = (random.standard_normal((classes, d))[y] + 2.5 * random.standard_normal((n, d))).astype("f4")
    X[n - duplicates :] = X[:duplicates]
    return X, y


@parametrize_with_checks([SpanLinear(LinearSVC(dual=True, random_state=0)), KernelSVC()])
def test_is_a_scikit_learn_estimator(estimator, check):
    """Clone, fit, predict, shapes, errors: the whole contract of an estimator."""
    check(estimator)


def test_xgboost_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the extra: one line with the command that installs it."""
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(Refused, match=r"--model xgboost: XGBoost is not installed; pip install -e '\.\[cpu\]'"):
        MODELS["xgboost"].build(0)


@pytest.mark.parametrize(("n", "d", "duplicates"), [(60, 500, 0), (60, 500, 7), (300, 20, 0), (40, 40, 0)])
@pytest.mark.parametrize("linear", [LogisticRegression(solver="newton-cg", tol=1e-8), LinearSVC(dual=True, tol=1e-8)])
def test_linear_equals_scikit_learn_on_the_raw_rows(linear, n, d, duplicates):
    """Wide, tall, square and with duplicate rows: the same decisions as Normalizer and the estimator itself."""
    X, y = data(n, d, duplicates=duplicates)
    new, _ = data(50, d, seed=1)
    linear.set_params(max_iter=100_000)
    ours = SpanLinear(linear, c=2.0).fit(X, y)
    plain = make_pipeline(Normalizer(), linear.set_params(C=ours.C_)).fit(X.astype("f8"), y)
    np.testing.assert_allclose(ours.decision_function(new), plain.decision_function(new), atol=2e-4)
    np.testing.assert_array_equal(ours.predict(new), plain.predict(new))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", ["logreg", "linearsvm", "svm", "knn"])
def test_what_is_saved_answers_as_scikit_learn(tmp_path: Path, name: str, classes: int) -> None:
    """Guards predictions without scikit-learn: labels and probabilities of its own fitted estimators, from the file."""
    (X, y), (new, _) = data(90, 40, classes), data(50, 40, classes, seed=1)
    fitted = MODELS[name].build(0).fit(X, y)
    skops_file.save(fitted, tmp_path)
    about = {"files": [file.name for file in tmp_path.iterdir()], "model": name}
    answering = skops_file.answers(tmp_path, about)
    assert answering is not None
    labels, proba = answering.answer(new)
    decided, decisions = answering.decide(new)
    units = Normalizer().transform(new)
    if name == "svm":
        kernel = np.zeros((len(new), len(X)))
        support = fitted.model_.support_
        kernel[:, support] = rbf_kernel(units, Normalizer().transform(X[support]), fitted.gamma_)
        expected, wanted = fitted.model_.predict(kernel), fitted.model_.decision_function(kernel)
    elif name == "knn":
        plain = KNeighborsClassifier(fitted.k_, metric="cosine", algorithm="brute").fit(X, y)
        expected, wanted = plain.predict(new), plain.predict_proba(new)
        wanted = wanted if classes > 2 else wanted[:, 1] - wanted[:, 0]
    else:
        expected, wanted = fitted.model_.predict(units), fitted.model_.decision_function(units)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(decided, expected)
    np.testing.assert_allclose(decisions, wanted, atol=1e-5)
    assert proba is not None
    if name == "logreg":
        np.testing.assert_allclose(proba, fitted.model_.predict_proba(units), atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(proba.argmax(axis=1), expected)
    np.testing.assert_array_equal(proba, fitted.predict_proba(new))


@pytest.mark.parametrize(("n", "d", "duplicates"), [(60, 500, 0), (60, 500, 7), (300, 20, 0)])
def test_kernel_equals_scikit_learn_on_the_raw_rows(n, d, duplicates):
    """The precomputed kernel gives the same decisions as Normalizer and SVC, also for a row of zeros."""
    X, y = data(n, d, duplicates=duplicates)
    new, _ = data(50, d, seed=1)
    X[3] = new[4] = 0
    ours = KernelSVC(C=3.0).fit(X, y)
    plain = make_pipeline(Normalizer(), SVC(C=3.0, gamma=ours.gamma_)).fit(X.astype("f8"), y)
    np.testing.assert_allclose(ours.decision_function(new), plain.decision_function(new), atol=5e-3)
    np.testing.assert_array_equal(ours.predict(new), plain.predict(new))


def test_a_stack_is_fitted_like_the_array_in_it(tmp_path):
    """Scattered rows of a stack give the same model as their own copy in memory."""
    held = contents(rows=60, shape=(3, 3, 20))
    train = open_stack(stack(tmp_path / "s.h5", held)).select("train")
    X = np.array(train.X)
    for estimator in (SpanLinear(c=1.0), KernelSVC()):
        from_array = estimator.fit(X, train.y).decision_function(held["features"])
        np.testing.assert_allclose(
            estimator.fit(train, train.y).decision_function(held["features"]), from_array, atol=1e-6
        )


@pytest.mark.parametrize("name", ["logreg", "linearsvm", "svm", "xgboost"])
def test_a_saved_model_predicts_the_same(tmp_path, name):
    """Each model of the table: probabilities sum to one, the largest is the prediction, and all survives the disk."""
    held = contents(rows=90, shape=(2, 2, 30), classes=3)
    X, y = data(90, 120)
    held |= {"features": X, "labels": y}
    train = open_stack(stack(tmp_path / "s.h5", held)).select("train")
    flat = MODELS[name].pool == "flatten"
    estimator = MODELS[name].build(0).fit(train if flat else train.pooled("avg"), train.y)
    new = data(40, 120 if flat else 30, seed=1)[0]
    probabilities = estimator.predict_proba(new)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    agree = estimator.classes_[probabilities.argmax(axis=1)] == estimator.predict(new)
    assert agree.mean() >= (0.95 if name == "svm" else 1)  # one-against-one votes of an SVC may tie
    save_model(estimator, tmp_path / "model", {"model": name})
    (tmp_path / "s.h5").unlink()  # prediction never needs the stack
    loaded, about = load_model(tmp_path / "model")
    assert about["model"] == name
    np.testing.assert_array_equal(loaded.predict(new), estimator.predict(new))
    np.testing.assert_array_equal(loaded.predict_proba(new), probabilities)


def test_a_model_file_with_strange_types_is_refused(tmp_path):
    """A skops file that holds anything else than our estimators does not load."""
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(func=open), tmp_path / "model.skops")
    sha256 = hashlib.sha256((tmp_path / "model.skops").read_bytes()).hexdigest()
    (tmp_path / "model.json").write_text(json.dumps({"model": "svm", "files": {"model.skops": sha256}}))
    with pytest.raises(Refused, match=r"types that no model here is made of: .*open"):
        load_model(tmp_path)
    with pytest.raises(Refused, match=r"no model in .* Make one with: make classify"):
        load_model(tmp_path / "nowhere")


def test_copies_of_an_image_never_straddle_a_fold(tmp_path):
    """Rows with the same image hash are in one fold together, and every class is in every fold."""
    held = contents(rows=80, classes=2)
    held["sha256"][40:60] = held["sha256"][0:20]
    opened = open_stack(stack(tmp_path / "s.h5", held))
    groups = source_groups(opened)
    splits = folds(opened, opened.y)
    assert len(splits) == 5
    for train, held_out in splits:
        assert not set(groups[train]) & set(groups[held_out])
        assert set(opened.y[held_out]) == {0, 1}
    assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(80))


def test_groups_never_straddle_a_fold_or_the_validation_rows(tmp_path):
    """Rows of one patient are held out together, in the folds of a search and where networks stop early."""
    held = contents(rows=80, classes=2) | {"group": ["" if i < 16 else f"patient {i // 8}" for i in range(80)]}
    opened = open_stack(stack(tmp_path / "s.h5", held))
    groups = np.array(held["group"])
    for train, held_out in (*folds(opened, opened.y), sides(opened, opened.y, 0)):
        assert not set(groups[train]) & (set(groups[held_out]) - {""})
        assert len(train) + len(held_out) == 80 and set(opened.y[held_out]) == {0, 1}
    alone = open_stack(stack(tmp_path / "alone.h5", held | {"group": [""] * 80}))
    with pytest.raises(Refused, match=r"s\.h5 has other groups than .*alone\.h5"):
        side_by_side([alone, opened])


def test_views_train_but_are_never_held_out(tmp_path):
    """A fold trains on every view of its images; it holds out the same images, as they are, as without views."""
    held = contents(rows=40, classes=2)
    alone = open_stack(stack(tmp_path / "alone.h5", held))
    twice = {
        name: np.tile(v, 2) if np.ndim(v) == 1 else np.tile(v, (2, 1))
        for name, v in held.items()
        if name not in ("shape", "label_names", "paths")
    }
    held |= twice | {"paths": held["paths"] * 2, "view": np.repeat([0, 1], 40)}
    opened = open_stack(stack(tmp_path / "twice.h5", held))
    groups = source_groups(opened)
    for (train, held_out), (_, expected) in zip(folds(opened, opened.y), folds(alone, alone.y), strict=True):
        np.testing.assert_array_equal(held_out, expected)
        assert set(train) == set(range(80)) - set(expected) - set(expected + 40)
        assert not set(groups[train]) & set(groups[held_out])
    for estimator in (SpanLinear(LinearSVC(dual=True)), KernelSVC()):
        fitted = estimator.fit(opened, opened.y)
        assert fitted.predict_proba(opened).shape == (80, 2)  # the temperature came from 40 of the 80 rows


def test_the_temperature_is_scikit_learns(monkeypatch):
    """Probabilities equal those of CalibratedClassifierCV on the same folds, but for the doubt about few rows."""
    monkeypatch.setattr(calibration, "doubt", lambda rows: 0.0)
    X, y = data(90, 30, classes=3)
    new = data(40, 30, seed=1)[0]
    linear = SpanLinear(LinearSVC(dual=True, tol=1e-8, max_iter=10**6))
    for classes, machines in ((3, [linear]), (2, [linear, KernelSVC(C=2.0)])):  # the other couples pairs of classes
        X, new, y = X.astype("f8"), new.astype("f8"), y % classes
        for ours in machines:
            ours.fit(X, y)
            plain = (
                SVC(C=2.0, gamma=ours.gamma_) if isinstance(ours, KernelSVC) else ours.estimator.set_params(C=ours.C_)
            )
            reference = CalibratedClassifierCV(plain, method="temperature", ensemble=False, cv=folds(X, y))
            expected = reference.fit(normalize(X), y).predict_proba(normalize(new))
            np.testing.assert_allclose(ours.predict_proba(new), expected, atol=2e-3)


def test_pairs_are_coupled_as_wu_lin_and_weng_say():
    """The coupled probabilities minimise their objective (found by SciPy), and argmax is the label of the votes."""
    random = np.random.default_rng(0)
    first, second = np.triu_indices(4, 1)
    pairs = random.uniform(0.02, 0.98, (5, 6))
    got = coupled(pairs, np.zeros(5, int), 4)
    for r, p in zip(pairs, got, strict=True):

        def loss(p, r=r):
            return sum(((1 - r) * p[first] - r * p[second]) ** 2)

        whole = {"type": "eq", "fun": lambda p: p.sum() - 1}
        found = minimize(loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=whole, options={"ftol": 1e-14}).x
        np.testing.assert_allclose(np.sort(p), np.sort(found), atol=1e-5)
        assert p.argmax() == 0


def test_the_sigmoids_slope_is_logistic_regressions():
    """One slope for all pairs, fitted by scikit-learn to the margins of every row's class, right and doubted."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 3
    decisions = random.normal(size=(60, 3)) + 0.8 * np.array([[1, 1, 0], [-1, 0, 1], [0, -1, -1]])[y]
    pairs = [(0, 1), (0, 2), (1, 2)]
    margins = [
        d * (1 if label == a else -1)
        for label, row in zip(y, decisions, strict=True)
        for (a, b), d in zip(pairs, row, strict=True)
        if label in (a, b)
    ]
    twice, wrong = np.tile(margins, 2)[:, None], 1 / 62
    weights = np.repeat([1 - wrong, wrong], len(margins))
    right = np.repeat([1, 0], len(margins))
    plain = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(twice, right, weights)
    assert pair_temperature(decisions, y) == pytest.approx(1 / plain.coef_[0, 0], rel=1e-4)


def test_few_rows_give_no_certainty():
    """Rows that are told apart without an error: the confidence grows with their number, and is never one."""
    sure = []
    for rows in (30, 300):
        X, y = data(rows, 30, classes=3)
        X = X + 100 * np.eye(30)[y]
        machines = (KernelSVC(), SpanLinear(LinearSVC(dual=True)))
        sure.append([machine.fit(X, y).predict_proba(X).max() for machine in machines])
    assert (np.array(sure) < 0.9999).all() and (np.array(sure[0]) < sure[1]).all()
    assert (np.array(sure[0]) > 0.9).all()


def test_a_class_with_one_image_has_no_folds_and_no_probabilities():
    """Calibration is left out, and asking for probabilities says why; predictions still work."""
    X, y = data(30, 50, classes=2)
    y[7] = 2
    assert folds(X, y) == []
    fitted = KernelSVC().fit(X, y)
    assert set(fitted.predict(X)) <= {0, 1, 2}
    with pytest.raises(ValueError, match="a class has a single train image"):
        fitted.predict_proba(X)


def test_a_model_from_before_its_class_moved_is_refused_in_one_line():
    """Guards people with models of an older version: skops names classes by module, and a module may have moved."""
    with pytest.raises(Refused) as refused:
        load_model(REPO / "tests" / "data" / "model-2026-11")
    again = "Fit it again: python -m classify fit oldst.h5 --model logreg"
    assert f"was saved by an older version. {again}" in str(refused.value)
    assert "\n" not in str(refused.value)
