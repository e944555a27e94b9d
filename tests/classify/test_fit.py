"""The doors `fit` and `compare`, on a small stack of real digits' pixels."""

import csv
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import warm
from sklearn.datasets import load_digits
from tiny import contents, run, stack

from classify import MODELS, compare, fit
from classify.across.feature_set import SharedRows
from classify.answers import SavedModel
from classify.saved import load_answers, load_model, save_model
from features import Failed, Refused, open_stack


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A stack of scikit-learn's digits as features, a quarter of them test."""
    images, labels = load_digits(return_X_y=True)
    held = contents(rows=600, shape=(4, 4, 4), classes=10)
    held |= {"features": images[:600].astype("f4"), "labels": labels[:600]}
    return stack(tmp_path_factory.mktemp("digits") / "digits.h5", held)


@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "xgboost"])
def test_fit_scores_the_test_rows(digits, tmp_path, model):
    """Every classical model learns, and result.json and predictions.csv agree with the stack, row for row."""
    folder = fit(str(digits), model=model, pool="flatten", out=str(tmp_path / model))
    result = json.loads((folder / "result.json").read_text())
    opened = open_stack(digits)
    test = opened.select("test")
    rows = list(csv.DictReader((folder / "predictions.csv").open(newline="")))
    assert [row["path"] for row in rows] == test.paths
    assert [row["label"] for row in rows] == [opened.label_names[label] for label in test.y]
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert result["accuracy"] == pytest.approx(right)
    assert result["accuracy"] > 0.8
    assert (result["n_train"], result["n_test"]) == (450, 150)
    assert result["stack_key"] == opened.key
    assert np.sum(result["confusion"]) == 150
    assert sum(float(rows[0][name]) for name in opened.label_names) == pytest.approx(1)


def test_test_rows_are_never_seen_by_the_fit(digits, tmp_path):
    """With every test row replaced by noise, the model that is saved is the same."""
    images, labels = load_digits(return_X_y=True)
    held = contents(rows=600, shape=(4, 4, 4), classes=10)
    held |= {"features": images[:600].astype("f4"), "labels": labels[:600]}
    noise = np.random.default_rng(0).standard_normal((600, 64)).astype("f4")
    held["features"] = np.where((held["split"] == 2)[:, None], noise, held["features"])
    disturbed = stack(tmp_path / "disturbed.h5", held)
    for model in ("logreg", "svm"):
        one = fit(str(digits), model=model, out=str(tmp_path / "a" / model))
        other = fit(str(disturbed), model=model, out=str(tmp_path / "b" / model))
        params = [json.loads((folder / "model.json").read_text())["params"] for folder in (one, other)]
        assert params[0] == params[1]


def test_a_class_that_lost_its_train_rows_is_no_trouble(tmp_path):
    """Labels with a gap, and a class that only test has: every model still fits, and never predicts that class."""
    held = contents(rows=80, classes=4)
    held["split"] = np.where((held["labels"] == 1) | (np.arange(80) % 4 == 3), 2, 0).astype("u1")
    path = stack(tmp_path / "gap.h5", held)
    for model in ("logreg", "svm", "xgboost"):
        rows = list(csv.DictReader((fit(str(path), model=model, out=str(tmp_path / model)) / "predictions.csv").open()))
        assert "class1" not in {row["predicted"] for row in rows}
        assert "class1" in {row["label"] for row in rows}


@pytest.mark.parametrize("value", [0, 1])
def test_rows_that_are_all_one_tell_how_frequent_classes_are(tmp_path: Path, value: int) -> None:
    """Guards the scale of C and γ, the span of rows of zeros and the report's map: every model fits and answers alike.

    Wide and tall rows, one after the other, and rows of one direction and many lengths.
    """
    held = contents(rows=60, classes=3)
    held |= {"labels": np.repeat([0, 1, 2], [16, 20, 24]), "split": (np.arange(60) % 4 == 3).astype("u1") * 2}
    lengths = np.random.default_rng(0).uniform(1, 3, (60, 1)).astype("f4")
    for width in (24, 96):
        X = np.full((60, width), value, "f4")
        for rows in (X, X * lengths):
            for name, path in itertools.product(["logreg", "linearsvm", "svm"], [None, "other"]):
                other = {"path": "nystrom" if name == "svm" else "passes"} if path else {}
                fitted = MODELS[name].build(0).set_params(**other).fit(rows, held["labels"])
                assert (fitted.predict(rows) == 2).all(), (name, path, width)
                assert not getattr(fitted.model_, "fit_status_", 0), (name, path, width)
                if name == "logreg":
                    assert np.allclose(fitted.predict_proba(rows[:1]), [[16 / 60, 20 / 60, 24 / 60]], atol=1e-3)
    assert all(SharedRows(held["features"] * 0, held["labels"]).spread(np.arange(n)) == 1 for n in (20, 60))
    page = compare(str(stack(tmp_path / "a.h5", held | {"features": X[:, :24]})), ["logreg", "linearsvm", "svm", "knn"])
    assert [row["accuracy"] for row in page.table()][:3] == [6 / 15] * 3


def test_what_fit_refuses(digits, tmp_path):
    """Unknown names, one class, no test rows: each says what was expected."""
    with pytest.raises(Refused, match="no model is called 'svn'. Did you mean svm"):
        fit(str(digits), model="svn")
    with pytest.raises(Refused, match="no pooling is called 'mean'; there are flatten, avg, max"):
        fit(str(digits), pool="mean")
    held = contents(rows=20)
    with pytest.raises(Refused, match="no labelled test rows"):
        fit(str(stack(tmp_path / "a.h5", held | {"split": np.zeros(20, "u1")})))
    with pytest.raises(Refused, match="1 classes among its train rows"):
        fit(str(stack(tmp_path / "b.h5", held | {"labels": np.zeros(20, "i8")})))


def test_fit_json_is_one_object_and_the_stack_is_found(digits, tmp_path):
    """With no stack named, the one in features/stacks is used, and nothing but the object is on stdout."""
    stacks = tmp_path / "features" / "stacks"
    stacks.mkdir(parents=True)
    (stacks / "one.h5").hardlink_to(digits)
    done = run("classify", "fit", "--model", "linearsvm", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"model", "pool", "accuracy", "n_train", "n_test", "fit_seconds", "stack"} <= set(result)
    assert result["stack"] == "features/stacks/one.h5"
    assert (tmp_path / "classify" / "runs" / "one" / "linearsvm" / "model.skops").is_file()


@pytest.mark.slow
def test_a_row_stands_beside_the_dense_heads(digits, tmp_path):
    """`fit` shows the dense head's row of the same stack too, or the command that makes it."""
    alone = warm.run("classify", "fit", digits, "--model", "logreg", cwd=tmp_path)
    assert f"to compare: python -m classify fit {digits} --model dense" in alone.stderr
    warm.run("classify", "fit", digits, "--model", "dense", "--pool", "flatten", "--epochs", "1", cwd=tmp_path)
    both = warm.run("classify", "fit", digits, "--model", "logreg", cwd=tmp_path)
    assert [line.split()[0] for line in both.stdout.splitlines()[1:3]] == ["logreg", "dense"]
    assert "to compare" not in both.stderr


def test_classical_models_need_no_keras(digits, tmp_path):
    """`--model svm` imports neither TensorFlow nor Keras; nor do --help and info."""
    for words in (
        ["classify", "fit", str(digits), "--model", "svm"],
        ["classify", "--help"],
        ["features", "info", digits],
    ):
        done = run(*words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0, done.stderr
        modules = {
            line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
        }
        assert "numpy" in modules
        assert not {"keras", "tensorflow", "jax"} & modules


def test_the_table_has_the_classical_models():
    """The names people type."""
    assert {"logreg", "linearsvm", "svm", "xgboost"} <= set(MODELS)


def test_a_model_never_stands_beside_another_ones_scores(digits, tmp_path):
    """Broken off between saving and scoring: what is there is the new model alone, not the old one's result."""
    folder = fit(str(digits), model="logreg", out=str(tmp_path / "m"))
    estimator, about = load_model(folder)
    save_model(estimator, folder, about)
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == ["model.json", "model.skops"]


def test_a_model_of_trees_where_xgboost_is_missing(digits, tmp_path, monkeypatch):
    """What to install is said, and not that the model is damaged."""
    folder = fit(str(digits), model="xgboost", out=str(tmp_path / "m"))
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(Refused, match="XGBoost is not installed; pip install"):
        load_model(folder)


def test_a_disk_too_small_for_the_support_rows_leaves_the_model_that_was_there(digits, small_disk):
    """Said with both sizes before anything of the old model goes; HDF5 could crash where it meets a full disk."""
    folder = fit(str(digits), model="logreg", out=str(small_disk / "m"))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(Failed, match=r"cannot save the model in .*m: it needs 1\.\d MB and \d\.\d MB are free"):
        fit(str(digits), model="svm", out=str(folder))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["logreg", "linearsvm", "svm", "knn"])
def test_a_row_alone_gets_the_bits_that_it_gets_among_many(tmp_path: Path, name: str) -> None:
    """Guards one photo at a time, in a small block: any number of rows, anywhere in a large one, has the same bits."""
    held = contents(rows=400, shape=(3, 5, 64), classes=3)
    path = stack(tmp_path / "a.h5", held)
    saved = SavedModel(*load_answers(fit(str(path), name, out=str(tmp_path / "run"))))
    rows = open_stack(path).X[:256]
    whole, turned = saved([rows]), saved([rows[::-1]])
    assert whole[1] is not None and turned[1] is not None
    if not np.array_equal(whole[1], turned[1][::-1]):
        pytest.skip("this BLAS rounds a row by its place in a block; docs/predict.md says so")
    for start, count in ((0, 1), (0, 16), (100, 1), (240, 16), (255, 1), (37, 5)):
        labels, given = saved([rows[start : start + count]])
        assert given is not None and np.array_equal(labels, whole[0][start : start + count])
        assert np.array_equal(given, whole[1][start : start + count])
    assert saved.same_in_few([rows], whole) is (saved.few == 16)
    other = whole[0], whole[1] + np.finfo(float).eps
    assert not saved.same_in_few([rows], other)
