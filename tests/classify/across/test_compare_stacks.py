"""`compare` of several stacks: table, JSON, page, going on, and what one failing cell costs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from test_cells import digits
from tiny import contents, run, stack

from classify import compare, fit
from classify.across.curves import _accuracies, _first, sizes_of
from classify.across.feature_set import feature_sets
from classify.across.splits import splits_of
from classify.comparison.predictions import read_predictions
from classify.comparison.resampling import Parts, corrected_t, mean_interval
from classify.fitting import Settings
from classify.models import MODELS
from features import open_stack
from features.schema import SPLITS


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stacks")
    return [
        str(digits(folder / "digits-vgg16.h5", 400)),
        str(digits(folder / "digits-resnet50.h5", 8, 2, backbone="resnet50", weights="imagenet")),
        str(digits(folder / "digits-vgg16-64px.h5", 64, 1, input_size=64)),
    ]


@pytest.fixture(scope="module")
def compared(stacks: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stacks × two models × three splits, with learning curves."""
    out = tmp_path_factory.mktemp("out")
    compare(stacks, ["logreg", "knn"], repeats=3, curves=True, out=str(out))
    return out


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "compare.json").read_text())


def test_the_table_is_what_its_splits_say(compared: Path) -> None:
    """Means, corrected intervals and tests, from the figures of each split."""
    table = rows(compared)
    assert [row["accuracy"] for row in table] == sorted((row["accuracy"] for row in table), reverse=True)
    assert {row["features"] for row in table} >= {"vgg16 32px", "resnet50", "vgg16 64px"}
    best = table[0]
    for row in table:
        parts = Parts(row["n_train"], row["n_test"])
        each = np.array([split["accuracy"] for split in row["each"]])
        assert len(each) == row["repeats"] == 3 and row["accuracy"] == pytest.approx(each.mean())
        low, high = mean_interval(each, parts)
        assert (
            row["accuracy_interval"][0] <= max(low, 0) + 1e-12 and row["accuracy_interval"][1] >= min(high, 1) - 1e-12
        )
        if row is best:
            assert row["p"] is None and row["tied"]
            continue
        apart = each - [split["accuracy"] for split in best["each"]]
        assert row["difference"] == pytest.approx(apart.mean())
        assert row["p"] >= corrected_t(apart, parts)[1] - 1e-12
        assert sum(row["practically"].values()) == pytest.approx(1)


def test_one_split_is_tested_by_mcnemar(stacks: list[str], tmp_path: Path) -> None:
    """p is SciPy's binomial test of the photos that only one of the two got right."""
    compare(stacks[1:], ["knn"], out=str(tmp_path / "out"))
    table = rows(tmp_path / "out")
    best, other = table[0], table[-1]
    assert best["repeats"] == 1 and best["p"] is None
    right = []
    for each in (best, other):
        path = stacks[2] if each["features"] == "vgg16" else stacks[1]
        folder = fit(path, "knn", out=str(tmp_path / each["features"]))
        right.append(read_predictions(folder / "predictions.csv", open_stack(path).label_names).right)
    assert other["difference"] == right[1].mean() - right[0].mean() < 0
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert other["p"] == pytest.approx(min(1, binomtest(only[0], sum(only)).pvalue * (len(table) - 1)))


def test_costs_stand_beside(compared: Path, stacks: list[str]) -> None:
    """Extraction as the stack measured it; ImageNet's accuracy only with its weights."""
    of = {row["features"]: row for row in rows(compared)}
    opened = open_stack(stacks[0])
    assert of["vgg16 32px"]["extract_seconds"] == opened.extract_seconds
    assert of["vgg16 32px"]["seconds_per_1000"] == pytest.approx(1000 * opened.extract_seconds / len(opened))
    assert of["vgg16 32px"]["row_bytes"] == 1600 and of["vgg16 32px"]["width"] == 400
    assert of["vgg16 32px"]["imagenet_top1"] is None and of["resnet50"]["imagenet_top1"] == 74.9
    assert of["vgg16 32px"]["parameters"] == 138.4
    assert of["vgg16 32px"]["leave_one_out"] > of["resnet50"]["leave_one_out"]


def test_the_terminal_table_fits_and_says_what_was_found(stacks: list[str], compared: Path, tmp_path: Path) -> None:
    done = run("classify", "compare", *stacks, "--models", "logreg", "knn", "--repeats", 3, "--curves",
               "--out", compared, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("\nmeans of 3 splits")[0].splitlines()
    assert max(map(len, table)) <= 100 and table[0].split()[:3] == ["features", "model", "accuracy"]
    assert "corrected resampled t-test" in done.stdout and "with twice as many expect" in done.stdout
    assert "Kendall's τ" in done.stdout and "keras" not in done.stderr.lower()
    best = next(row for row in rows(compared) if row["model"] != "ensemble")
    assert re.search(rf"python -m classify fit .*digits-vgg16.*h5 --model {best['model']}\n", done.stdout)
    assert done.stdout.rstrip().endswith("report.html")


def test_the_page_names_every_set_and_every_figure(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    for row in rows(compared):
        assert row["features"] in page
    for words in ("What it costs", "How many photos?", "corrected for train parts that overlap", "seeds 0, 1, 2"):
        assert words in page
    assert not re.search(r"(src|href)=\"http|<script", page) and "nan" not in page.lower().replace("finance", "")


def test_a_killed_comparison_goes_on_and_says_the_same(compared: Path, stacks: list[str], tmp_path: Path) -> None:
    """Only what is missing is computed: to the same last digit."""
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    cells = sorted((out / "cells").glob("*.npz"))
    before = {cell: cell.stat().st_mtime_ns for cell in cells}
    cells[0].unlink()
    cells[1].write_bytes(cells[1].read_bytes()[:100])
    compare(stacks, ["logreg", "knn"], repeats=3, out=str(out))
    after = {cell: cell.stat().st_mtime_ns for cell in sorted((out / "cells").glob("*.npz"))}
    assert set(after) == set(before)
    assert {cell for cell in after if after[cell] != before[cell]} == set(cells[:2])
    clocks = ("curve", "each", "fit_seconds")
    plain = [[{k: v for k, v in row.items() if k not in clocks} for row in rows(folder)] for folder in (out, compared)]
    assert plain[0] == plain[1]


def test_another_model_adds_cells_and_other_settings_share_none(
    compared: Path, stacks: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    before = set((out / "cells").glob("*.npz"))
    compare(stacks[1:2], ["linearsvm"], repeats=2, out=str(out))
    added = set((out / "cells").glob("*.npz")) - before
    assert len(added) == 2 and before <= set((out / "cells").glob("*.npz"))
    compare(stacks[1:2], ["knn"], repeats=2, balance=True, out=str(out))
    assert len(set((out / "cells").glob("*.npz")) - before - added) == 2


class Failing(DummyClassifier):
    def fit(self, X, y, sample_weight=None):
        raise MemoryError("no room")


def test_a_cell_that_fails_costs_only_itself(stacks: list[str], tmp_path: Path) -> None:
    report = compare(stacks[:2], ["knn", Failing(), DummyClassifier()], repeats=2, pool=["avg"], out=str(tmp_path))
    table = report.table()
    assert [row["failed"] for row in table if row["model"] == "Failing"] == ["no room", "no room"]
    assert sum(row["accuracy"] is not None for row in table) >= 4
    assert "is not in the comparison: no room" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "cells").glob("*.npz"))) == 2 * 2 + 2  # a user's own are not kept; 2 of the sets alone


def test_curves_are_nested_and_equal_for_every_class(stacks: list[str]) -> None:
    """A larger size holds the smaller one's images; test rows and copies stay out of it."""
    opened = open_stack(stacks[0])
    train = np.flatnonzero(opened.split != SPLITS["test"])
    sizes = sizes_of(opened.y[train], np.ones(len(train), bool))
    assert sizes[:2] == [5, 10] and sizes[-1] == round(len(train) / 4)
    names = np.arange(len(opened))
    order = np.random.default_rng(0).permutation(len(opened))
    small, large = (_first(train, opened.y, names, order, size) for size in (5, 20))
    assert set(small) < set(large) <= set(train)
    assert np.bincount(opened.y[small]).tolist() == [5] * 4


def test_twice_as_many_photos_are_promised_within_reason(compared: Path) -> None:
    curves = [row["curve"] for row in rows(compared) if row.get("curve")]
    assert len(curves) == 3
    for curve in curves:
        assert np.shape(curve["accuracies"])[0] >= 5 and curve["twice"]["size"] == 2 * curve["sizes"][-1]
        assert curve["twice"]["low"] <= curve["twice"]["accuracy"] <= curve["twice"]["high"] <= 1


@pytest.mark.slow
def test_networks_take_part(stacks: list[str], tmp_path: Path) -> None:
    """A dense head on each stack, saved as `fit` saves it."""
    compare(stacks[1:], ["dense"], epochs=2, out=str(tmp_path))
    assert len([row for row in rows(tmp_path) if row["model"] == "dense" and row["accuracy"] > 0]) == 2
    assert (tmp_path / "networks" / "resnet50" / "dense" / "own-split" / "model.keras").is_file()


def test_a_fine_search_tries_the_published_penalties(stacks: list[str], tmp_path: Path) -> None:
    done = run("classify", "fit", stacks[1], "--model", "logreg", "--search=fine", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    tried = [entry["params"]["c"] for entry in result["search"]]
    assert len(tried) == 45 and min(tried) == 1e-6 and max(tried) == 1e5
    assert "--search=fine" in result["command"]
    refused = run("classify", "fit", stacks[1], "--model", "svm", "--search=fine", cwd=tmp_path)
    assert refused.returncode == 2 and "svm has no --search=fine" in refused.stderr


def test_fused_stacks_are_asked_for(stacks: list[str], tmp_path: Path) -> None:
    report = compare(stacks[:2], ["logreg"], fuse=True, out=str(tmp_path))
    (row,) = [row for row in report.table() if row["model"] == "logreg"]
    assert "features" not in row and row["accuracy"] is not None


@pytest.mark.parametrize("name", ["logreg", "linearsvm", "svm", "knn"])
def test_a_point_of_a_curve_is_a_fit_to_those_photos(stacks: list[str], name: str) -> None:
    """The shared fits to a few rows say what the model says that is fitted to these rows alone."""
    opened = open_stack(stacks[0])
    (features,) = feature_sets([opened], opened.y, None)
    (split,) = splits_of(opened, opened.y, None)
    order = np.random.default_rng(1).permutation(len(opened))
    parts = [(_first(split.train, opened.y, np.arange(len(opened)), order, size), split.test) for size in (5, 20)]
    found = _accuracies(MODELS[name], features, parts, Settings())
    for accuracy, (train, test) in zip(found, parts, strict=True):
        alone = MODELS[name].build(0).fit(np.asarray(opened.X)[train], opened.y[train])
        assert accuracy == alone.score(np.asarray(opened.X)[test], opened.y[test])


def test_classes_that_differ_much_are_ranked_by_balanced_accuracy(stacks: list[str], tmp_path: Path) -> None:
    """With an interval of the mean over classes, on one split and on several."""
    images, labels = load_digits(n_class=4, return_X_y=True)
    few = np.flatnonzero((labels > 0) | (np.cumsum(labels == 0) <= 12))[:200]
    held = contents(rows=len(few), shape=(4, 4, 4), classes=4)
    held |= {"features": images[few].astype("<f4"), "labels": labels[few]}
    paths = [str(stack(tmp_path / "a.h5", held)), str(stack(tmp_path / "b.h5", held, layer="block4_pool"))]
    for repeats in (1, 3):
        compare(paths, ["knn"], repeats=repeats, out=str(tmp_path / f"{repeats}"))
        for row in rows(tmp_path / f"{repeats}"):
            assert row["leads_by"] == "balanced_accuracy"
            low, high = row["balanced_accuracy_interval"]
            assert 0 <= low <= row["balanced_accuracy"] <= high <= 1
    assert "Balanced accuracy" in (tmp_path / "3" / "report.html").read_text()
