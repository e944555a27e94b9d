"""Earlier runs: kept by date and stack, and what changed since the last one is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tiny import contents, run, stack

from classify import compare, fit
from classify.comparison.predictions import read_predictions

IMAGES, LABELS = load_digits(return_X_y=True)


def digits(path: Path, rows: slice, wrong: int = 0) -> Path:
    """A stack of some of scikit-learn's digits, the first `wrong` of them under a wrong label."""
    held = contents(rows=600, shape=(64,), classes=10)
    labels = LABELS[:600].copy()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    held |= {"features": IMAGES[:600].astype("f4"), "labels": labels}
    fields = ("features", "labels", "paths", "split", "sha256", "size", "mtime_ns", "view")
    return stack(path, held | {name: held[name][rows] for name in fields})


@pytest.fixture
def before_and_after(tmp_path: Path) -> tuple[Path, Path]:
    """Two stacks: in the second, 100 images came, 50 went, and 7 got another label."""
    return digits(tmp_path / "a.h5", slice(0, 500), 57), digits(tmp_path / "b.h5", slice(50, 600), 50)


def test_what_changed_since_the_last_run(before_and_after: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards each count, the settings, and the paired difference, against the predictions themselves."""
    old, new = before_and_after
    out = str(tmp_path / "out")
    assert "since" not in result(fit(str(old), "linearsvm", out=out))
    first = {name: (tmp_path / "out" / name).read_bytes() for name in ("result.json", "predictions.csv")}
    since = result(fit(str(new), "linearsvm", balance=True, out=out))["since"]
    assert (since["came"], since["went"], since["relabelled"], since["moved"]) == (100, 50, 7, 0)
    assert since["settings"]["estimator__class_weight"] == [None, "balanced"]
    kept = next((tmp_path / "out" / "earlier").iterdir())
    assert {name: (kept / name).read_bytes() for name in first} == first
    names = [f"class{i}" for i in range(10)]
    then, now = (read_predictions(folder / "predictions.csv", names) for folder in (kept, tmp_path / "out"))
    told = [dict(zip(zip(p.paths, p.y.tolist(), strict=True), p.right, strict=True)) for p in (then, now)]
    both = set(told[0]) & set(told[1])
    assert since["common"] == len(both) > 90
    assert since["difference"] == pytest.approx(np.mean([told[1][k] - 1.0 * told[0][k] for k in both]))
    low, high = since["difference_interval"]
    assert low <= since["difference"] <= high


def test_the_same_run_again_is_no_history(before_and_after: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards the folder: a repeated run keeps one result, and what it said of the run before."""
    old, new = before_and_after
    out = str(tmp_path / "out")
    fit(str(old), "knn", out=out)
    since = result(fit(str(new), "knn", out=out))["since"]
    assert result(fit(str(new), "knn", out=out))["since"] == since
    assert len(list((tmp_path / "out" / "earlier").iterdir())) == 1


def test_results_of_an_older_version_do_no_harm(before_and_after: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards runs that were made before there was a history: kept, and compared as far as they can be."""
    old, new = before_and_after
    out = tmp_path / "out"
    fit(str(old), "knn", out=str(out))
    (out / "rows.npz").unlink()
    (out / "result.json").write_text(json.dumps({k: v for k, v in result(out).items() if k != "date"}))
    since = result(fit(str(new), "knn", out=str(out)))["since"]
    assert "came" not in since and since["common"] > 90
    for damaged in ("{}", '{"accuracy": 0.'):
        (out / "result.json").write_text(damaged)
        again = compare(str(new), ["logreg"], out=str(tmp_path))
        assert {row["model"] for row in json.loads((again.parent / "compare.json").read_text())} == {"logreg"}
        assert result(fit(str(new), "knn", out=str(out)))["accuracy"]


def test_it_is_printed_and_stands_on_the_page(before_and_after: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards what a person sees: after `fit` in the terminal, and in the report."""
    old, new = before_and_after
    shutil.copy(old, tmp_path / "mine.h5")
    run("classify", "fit", "mine.h5", "--model", "knn", cwd=tmp_path)
    shutil.copy(new, tmp_path / "mine.h5")
    done = run("classify", "fit", "mine.h5", "--model", "knn", cwd=tmp_path)
    line = next(line for line in done.stdout.splitlines() if line.startswith("Since 20"))
    assert ": 100 images came; 50 images went; 7 images got another label; k was 5 and is 3; accuracy was " in line
    assert "test images of both runs " in line and done.stdout.splitlines()[-1] == "classify/runs/mine/knn"
    page = compare(str(tmp_path / "mine.h5"), ["linearsvm"], out=str(tmp_path / "classify/runs/mine")).read_text()
    assert "Since the last run" in page and "100 images came" in page
    first = json.loads(next((tmp_path / "classify/runs/mine/knn/earlier").glob("*/result.json")).read_text())
    assert f"<td><code>{first['stack_key'][:8]}</code></td>" in page and first["date"].replace("T", " ") in page


def test_models_fitted_earlier_to_the_same_rows_stay(before_and_after: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards the page against forgetting: other commands' models are in it, if they are of the very same rows."""
    old, new = before_and_after
    out = tmp_path / "out"
    fit(str(old), "logreg", out=str(out / "logreg"))
    for model in ("knn", "linearsvm"):
        fit(str(new), model, out=str(out / model))
    compare(str(new), ["xgboost", "linearsvm"], out=str(out))
    rows = {row["model"]: row for row in json.loads((out / "compare.json").read_text())}
    assert {name: row.get("earlier") for name, row in rows.items() if "failed" not in row} == {
        "knn": True,
        "linearsvm": False,
    }
    assert rows["knn"]["accuracy"] == result(out / "knn")["accuracy"]


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())
