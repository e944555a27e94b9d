"""A user's own classifiers in a comparison: scikit-learn's interface is all they need."""

import json
from pathlib import Path

import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import contents, run, stack

from classify import compare, predict
from features import Refused, open_stack


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 of scikit-learn's digits as maps of 4 × 4 places and 4 channels."""
    images, labels = load_digits(return_X_y=True)
    held = contents(rows=300, shape=(4, 4, 4), classes=10)
    held |= {"features": images[:300].astype("f4"), "labels": labels[:300]}
    return stack(tmp_path_factory.mktemp("own") / "digits.h5", held)


def test_any_classifier_takes_part(digits: Path, tmp_path: Path) -> None:
    """Guards the rows and the answers: those of plain scikit-learn on the average-pooled rows, in table and page."""
    forest = RandomForestClassifier(20)
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier())
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-2]})
    report = compare(
        str(digits), ["knn", forest, pipeline, search, RandomForestClassifier(5)], seed=3, out=str(tmp_path)
    )
    rows = {row["model"]: row for row in json.loads((tmp_path / "compare.json").read_text())}
    assert set(rows) == {"knn", "RandomForestClassifier", "Pipeline", "GridSearchCV", "RandomForestClassifier-2"}
    one = open_stack(digits)
    train, test = one.select(("train",)), one.select(("test",))
    plain = RandomForestClassifier(20, random_state=3).fit(train.pooled("avg"), train.y)
    assert rows["RandomForestClassifier"]["accuracy"] == plain.score(test.pooled("avg"), test.y)
    assert rows["Pipeline"]["accuracy"] == pipeline.fit(train.pooled("avg"), train.y).score(test.pooled("avg"), test.y)
    assert rows["Pipeline"]["log_loss"] is None and rows["RandomForestClassifier"]["log_loss"] > 0
    assert all(name in report.read_text() for name in rows)
    assert not hasattr(forest, "estimators_") and forest.random_state is None  # the user's own object is left alone
    with pytest.raises(Refused, match="no model in .*RandomForestClassifier"):
        predict(str(tmp_path / "RandomForestClassifier"), [str(digits)])


def test_on_the_command_line(digits: Path, tmp_path: Path) -> None:
    """Guards `module:factory`: made in the working folder, named by its factory; what is none of it is refused."""
    (tmp_path / "mine.py").write_text(
        "from sklearn.naive_bayes import GaussianNB\n"
        "def bayes():\n    return GaussianNB()\n"
        "def broken():\n    return 7\n"
    )
    done = run("classify", "compare", digits, "--models", "mine:bayes", "linearsvm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bayes  " in done.stdout and "not saved, so that predict cannot use it: bayes" in done.stdout
    for wrong, why in {
        "mine:nothing": "has no attribute 'nothing'",
        "gone:bayes": "No module named 'gone'",
        "mine:broken": "broken is no classifier with fit, predict and get_params",
        "linearsvn": "no model is called 'linearsvn'. Did you mean",
    }.items():
        done = run("classify", "compare", digits, "--models", wrong, cwd=tmp_path)
        assert done.returncode == 2 and why in done.stderr.splitlines()[-1], done.stderr


def test_a_class_is_no_classifier(digits: Path, tmp_path: Path) -> None:
    """Guards the most common slip: the class without brackets."""
    with pytest.raises(Refused, match="is no classifier"):
        compare(str(digits), [RandomForestClassifier], out=str(tmp_path))


def test_rows_that_are_flat_are_taken_as_they_are(tmp_path: Path) -> None:
    """Guards stacks without maps, which nothing can be averaged over."""
    path = stack(tmp_path / "flat.h5", contents(rows=60, shape=(12,)))
    compare(str(path), [GaussianNB()], out=str(tmp_path / "out"))
    train, test = (open_stack(path).select((side,)) for side in ("train", "test"))
    (row,) = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert row["accuracy"] == GaussianNB().fit(train.X, train.y).score(test.X, test.y)


def test_a_name_that_is_taken(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards saved models: a factory called svm would put its scores beside the SVM that lies in svm/."""
    (tmp_path / "own_names.py").write_text("def svm():\n    from sklearn.svm import SVC\n    return SVC()\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="svm is the name of a model here already"):
        compare(str(digits), ["own_names:svm"], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
