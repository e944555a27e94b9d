"""Searching, fusing, balancing and choosing a path, through the doors and beside scikit-learn."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, normalize
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.class_weight import compute_sample_weight
from tiny import contents, environment, run, stack

from classify import compare, fit, fitting
from classify.classical import memory, trees
from classify.classical.kernel import KernelSVC
from classify.classical.linear import SpanLinear
from classify.classical.products import unit_products
from classify.fusion import combined, side_by_side, weightings
from classify.saved import load_model
from features import Refused, open_stack
from features.runtime.machine import free_memory

IMAGES, LABELS = load_digits(return_X_y=True)


def made(path, images=IMAGES[:240], labels=LABELS[:240], **changes):
    """A stack of digits, 8 × 8 pixels as 4 × 4 positions of 4 channels."""
    held = contents(rows=len(images), shape=(4, 4, images.shape[1] // 16), classes=10)
    return stack(path, held | {"features": images.astype("f4"), "labels": labels} | changes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two stacks of the same digits: their pixels, and powers of them, four times wider."""
    folder = tmp_path_factory.mktemp("pair")
    powers = np.hstack([IMAGES[:240] ** power for power in (1, 2, 0.5, 3)])
    return made(folder / "one.h5"), made(folder / "two.h5", powers)


def side(stacks):
    """By numpy: normalised rows of each stack times the root of one half."""
    return np.hstack([normalize(np.asarray(s.X, "f8")) for s in stacks]) * np.sqrt(0.5)


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "xgboost"])
def test_a_search_is_in_the_result(pair, tmp_path, model):
    """All candidates with their folds' scores; the best is what was fitted."""
    found = result(fit(str(pair[0]), model=model, search=True, jobs=2, out=str(tmp_path)))
    means = [entry["mean"] for entry in found["search"]]
    assert all(entry["mean"] == pytest.approx(np.mean(entry["scores"])) for entry in found["search"])
    assert found["best"].items() <= found["params"].items()
    if model == "xgboost":
        rounds = sorted({entry["params"]["n_estimators"] for entry in found["search"]})
        assert rounds == [20, 60, 180]
    else:
        assert means[[entry["params"] for entry in found["search"]].index(found["best"])] == max(means)
        assert found["path"] == {"svm": "kernel"}.get(model, "primal")
        assert len(means) == (45 if model == "svm" else 9)


def test_json_and_the_closing_line(pair, tmp_path):
    done = run("classify", "fit", pair[1], "--model", "svm", "--search", "--jobs", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["search"]) == 45
    assert re.search(
        r"45 candidates × 5 folds in [\d.]+ s \([\d.]+ fits/s\); best inside train: .*gamma = ", done.stderr
    )


def test_fused_rows_are_the_normalised_rows_side_by_side(pair):
    """Rows, columns, products and both machines equal numpy and scikit-learn on the concatenated rows."""
    stacks = [open_stack(path) for path in pair]
    fused = side_by_side(stacks)
    train, test = fused.select("train"), fused.select("test")
    X, new = side([s.select("train") for s in stacks]), side([s.select("test") for s in stacks])
    np.testing.assert_allclose(train.X, X, atol=1e-6)
    np.testing.assert_allclose(train.columns(50, 90), X[:, 50:90], atol=1e-6)
    np.testing.assert_allclose(np.sum(train.X**2, axis=1), 1, atol=1e-5)
    products = combined([unit_products(s.select("train")) for s in stacks], fused.weights)
    np.testing.assert_allclose(products, X @ X.T, atol=1e-6)
    np.testing.assert_allclose(unit_products(train), X @ X.T, atol=1e-6)
    machine = KernelSVC().fit(train, train.y, products)
    plain = make_pipeline(Normalizer(), SVC(C=10.0, gamma=machine.gamma_)).fit(X, train.y)
    np.testing.assert_array_equal(machine.predict(test), plain.predict(new))
    linear = SpanLinear(LinearSVC(dual=True, tol=1e-6, max_iter=10**5), c=0.5).fit(train, train.y)
    plain = make_pipeline(Normalizer(), linear.estimator.set_params(C=linear.C_)).fit(X, train.y)
    np.testing.assert_array_equal(linear.predict(test), plain.predict(new))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linearsvm", "svm", "xgboost"])
def test_fit_takes_several_stacks(pair, tmp_path, model):
    """Weights are searched, the stacks' keys recorded, and the saved model predicts rows weighted as it says."""
    folder = fit([str(path) for path in pair], model=model, search=True, out=str(tmp_path))
    found = result(folder)
    assert found["stack_keys"] == [open_stack(path).key for path in pair]
    assert found["accuracy"] > (0.3 if model == "xgboost" else 0.85)
    estimator, about = load_model(folder)
    test = side_by_side([open_stack(path) for path in pair]).select("test")
    if model == "xgboost":
        assert estimator.n_features_in_ == 4 + 16
        return
    assert {tuple(entry["weights"]) for entry in found["search"]} == set(weightings(2))
    predicted = about["classes"] @ np.eye(10)[estimator.predict(test.weighted(about["weights"]))].T
    assert np.mean(predicted == test.y) == pytest.approx(found["accuracy"])


def test_stacks_of_other_rows_are_refused(pair, tmp_path):
    """The first row that differs is named, and in what."""
    shorter = made(tmp_path / "short.h5", IMAGES[:200], LABELS[:200])
    with pytest.raises(Refused, match=r"short.h5 has 200 rows, .*one.h5 240: stacks that are fused must be of the"):
        fit([str(pair[0]), str(shorter)])
    labels = LABELS[:240].copy()
    labels[17] = (labels[17] + 1) % 10
    with pytest.raises(Refused, match=r"row 17 differs in its label: class7/é17.png in .*one.h5, "):
        fit([str(pair[0]), str(made(tmp_path / "other.h5", labels=labels))])
    with pytest.raises(Refused, match="dense head takes one stack"):
        fit([str(path) for path in pair], model="dense")


def test_weights_sum_to_one():
    for count in (2, 3, 5):
        assert all(sum(weights) == pytest.approx(1) and len(weights) == count for weights in weightings(count))


def rare(path):
    """Digits of which the last two are five times rarer."""
    keep = (LABELS < 8) | (np.arange(len(LABELS)) % 5 == 0)
    return made(path, IMAGES[keep][:600], LABELS[keep][:600])


def test_balance_is_scikit_learns(tmp_path):
    """`balanced` class weights in both machines, sample weights for XGBoost, and balanced accuracy decides."""
    opened = open_stack(rare(tmp_path / "rare.h5"))
    train, test = opened.select("train"), opened.select("test")
    folder = fit(str(opened.path), model="svm", search=True, balance=True, out=str(tmp_path / "svm"))
    found, machine = result(folder), load_model(folder)[0]
    raw = np.asarray(train.X, "f8")
    plain = make_pipeline(Normalizer(), SVC(C=found["best"]["C"], gamma=machine.gamma_, class_weight="balanced"))
    np.testing.assert_array_equal(machine.predict(test), plain.fit(raw, train.y).predict(np.asarray(test.X, "f8")))
    assert found["leads_by"] == "balanced_accuracy"
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(test.y, machine.predict(test)))
    weights = compute_sample_weight("balanced", train.y)
    one, other = (fit(str(opened.path), model="xgboost", balance=b, out=str(tmp_path / f"{b}")) for b in (True, False))
    assert result(one)["confusion"] != result(other)["confusion"]
    assert np.ptp(weights) > 1


def test_balanced_accuracy_leads_the_table(tmp_path):
    report = compare(str(rare(tmp_path / "rare.h5")), ["logreg", "svm"], search=True, balance=True, out=str(tmp_path))
    rows = json.loads((tmp_path / "compare.json").read_text())
    assert [row["balanced_accuracy"] for row in rows] == sorted((r["balanced_accuracy"] for r in rows), reverse=True)
    from classify.comparison.table import table

    assert table(rows).split()[:5] == ["model", "bal.acc", "95", "%", "F1"]
    page = report.read_text()
    assert "How the settings were chosen" in page
    assert "C across, gamma up" in page
    assert "Score by c: " in page


def test_networks_have_no_search(pair):
    for option in ("search", "balance"):
        with pytest.raises(Refused, match=f"dense has no --{option}"):
            fit(str(pair[0]), model="dense", **{option: True})
    with pytest.raises(Refused, match="--jobs 0: give a number from 1 up"):
        fit(str(pair[0]), jobs=0)


def test_a_search_needs_two_images_of_every_class(tmp_path):
    labels = LABELS[:240].copy()
    labels[labels == 9] = 8
    labels[0] = 9
    with pytest.raises(Refused, match="--search needs at least two train images of every class"):
        fit(str(made(tmp_path / "a.h5", labels=labels)), search=True, out=str(tmp_path))


GB = 10**9


@pytest.mark.parametrize(
    ("rows", "width", "free", "path"),
    [
        (3_750, 62_720, 4 * GB, "span"),
        (3_750, 512, 4 * GB, "primal"),
        (4_000, 62_720, GB, None),
        (100_000, 62_720, 64 * GB, None),
        (1_000_000, 512, 64 * GB, None),
    ],
)
def test_the_path_that_fits(rows, width, free, path):
    assert memory.choose_method(rows, width, kernel=False, free=free) == path


def test_a_kernel_that_does_not_fit_is_not_tried():
    """Four matrices of all pairs and a gigabyte: 321 GB for 100,000 rows."""
    assert memory.choose_method(3_750, 62_720, kernel=True, free=4 * GB) == "kernel"
    assert memory.choose_method(40_000, 512, kernel=True, free=64 * GB) == "kernel"
    assert memory.choose_method(100_000, 62_720, kernel=True, free=64 * GB) is None
    assert memory.needed(100_000, 62_720, kernel=True) == pytest.approx(321.1 * GB, rel=1e-3)


def test_pairs_of_many_classes_are_not_taken():
    """499,500 pairs of 1,000 classes took 22 GB for 3,000 rows, and a machine without as much killed the process."""
    assert memory.choose_method(3_000, 651, kernel=True, free=64 * GB, paired=300) == "kernel"
    assert memory.choose_method(3_000, 651, kernel=True, free=4 * GB, paired=300) is None
    assert memory.choose_method(3_000, 651, kernel=True, free=64 * GB, paired=1_000) is None
    assert memory.choose_method(3_000, 651, kernel=True, free=4 * GB) == "kernel"  # neighbours, which have no pairs
    pairs = memory.needed(3_000, 651, kernel=True, paired=300) - memory.needed(3_000, 651, kernel=True)
    assert pairs > 3_000 * 300 * 299 / 2 * 8


@pytest.mark.parametrize("repeats", [1, 2])
def test_many_classes_are_told_apart_one_against_the_rest(pair, tmp_path, monkeypatch, caplog, repeats):
    """The same path in a fit and in every cell of a comparison; nearly as good, said and recorded."""
    exact = compare(str(pair[1]), ["svm"], repeats=repeats, out=str(tmp_path / "exact")).table()[0]
    caplog.clear()
    monkeypatch.setattr(memory, "MOST_PAIRED", 9)
    found = compare(str(pair[1]), ["svm"], repeats=repeats, out=str(tmp_path / "rest")).table()[0]
    assert "each of 10 classes against the rest, as pairs of more than 9 are too many" in caplog.text
    assert abs(found["accuracy"] - exact["accuracy"]) < 0.06
    if repeats == 1:
        assert result(tmp_path / "rest/svm")["path"] == "nystrom"


@pytest.mark.parametrize("model", ["svm", "knn", "dense"])
def test_more_classes_than_memory_holds_are_refused(pair, tmp_path, monkeypatch, model):
    """Before anything is computed or written."""
    monkeypatch.setattr("classify.task.free_memory", lambda: memory.ROOM)
    told = r"with 10 classes needs 1\.1 GB of memory for the probabilities of \d+ rows, and 1\.1 GB are free\. Take"
    with pytest.raises(Refused, match=told):
        fit(str(pair[1]), model=model, out=str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


@pytest.mark.soak
@pytest.mark.parametrize("model", ["svm", "knn", "logreg", "linearsvm"])
def test_a_thousand_classes_take_two_gigabytes(tmp_path, model):
    """The peak of a process of its own, with numbers of which pairs took 22 GB."""
    held = contents(rows=4_000, shape=(1, 1, 64), classes=1_000)
    centres = np.random.default_rng(0).standard_normal((1_000, 64))
    held["features"] = (held["features"] + 2 * centres[held["labels"]]).astype("<f4")
    held["split"] = np.repeat([0, 2], [3_000, 1_000]).astype("u1")
    path = stack(tmp_path / "many.h5", held)
    program = (
        "import resource\nfrom classify import fit\n"
        f"print(fit({str(path)!r}, {model!r}, out={str(tmp_path / 'm')!r}).table()[0]['accuracy'])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    accuracy, peak = map(float, done.stdout.split())
    assert accuracy > 0.9 and peak * 1024 < 2 * GB, done.stderr


def test_threads_stay_within_memory():
    """As many as asked for where there is room, one where there is none, and never beyond three matrices and 1 GB."""
    assert memory.threads(2, 3_750, 62_720, 5_000, 64 * GB) == 2
    assert memory.threads(64, 3_750, 62_720, 5_000, 64 * GB) < 8
    assert memory.threads(64, 3_750, 62_720, 5_000, GB // 10) == 1
    assert 0 < free_memory() < 1 << 50


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        ("logreg", ("span", "passes")),
        ("linearsvm", ("span", "passes")),
        ("svm", ("kernel", "nystrom")),
        ("knn", ("kernel", "blocks")),
    ],
)
def test_without_memory_for_matrices_rows_are_read_in_blocks(pair, tmp_path, monkeypatch, caplog, model, paths):
    """The same test rows are right but for one or two; the result says the path, stderr says why it was taken."""
    exact = result(fit(str(pair[1]), model=model, out=str(tmp_path / "exact")))
    monkeypatch.setattr(fitting, "free_memory", lambda: 1 << 20)
    folder = fit(str(pair[1]), model=model, out=str(tmp_path / "blocks"))
    found = result(folder)
    assert (exact["path"], found["path"]) == paths
    assert "exact matrices would need 1.1 GB of memory, and 0.0 GB are free" in caplog.text
    assert abs(found["accuracy"] - exact["accuracy"]) < 0.06
    test = open_stack(pair[1]).select("test")
    estimator = load_model(folder)[0]
    np.testing.assert_array_equal(estimator.predict_proba(test).argmax(axis=1), estimator.predict(test))
    if model == "knn":
        with pytest.raises(Refused, match="--search needs the inner products of all pairs"):
            fit(str(pair[1]), model=model, search=True, out=str(tmp_path / "none"))


@pytest.mark.parametrize("model", ["logreg", "svm"])
def test_a_search_without_memory_for_matrices(pair, tmp_path, monkeypatch, model):
    """Every candidate is scored on the same folds, and nearly as the exact one."""
    exact = result(fit(str(pair[1]), model=model, search=True, out=str(tmp_path / "exact")))
    monkeypatch.setattr(fitting, "free_memory", lambda: 1 << 20)
    found = result(fit(str(pair[1]), model=model, search=True, out=str(tmp_path / "passes")))
    assert [entry["params"] for entry in found["search"]] == [entry["params"] for entry in exact["search"]]
    if model == "logreg":
        # Of the smallest penalty all decisions are smaller than what either solver calls converged.
        means = [[entry["mean"] for entry in each["search"][1:]] for each in (found, exact)]
        np.testing.assert_allclose(*means, atol=0.02)
    assert abs(found["accuracy"] - exact["accuracy"]) < 0.1


def test_passes_need_no_keras(pair, tmp_path):
    program = (
        "import sys; from classify import fit, fitting\n"
        "fitting.free_memory = lambda: 0\n"
        f"fit({str(pair[0])!r}, model='logreg', out={str(tmp_path)!r})\n"
        "print('imported', sorted({'tensorflow', 'keras', 'jax'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert '"passes"' in (tmp_path / "result.json").read_text()
    assert done.stdout == "imported []\n", done.stderr


@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "knn"])
def test_a_fit_repeats_to_the_byte(pair, tmp_path, model):
    """Folds in threads take nothing from each other."""
    folders = [fit(str(pair[1]), model=model, jobs=2, out=str(tmp_path / str(i))) for i in range(2)]
    assert len({(folder / "predictions.csv").read_bytes() for folder in folders}) == 1


def test_xgboost_boosts_many_rows_in_blocks(pair, tmp_path, monkeypatch, caplog):
    """Two blocks of rows in place of all: as right but for a few, saved like the others, and the same when repeated."""
    exact = result(fit(str(pair[1]), model="xgboost", out=str(tmp_path / "exact")))
    monkeypatch.setattr(trees, "BLOCK", 100)
    folders = [fit(str(pair[1]), model="xgboost", out=str(tmp_path / str(i))) for i in range(2)]
    found = result(folders[0])
    assert found["accuracy"] > exact["accuracy"] - 0.1
    assert f"{found['params']['n_estimators']} trees a class, in blocks of 100 rows" in caplog.text
    rounds = load_model(folders[0])[0].get_booster().num_boosted_rounds()
    assert rounds == found["params"]["n_estimators"]
    assert (folders[0] / "predictions.csv").read_bytes() == (folders[1] / "predictions.csv").read_bytes()


def test_xgboost_grows_as_many_trees_as_held_out_rows_ask_for(pair, tmp_path):
    """Fewer than it may, and the saved model has as many rounds."""
    folder = fit(str(pair[1]), model="xgboost", out=str(tmp_path))
    trees = result(folder)["params"]["n_estimators"]
    assert 1 <= trees < 1000
    assert load_model(folder)[0].get_booster().num_boosted_rounds() == trees


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 3, 3), (3, 12)])
def test_trees_of_few_rows_are_not_one_answer_for_all(tmp_path, caplog, sizes):
    """Guards the default leaves, which held no few rows: every answer was the same."""
    each = [*sizes, *[20] * len(sizes)]  # train, then test
    labels = np.repeat(np.tile(np.arange(len(sizes)), 2), each)
    random = np.random.default_rng(0)
    rows = random.standard_normal((len(sizes), 400))[labels] + random.standard_normal((len(labels), 400))
    held = contents(rows=len(labels), shape=(1, 1, 400), classes=len(sizes))
    split = np.repeat([0, 2], [sum(sizes), 20 * len(sizes)]).astype("u1")
    path = stack(tmp_path / "few.h5", held | {"features": rows.astype("f4"), "labels": labels, "split": split})
    folder = fit(str(path), "xgboost", out=str(tmp_path / "m"))
    found = result(folder)
    assert found["balanced_accuracy"] > 0.7 and found["params"]["n_estimators"] == 600
    assert "600 small trees, as a class has fewer than 15 rows" in caplog.text
    assert load_model(folder)[0].get_booster().num_boosted_rounds() == 600
