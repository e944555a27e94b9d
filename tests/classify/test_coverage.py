"""Prediction sets: against MAPIE and scikit-learn, and that the true label is in them as often as was asked for."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import warm
from mapie.classification import SplitConformalClassifier
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from tiny import REPO, contents, photos, stack

from classify import Classifier, fit, predict
from classify.classical.calibration import temperature
from classify.classical.coupling import tempered
from classify.coverage import MOST, Coverage, checked_coverage, scores_of, sets
from classify.folds import folds, sides
from classify.models import NEIGHBOURS
from classify.predict import joined
from classify.saved import load_model
from features import Refused, Stack, open_stack

CLASSICAL = ("logreg", "linearsvm", "svm", "knn", "xgboost")


def blurred(rows: int = 1200, classes: int = 4, seed: int = 0, width: int = 12) -> dict:
    """Rows of classes that overlap, half of them test rows, dealt by chance."""
    held = contents(rows=rows, shape=(1, 1, width), classes=classes, seed=seed)
    centre = np.eye(width)[held["labels"]] * 2.2
    held["features"] = (held["features"] + centre + 1).astype("f4")
    held["split"] = np.where(np.random.default_rng(seed + 1).random(rows) < 0.5, 2, 0).astype("u1")
    return held


@pytest.fixture(scope="module")
def overlap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack(tmp_path_factory.mktemp("coverage") / "a.h5", blurred())


class Known(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose rows are its probabilities, as MAPIE takes them."""

    def __init__(self, classes: int = 4) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("count", [30, 99, 100, 101, 560])
def test_sets_are_mapies(count: int) -> None:
    """Guards the rank of the score, and what a set is: MAPIE's split conformal sets by its score `lac`."""
    random = np.random.default_rng(count)
    given = random.dirichlet(np.full(4, 0.4), count + 200)
    y = np.array([random.choice(4, p=row) for row in given])
    for asked in (0.5, 0.75, 0.9, 0.95):
        oracle = SplitConformalClassifier(Known(), confidence_level=asked, conformity_score="lac")
        oracle.conformalize(given[:count], y[:count])
        theirs = oracle.predict_set(given[count:])[1][:, :, 0]
        coverage = Coverage.of(scores_of(given[:count], y[:count]))
        assert coverage is not None
        level = coverage.level(asked)
        (quantile,) = oracle._mapie_classifier.conformity_score_function_.quantiles_
        assert level == pytest.approx(quantile, abs=1e-12)
        np.testing.assert_array_equal(sets(given[count:], level), theirs)
    assert not sets(
        np.full((1, 4), 0.25), Coverage.of(scores_of(given, y)).level(0.3)
    ).any()  # empty: none is plausible


def test_coverage_is_what_was_asked_for(overlap: Path, tmp_path: Path) -> None:
    """The point of it: within the binomial bounds (99 %) on test rows, of every classical model.

    XGBoost was checked on 15 % of the train rows, so its own bounds are wider: those of a quantile of so few.
    """
    for name in CLASSICAL:
        result = json.loads((fit(str(overlap), name, out=str(tmp_path / name)) / "result.json").read_text())
        found, n = result["sets"], result["n_test"]
        assert result["held_out"] == (result["n_train"] if name != "xgboost" else len(split_of(overlap)[1]))
        low, high = binom(n, 0.9).ppf([0.005, 0.995]) / n
        more = 0 if name != "xgboost" else 2.58 * (0.09 / result["held_out"]) ** 0.5
        assert low - more <= found["covered"] <= high + more, name
        assert 1 < found["size"] < 3 and found["asked"] == 0.9
        assert 0 <= found["empty"] <= 1 - found["covered"] and found["single"] <= 1


def split_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    train = open_stack(path).select("train")
    return sides(train, train.y, 0)


def held_out_probabilities(train: Stack, fitted: object, search: bool) -> np.ndarray:
    """Of every train row, by scikit-learn's own estimators fitted to the other folds, with what those folds chose."""
    X, y, parts = normalize(train.X[:].astype("f8")), train.y, folds(train, train.y)
    neighbours = hasattr(fitted, "k_")
    asked: dict[int, np.ndarray] = {}  # neighbours → probabilities of all rows
    for k in NEIGHBOURS["k"] if search else [getattr(fitted, "k_", 0)]:
        asked[k] = np.zeros((len(y), 4))
        for inside, out in parts:
            plain = LogisticRegression(C=getattr(fitted, "C_", 1.0), tol=1e-8, max_iter=1000)
            if neighbours:
                plain = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
            asked[k][out] = plain.fit(X[inside], y[inside]).predict_proba(X[out])
    found = np.zeros((len(y), 4))
    for fold, (_, out) in enumerate(parts):
        others = [rows for number, (_, rows) in enumerate(parts) if number != fold]
        scores = {
            k: np.mean([np.mean(said[rows].argmax(1) == y[rows]) for rows in others]) for k, said in asked.items()
        }
        best = asked[max(scores, key=lambda k: round(scores[k], 9))]
        rest = np.concatenate(others)
        found[out] = tempered(best[out], temperature(best[rest], y[rest])) if neighbours else best[out]
    return found


@pytest.mark.parametrize(("name", "search"), [("logreg", False), ("knn", False), ("knn", True)])
def test_scores_are_of_rows_held_out(tmp_path: Path, name: str, search: bool) -> None:
    """By scikit-learn fold after fold: a fold's settings and temperature are those that the other folds choose.

    Logistic regression's are near enough.
    """
    wide = stack(tmp_path / "a.h5", blurred(rows=400, width=300))  # each row seen is known by heart
    folder = fit(str(wide), name, search=search, out=str(tmp_path / name))
    fitted, about = load_model(folder)
    assert "coverage.npz" in about["files"]
    train = open_stack(wide).select("train")
    expected = np.sort(scores_of(held_out_probabilities(train, fitted, search), train.y))
    found = Coverage.load(folder, about).scores
    np.testing.assert_allclose(found, expected, atol=0.03 if name == "logreg" else 1e-6)
    seen = np.sort(scores_of(fitted.predict_proba(train.X[:]), train.y))
    assert name != "logreg" or np.median(found) > np.median(seen) + 0.1
    assert (np.diff(found) >= 0).all()


@pytest.mark.slow
def test_a_networks_scores_are_of_its_validation_rows(overlap: Path, tmp_path: Path) -> None:
    folder = fit(str(overlap), "dense", epochs=3, out=str(tmp_path / "dense"))
    fitted, about = load_model(folder)
    train, (_, check) = open_stack(overlap).select("train"), split_of(overlap)
    expected = scores_of(fitted.predict_proba(train.take(check)), train.y[check])
    np.testing.assert_allclose(Coverage.load(folder, about).scores, np.sort(expected), atol=1e-6)


def test_scores_of_folds_count_one_more_row(tmp_path: Path) -> None:
    """As if no set held its label: the rank is that of one more score. A model that was saved before keeps its rank."""
    scores = np.arange(40) / 40
    split, crossed = Coverage.of(scores), Coverage.of(scores, folds=True)
    assert split.level(0.9) == scores[37 - 1] and crossed.level(0.9) == scores[38 - 1]
    assert crossed.level(0.9) == Coverage.of(np.append(scores, 1.0)).level(0.9)
    with pytest.raises(Refused, match=r"the 40 images that this model was checked on: ask for 0\.952 at most"):
        crossed.level(0.96)
    about = {"files": {"coverage.npz": ""}}
    for each in (split, crossed):
        each.save(tmp_path)
        assert Coverage.load(tmp_path, about).level(0.9) == each.level(0.9)
    np.savez(tmp_path / "coverage.npz", scores=scores)
    assert Coverage.load(tmp_path, about).level(0.9) == split.level(0.9)


def test_very_many_scores_are_thinned() -> None:
    """A file of a million rows stays small, and no part of the rows is left out."""
    scores = np.arange(100_001) / 100_001
    kept = Coverage.of(scores)
    assert kept is not None and MOST / 2 < len(kept.scores) <= MOST
    assert kept.level(0.9) == pytest.approx(0.9, abs=1e-3)
    assert Coverage.of(None) is None and Coverage.of(scores[:0]) is None


@pytest.mark.parametrize(
    ("coverage", "hint"), [(90, r"\. Did you mean 0\.9\?$"), (0, "$"), (1, "$"), (-0.5, "$"), (float("nan"), "$")]
)
def test_what_is_no_coverage(coverage: float, hint: str, tmp_path: Path) -> None:
    """Refused before a model is loaded; a percentage gets a hint."""
    message = rf"coverage {coverage:g}: expected a number between 0 and 1, both excluded, such as 0\.9" + hint
    with pytest.raises(Refused, match=message):
        predict(str(tmp_path / "no model"), [], coverage=coverage)
    with pytest.raises(Refused, match=message):
        checked_coverage(coverage)


def test_models_that_cannot_say(tmp_path: Path) -> None:
    """A model of an earlier version says how to get sets; so does one of too few images."""
    old = REPO / "tests" / "data" / "model-2026-11"
    about = json.loads((old / "model.json").read_text())
    again = r"it was saved by an older version\. Fit it again: python -m classify fit oldst\.h5 --model logreg$"
    with pytest.raises(Refused, match=rf"model-2026-11 cannot say how many labels a coverage takes: {again}"):
        Coverage.load(old, about).level(0.9)
    few = contents(rows=8)
    few["split"] = np.array([0, 0, 0, 2, 2, 2, 2, 2], "u1")
    alone = fit(str(stack(tmp_path / "few.h5", few)), "logreg", out=str(tmp_path / "alone"))
    assert not (alone / "coverage.npz").exists() and "sets" not in json.loads((alone / "result.json").read_text())
    with pytest.raises(Refused, match=r"a class has too few train images to hold any out\. Add images"):
        Coverage.load(alone, load_model(alone)[1]).level(0.9)
    with pytest.raises(Refused, match=r"coverage 0\.95 takes more than the 9 images .*: ask for 0\.9 at most"):
        Coverage(np.arange(9) / 9).level(0.95)
    assert Coverage(np.arange(9) / 9).level(0.9) == 8 / 9


def test_a_set_in_a_field_of_csv() -> None:
    """Labels with blanks and commas are plain; with |, quotes or line ends they come back as they were."""
    assert joined([]) == "" and joined(["apple_pie"]) == "apple_pie" and joined(["a b", "c,d"]) == "a b|c,d"
    for labels in (["x|y", 'q"z'], ["m\nn", "u\rv", " "], ["é", "x"]):
        assert next(csv.reader([joined(labels)], delimiter="|")) == labels


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 photos of two classes, one with an odd name, and a model of a random VGG16's rows."""
    from extract import extract

    folder = tmp_path_factory.mktemp("sets")
    photos(folder / "photos", classes=2, each=15)
    (folder / "photos" / "class1").rename(folder / "photos" / "b, c|d")
    extract(str(folder / "photos"), weights="random", size=32, batch=8, out=str(folder / "a.h5"))
    fit(str(folder / "a.h5"), "logreg", out=str(folder / "model"))
    return folder


@pytest.mark.slow
def test_the_command_prints_sets(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV, JSON lines and the class agree; what cannot be read has no set."""
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    words = [str(here / "photos"), str(tmp_path / "bad.jpg")]
    done = warm.run("classify", "predict", here / "model", *words, "--coverage", "0.8", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    *rows, bad = csv.DictReader(done.stdout.splitlines())
    assert list(bad) == ["path", "label", "probability", "familiar", "error", "set", "b, c|d", "class0"]
    assert bad["set"] == "" and bad["error"]
    classifier = Classifier.load(here / "model")
    files = [row["path"] for row in rows]
    wanted = classifier.predict_sets(files, 0.8)
    assert [next(csv.reader([row["set"]], delimiter="|"), []) for row in rows] == wanted
    sizes = np.bincount([len(each) for each in wanted], minlength=3)
    told = f"sets at 80 % coverage: no label for {sizes[0]} photos, one for {sizes[1]}, several for {sizes[2]}\n"
    assert told in done.stderr
    level = Coverage.load(here / "model", load_model(here / "model")[1]).level(0.8)
    for row, labels in zip(rows, wanted, strict=True):
        given = {name: float(row[name]) for name in classifier.label_names}
        assert set(labels) == {name for name, p in given.items() if 1 - p <= level}
        assert labels == sorted(labels, key=lambda name: -given[name]) and row["label"] in (labels or [row["label"]])
    predict(str(here / "model"), words, json=True, coverage=0.8)
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["set"] for line in lines] == wanted and "set" not in last
    assert next(classifier.stream(files)).set is None
    assert [list(each.set) for each in classifier.stream(files[:9], coverage=0.8)] == wanted[:9]


@pytest.mark.slow
def test_what_the_class_refuses(here: Path, tmp_path: Path) -> None:
    """At once, not with the first image; `--out` leaves no file."""
    with pytest.raises(Refused, match=r"Did you mean 0\.9\?"):
        Classifier.load(here / "model").stream([], coverage=90)
    old = Path(shutil.copytree(here / "model", tmp_path / "old"))
    about = json.loads((old / "model.json").read_text())
    del about["files"]["coverage.npz"], about["held_out"]
    (old / "model.json").write_text(json.dumps(about))
    photo = str(next((here / "photos" / "class0").iterdir()))
    assert Classifier.load(old).predict([photo]) == Classifier.load(here / "model").predict([photo])
    with pytest.raises(Refused, match=r"it was saved by an older version\. Fit it again: python -m classify fit"):
        predict(str(old), [photo], coverage=0.9, out=str(tmp_path / "out.csv"))
    assert not list(tmp_path.glob("out.csv*"))
