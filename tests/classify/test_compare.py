"""`compare`: several models on the same rows, as JSON and in the terminal."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.datasets import load_digits
from tiny import contents, environment, run, stack

from classify import compare, fit
from classify.comparison import report
from classify.comparison.judge import judge
from classify.comparison.lead import leading_score
from classify.comparison.predictions import read_predictions
from classify.comparison.table import table
from classify.models import MODELS, Model
from classify.own import models_named
from classify.task import Task
from extract.images.split import seeded_split
from features import Failed, Refused, open_stack
from features.schema import SPLITS


def digits(path, shape=(4, 4, 4), rows=400, keep=lambda labels: labels < 10):
    """A stack of scikit-learn's digits as features, a quarter of them test; no photos."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[keep(labels)][:rows], labels[keep(labels)][:rows]
    held = contents(rows=len(labels), shape=shape, classes=10)
    return stack(path, held | {"features": images.astype("f4"), "labels": labels})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of two models; xgboost refuses, because the rows have no positions to pool."""
    folder = tmp_path_factory.mktemp("compared")
    report = compare(str(digits(folder / "digits.h5", (64,))), ["linearsvm", "xgboost", "logreg"], out=str(folder))
    assert report == folder / "report.html"
    return folder


def said(folder, model):
    """(label, predicted, probabilities) of a model's predictions.csv, read by csv alone."""
    with open(folder / model / "predictions.csv", newline="") as file:
        header, *lines = csv.reader(file)
    proba = np.array([line[3:] for line in lines], float)
    return [line[1] for line in lines], [line[2] for line in lines], proba, header[3:]


def test_json_equals_scores_computed_anew_from_the_predictions(compared):
    """Every score of every row, from the CSV beside it, by scikit-learn and scipy."""
    rows = [row for row in json.loads((compared / "compare.json").read_text()) if row["accuracy"] is not None]
    assert {row["model"] for row in rows} == {"linearsvm", "logreg"}
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    hits = {}
    for row in rows:
        y, predicted, proba, classes = said(compared, row["model"])
        hits[row["model"]] = np.array(y) == np.array(predicted)
        assert row["accuracy"] == pytest.approx(metrics.accuracy_score(y, predicted))
        assert row["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
        assert row["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
        assert row["log_loss"] == pytest.approx(metrics.log_loss(y, proba, labels=classes))
        assert 0 <= row["calibration_error"] < 0.5
        low, high = row["accuracy_interval"]
        assert low < row["accuracy"] < high
        low, high = row["balanced_accuracy_interval"]
        assert low < row["balanced_accuracy"] < high
        assert row["n_test"] == len(y) == 100
    one, base = hits["logreg"], hits["linearsvm"]
    row = next(row for row in rows if row["model"] == "logreg")
    assert row["difference"] == pytest.approx(one.mean() - base.mean())
    low, high = row["difference_interval"]
    assert low < row["difference"] < high
    apart = int((one & ~base).sum()), int((base & ~one).sum())
    assert row["mcnemar_p"] == pytest.approx(binomtest(apart[0], sum(apart)).pvalue if sum(apart) else 1)
    assert row["mcnemar_holm_p"] == row["mcnemar_p"]  # one test only


def test_what_was_removed_after_an_interruption_is_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model counts as fitted only where its scores are: the report never stands without them."""

    whole = report.write_report

    def interrupted(*words: Any) -> Path:
        if words[-1]:  # at the last: all models are fitted
            raise KeyboardInterrupt
        return whole(*words)

    words = (str(digits(tmp_path / "digits.h5", (64,))), ["linearsvm", "logreg"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("classify.comparison.report.write_report", interrupted)
        compare(*words, out=str(tmp_path / "out"))
    shutil.rmtree(tmp_path / "out" / "logreg")
    capsys.readouterr()
    assert compare(*words, out=str(tmp_path / "out")).is_file()
    told = capsys.readouterr().err
    assert "linear SVM was fitted before" in told and "fitting logistic regression" in told


def test_table_and_page_are_there_after_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interruption in the second model: the first stands in the table, on the page and on stderr."""
    fitted = Task.run

    def interrupted(self: Task, model: Model, *words: Any) -> Path:
        if model.title == "logistic regression":
            raise KeyboardInterrupt
        return fitted(self, model, *words)

    monkeypatch.setattr(Task, "run", interrupted)
    path = digits(tmp_path / "digits.h5", (64,))
    with pytest.raises(KeyboardInterrupt):
        compare(str(path), ["linearsvm", "logreg"], out=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [(row["model"], row.get("pending")) for row in rows] == [("linearsvm", None), ("logreg", True)]
    assert (
        "Logistic regression is not in the comparison: it is not fitted yet"
        in (tmp_path / "out" / "report.html").read_text()
    )
    told = capsys.readouterr().err
    assert "linearsvm " in told and "logreg: it is not fitted yet" in told and "report.html" in told


def test_what_takes_hours_is_left_out_unless_named() -> None:
    """All models but the network that learns from nothing, which is there by its name."""
    assert set(MODELS) - set(models_named(None)) == {"scratch"}
    assert list(models_named(["scratch", "svm"])) == ["scratch", "svm"]


def test_ties_with_the_best(compared: Path) -> None:
    """Of models that McNemar's test does not tell apart none is called the winner."""
    rows = json.loads((compared / "compare.json").read_text())
    assert [row["tied"] for row in rows if "failed" not in row] == [True, True]
    page = (compared / "report.html").read_text()
    assert "<h1>Tied: nothing here differs significantly from the best" in page


def test_the_baseline_is_the_first_model_asked_for_without_a_dense_head(compared):
    rows = json.loads((compared / "compare.json").read_text())
    assert {row["baseline"] for row in rows if row["accuracy"] is not None} == {"linearsvm"}
    base = next(row for row in rows if row["model"] == "linearsvm")
    assert base["difference"] is base["difference_interval"] is base["mcnemar_holm_p"] is None


def test_a_dense_head_is_the_baseline_wherever_it_stands(compared):
    rows, _ = judge({"logreg": compared / "logreg", "dense": compared / "linearsvm"})
    assert {row["baseline"] for row in rows} == {"dense"}


def test_a_model_that_fails_costs_the_others_nothing(compared):
    """It stands last, with its reason, in the JSON, the table and the report."""
    rows = json.loads((compared / "compare.json").read_text())
    assert rows[-1]["model"] == "xgboost"
    assert "flat already" in rows[-1]["failed"]
    assert "xgboost failed: " in table(rows)
    assert "flat already" in (compared / "report.html").read_text()


def test_an_error_that_nobody_foresaw_costs_the_others_nothing(tmp_path):
    """A library that breaks: its traceback is on stderr, its message in the table, and the report is written."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "xgboost.py").write_text("raise RuntimeError('built for another processor')")
    path = f"{tmp_path / 'broken'}:{environment()['PYTHONPATH']}"
    words = ("classify", "compare", digits(tmp_path / "a.h5", rows=60), "--models", "xgboost", "logreg")
    done = run(*words, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "xgboost failed: built for another processor" in done.stdout and "Traceback" in done.stderr
    assert "built for another processor" in (tmp_path / "classify/runs/a/report.html").read_text()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"epochs": 0}, {"jobs": 0}])
def test_numbers_that_mean_nothing_are_refused(tmp_path, wrong):
    """Before anything is fitted: seed -1 would end in NumPy, after all fits, and 0 epochs in an untrained network."""
    (name, value), path = *wrong.items(), digits(tmp_path / "a.h5", rows=60)
    with pytest.raises(Refused, match=rf"--{name} {value}: give a number from \d up"):
        compare(str(path), ["dense"], **wrong, out=str(tmp_path / "out"))
    with pytest.raises(Refused, match=rf"--{name} {value}: give a number from \d up"):
        fit(str(path), "dense", **wrong, out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_nothing_but_failures_is_a_failure(tmp_path):
    with pytest.raises(Failed, match=r"no model could be fitted:\n  xgboost: .*flat already"):
        compare(str(digits(tmp_path / "a.h5", (64,), 60)), ["xgboost"], out=str(tmp_path))


def test_an_unknown_model_is_refused_before_anything_is_fitted(tmp_path):
    path = digits(tmp_path / "a.h5", rows=60)
    with pytest.raises(Refused, match="no model is called 'logref'"):
        compare(str(path), ["svm", "logref"], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_other_test_rows_are_never_compared(compared, tmp_path):
    """A folder left by a run on another stack is not silently paired."""
    (tmp_path / "result.json").write_text((compared / "logreg" / "result.json").read_text())
    lines = (compared / "logreg" / "predictions.csv").read_text().splitlines(keepends=True)
    (tmp_path / "predictions.csv").write_text("".join([lines[0], *reversed(lines[1:])]))
    with pytest.raises(Failed, match="b answered other test rows than a"):
        judge({"a": compared / "logreg", "b": tmp_path})


def test_balanced_accuracy_leads_beyond_three_to_one(tmp_path):
    assert leading_score(np.repeat([0, 1], [30, 10])) == "accuracy"
    assert leading_score(np.repeat([0, 1], [31, 10])) == "balanced_accuracy"
    rare = digits(tmp_path / "rare.h5", keep=lambda labels: (labels < 2) | (np.arange(len(labels)) % 6 == 0))
    report = compare(str(rare), ["logreg"], out=str(tmp_path))
    assert json.loads((tmp_path / "compare.json").read_text())[0]["leads_by"] == "balanced_accuracy"
    assert "averaged over classes" in report.read_text()


def test_predictions_without_probabilities(tmp_path):
    (tmp_path / "p.csv").write_text('path,label,predicted\n"a,b.png",x,y\n')
    read = read_predictions(tmp_path / "p.csv", ["x", "y"])
    assert (read.paths, read.y.tolist(), read.predicted.tolist(), read.proba) == (["a,b.png"], [0], [1], None)


def test_predictions_of_other_classes_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("path,label,predicted,x,z\n")
    with pytest.raises(Failed, match=r"p\.csv has columns path, label, predicted, x, z; expected path, label"):
        read_predictions(tmp_path / "p.csv", ["x", "y"])


def test_the_terminal_table_fits_and_dashes_what_is_not_known():
    """The longest name and the largest numbers to be expected stay within 100 columns."""
    row = {
        "accuracy": 0.8111, "accuracy_interval": [0.7, 0.9], "balanced_accuracy": 0.8, "macro_f1": 0.8,
        "log_loss": 12.345, "calibration_error": 0.123, "difference": -0.345, "mcnemar_holm_p": 1e-9,
        "fit_seconds": 12345.6, "predict_seconds": 123.45, "model_bytes": 1e9, "n_train": 7500, "n_test": 2500,
        "stack": "features/stacks/food101-10-vgg16.h5", "baseline": "dense",
    }  # fmt: skip
    bare = {"log_loss": None, "calibration_error": None, "difference": None, "mcnemar_holm_p": None}
    lines = table([row | {"model": "linearsvm"}, row | bare | {"model": "dense"}]).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].count("–") == 1 + 4
    assert "95 %" not in table([{name: row[name] for name in row if name != "accuracy_interval"} | {"model": "svm"}])


def test_the_command_prints_the_table_and_the_report(tmp_path):
    path = digits(tmp_path / "digits.h5", rows=200)
    (tmp_path / "elsewhere").mkdir()
    done = run("classify", "compare", path, "--models", "logreg", "--data", "elsewhere", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("logreg ")
    assert lines[-1] == "classify/runs/digits/report.html"
    page = (tmp_path / lines[-1]).read_text()
    assert "none could be read from elsewhere" in page
    assert f"python -m classify compare {path} --models logreg --data elsewhere" in page


def with_views(path):
    """Digits, each train image three times: itself and two noisy views."""
    images, labels = load_digits(return_X_y=True)
    held = contents(rows=200, shape=(4, 4, 4), classes=10)
    held |= {"features": images[:200].astype("f4"), "labels": labels[:200]}
    image = np.repeat(np.arange(200), np.where(held["split"] == 2, 1, 3))
    view = np.arange(len(image)) - np.searchsorted(image, image)
    noise = np.random.default_rng(0).uniform(0, 4, (len(image), 64)) * (view > 0)[:, None]
    many = {name: held[name][image] for name in ("labels", "split", "sha256", "size", "mtime_ns")}
    many |= {"features": (held["features"][image] + noise).astype("f4"), "view": view.astype("i4")}
    many |= {"paths": [held["paths"][i] for i in image], "label_names": held["label_names"], "shape": held["shape"]}
    return stack(path / "views.h5", many), stack(path / "plain.h5", held)


@pytest.mark.slow
def test_what_views_bring_is_told_for_each_model(tmp_path):
    """Each model also without views: the gain is the difference of two files of predictions, the interval holds it."""
    views, plain = with_views(tmp_path)
    report = compare(str(views), ["dense", "linearsvm", "xgboost"], epochs=2, out=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    for row in rows:
        trained = [tmp_path / "out" / row["model"], tmp_path / "out" / row["model"] / "without-views"]
        results = [json.loads((folder / "result.json").read_text()) for folder in trained]
        assert [(r["n_train"], r["n_test"], r["views"]) for r in results] == [(450, 50, 2), (150, 50, 0)]
        y, predicted, *_ = said(tmp_path / "out", row["model"])
        _, alone, *_ = said(tmp_path / "out", f"{row['model']}/without-views")
        gain = np.mean(np.array(y) == predicted) - np.mean(np.array(y) == alone)
        assert row["views_difference"] == pytest.approx(gain)
        assert row["views_interval"][0] <= gain <= row["views_interval"][1]
    assert "Gained by views" in report.read_text()
    told = table(rows)
    assert "views: points gained by training on 2 views of each image" in told
    balanced = table([row | {"balanced_accuracy": row["accuracy"]} for row in rows])
    assert "bal.acc" in told and "bal.acc" not in balanced
    assert max(map(len, balanced.splitlines()[:4])) <= 100
    for name in ("linearsvm", "xgboost"):
        folder = fit(str(plain), model=name, out=str(tmp_path / "plain" / name))
        assert said(folder.parent, name)[1] == said(tmp_path / "out", f"{name}/without-views")[1]


def test_views_that_are_not_there_are_refused(tmp_path):
    """More views than the stack has, or fewer than none: what it has, and the command that makes more."""
    views, plain = with_views(tmp_path)
    with pytest.raises(Refused, match=r"--views 3: .*views.h5 has 2 views of its train images.*extract DATA --views 3"):
        fit(str(views), model="logreg", views=3)
    with pytest.raises(Refused, match=r"--views 1: .*plain.h5 has no views of its train images"):
        compare(str(plain), ["logreg"], views=1)
    with pytest.raises(Refused, match=r"--views -1: "):
        fit(str(views), model="logreg", views=-1)
    one = json.loads((fit(str(views), model="logreg", views=1, out=str(tmp_path / "one")) / "result.json").read_text())
    assert (one["n_train"], one["views"]) == (300, 1)


def test_another_split_of_the_same_stack(tmp_path, monkeypatch, capsys):
    """Guards `--split-seed`: the split that stage one would give, kept apart, and no row on both sides."""
    monkeypatch.chdir(tmp_path)
    held = contents(rows=120, shape=(64,), classes=3)
    held["features"] += 5 * np.eye(64, dtype="f4")[held["labels"]]
    held["sha256"][60:70] = held["sha256"][:10]  # copies
    held["group"] = [f"site {i // 4}" if i >= 80 else "" for i in range(120)]
    path = stack(tmp_path / "a.h5", held)
    opened = open_stack(path)
    folders = [fit(str(path), "logreg"), *(fit(str(path), "logreg", split_seed=seed) for seed in (1, 2))]
    assert [str(folder) for folder in folders[1:]] == [f"classify/runs/a/split-{seed}/logreg" for seed in (1, 2)]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [result.get("split_seed") for result in results] == [None, 1, 2]
    assert len({result["stack_key"] for result in results}) == 3
    for seed, folder in zip((1, 2), folders[1:], strict=True):
        expected = seeded_split(opened.y, opened.field("sha256"), seed, groups=held["group"])
        tested = [line.split(",")[0] for line in (folder / "predictions.csv").read_text().splitlines()[1:]]
        assert tested == [path for path, code in zip(held["paths"], expected, strict=True) if code == SPLITS["test"]]
    assert "split again with seed 2: " in capsys.readouterr().err
    report = compare(str(path), ["logreg", "linearsvm"], split_seed=2)
    assert str(report) == "classify/runs/a/split-2/report.html"
    assert np.array_equal(open_stack(path).split, held["split"])
    twice = fit([str(path), str(shutil.copy(path, tmp_path / "b.h5"))], "logreg", split_seed=1)
    assert json.loads((twice / "result.json").read_text())["n_test"] == results[1]["n_test"]


def test_class_names_in_the_c_locale(tmp_path):
    """Guards files from the locale: they are UTF-8, whatever the terminal can show."""
    held = contents(rows=60, shape=(8,), classes=2) | {"label_names": ["café", "naïve"]}
    path = stack(tmp_path / "a.h5", held)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("classify", "compare", path, "--models", "logreg", cwd=tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "classify/runs/a/compare.json").read_text("utf-8"))
    assert results[0]["label_names"] == ["café", "naïve"]
