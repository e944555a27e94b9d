"""What the public functions return and say: from Python, in a notebook, and on the command line."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import contents, environment, photos, run, stack

import classify
import extract
import features
from classify import compare, fit
from extract import extract as extract_stack
from features.runtime.log import log, typed_here


@pytest.mark.slow
def test_a_stack_counts_its_images(tmp_path: Path) -> None:
    """Guards `extract(…).table()` and what a notebook shows, against the stack's own fields; it still is a path."""
    data = photos(tmp_path / "photos", classes=2, each=8)
    (data / "class0").rename(data / "<b>Leaf spot (early)")
    made = extract_stack(str(data), "mobilenetv2", weights="random", size=32, out=str(tmp_path / "a.h5"))
    assert isinstance(made, os.PathLike) and made == tmp_path / "a.h5" and features.open_stack(made)
    assert made.table() == [
        {"label": "<b>Leaf spot (early)", "train": 6, "val": 0, "test": 2},
        {"label": "class1", "train": 6, "val": 0, "test": 2},
    ]
    shown = made._repr_html_()
    assert "&lt;b&gt;Leaf spot (early)" in shown and "<b>" not in shown and "a.h5" in shown


def test_a_model_and_a_report_show_their_scores(tmp_path: Path) -> None:
    """Guards `fit(…).table()` and `compare(…).table()`: the numbers of the JSON files beside them."""
    path = stack(tmp_path / "a.h5", contents(rows=60, classes=3))
    folder = fit(str(path), "logreg", out=str(tmp_path / "out" / "logreg"))
    result = json.loads((folder / "result.json").read_text())
    (row,) = folder.table()
    assert row["model"] == "logreg" and row["accuracy"] == result["accuracy"]
    report = compare(str(path), ["logreg", "linearsvm"], out=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [each["accuracy"] for each in report.table()] == [each["accuracy"] for each in rows]
    assert [each["accuracy_low"] for each in report.table()] == [each["accuracy_interval"][0] for each in rows]
    assert report._repr_html_().count("<tr>") == 3 and "report.html" in report._repr_html_()
    assert "<table>" not in (report.parent / "gone")._repr_html_()


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    """Guards `compare --json`: the report and every model's row; all else is on stderr."""
    stack(tmp_path / "a.h5", contents(rows=60))
    done = run("classify", "compare", "a.h5", "--models", "logreg", "linearsvm", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["models"] == json.loads((tmp_path / "classify/runs/a/compare.json").read_text())
    assert told["report"] == "classify/runs/a/report.html"


@pytest.mark.slow
def test_json_of_stage_one(tmp_path: Path) -> None:
    """Guards `extract --json`: what `info` says, and each image that was left out with its reason; exit code 3."""
    data = photos(tmp_path / "photos", classes=2, each=8)
    (data / "class0" / "empty.jpg").touch()
    words = ["--backbone", "mobilenetv2", "--weights", "random", "--size", "32", "--out", "a.h5", "--max-bad", "10"]
    done = run("extract", data, *words, "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 3 and told.pop("rejected") == {"class0/empty.jpg": "the file is empty"}
    assert told == json.loads(run("features", "info", "a.h5", cwd=tmp_path).stdout)


@pytest.mark.parametrize("package", [extract, features, classify])
def test_version(package, tmp_path: Path) -> None:
    """Guards `__version__` and `--version` of all three packages."""
    done = run(package.__name__, "--version", cwd=tmp_path)
    assert done.stdout == f"feature-stacks {package.__version__}\n"


def test_messages_go_through_one_logger(tmp_path: Path) -> None:
    """Guards use from Python: only warnings are on stderr, and standard logging shows the rest."""
    path = stack(tmp_path / "a.h5", contents(rows=60))
    code = f"from classify import fit; fit({str(path)!r}, 'logreg', split_seed=1, out={str(tmp_path / 'm')!r})"
    for first, said in (("", False), ("import logging; logging.basicConfig(level='INFO')\n", True)):
        done = subprocess.run(
            [sys.executable, "-c", first + code], env=environment(), capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0 and done.stdout == ""
        assert ("INFO:feature_stacks:split again with seed 1" in done.stderr) is said
        assert said or not done.stderr
    assert log is logging.getLogger("feature_stacks")


def test_commands_can_be_typed_as_they_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards hints where no environment is activated: the path to its Python, and to its pip."""
    text = "Finish it with: python -m extract photos; pip install pillow-heif"
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.chdir(tmp_path)
    assert typed_here(text) == ("Finish it with: .venv/bin/python -m extract photos; .venv/bin/pip install pillow-heif")
    monkeypatch.chdir("/usr")
    assert f"{folder}/pip install pillow-heif" in typed_here(text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert typed_here(text) == text
