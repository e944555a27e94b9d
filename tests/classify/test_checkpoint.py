"""Best weights on disk: what a killed or interrupted training leaves, and what the same command makes of it."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tiny
import warm

from classify.folds import sides
from classify.networks.checkpoint import Checkpoint, Trained
from classify.networks.dense import Dense, dense_head
from classify.networks.training import compiled, evaluate, train

RUNS = Path("classify/runs/s/dense")
COMMAND = ["classify", "fit", "s.h5", "--model", "dense", "--pool", "flatten", "--epochs", "150"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a stack of 600 rows whose two classes overlap little."""
    held = tiny.contents(rows=600)
    held["features"][:, 0] += 3 * held["labels"]
    tiny.stack(tmp_path / "s.h5", held)
    return tmp_path


def signalled(folder: Path, number: int, command: list[str] = COMMAND) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of the command, sent a signal when its first weights are on disk."""
    with warm.Started(*command, cwd=folder) as process:
        while process.poll() is None and not (folder / RUNS / "best.h5").exists():
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_best_weights(folder: Path) -> None:
    """SIGKILL after the first epoch: its weights lie on disk, the same command says so and trains the other epochs."""
    code, out, _ = signalled(folder, signal.SIGKILL)
    assert (code, out) == (-signal.SIGKILL, "")
    assert (folder / RUNS / "best.h5").is_file() and not (folder / RUNS / "result.json").exists()
    again = warm.run(*COMMAND, cwd=folder)
    assert again.returncode == 0, again.stderr
    found = again.stderr.splitlines()[0]
    assert found.startswith("going on after epoch ") and found.endswith(f"to begin anew, remove {RUNS}/best.h5")
    best = int(found.split()[4].rstrip(","))
    result = json.loads((folder / RUNS / "result.json").read_text())
    assert 1 <= best < len(result["history"]["val_loss"])
    assert sorted(file.name for file in (folder / RUNS).iterdir()) == [
        "coverage.npz",
        "familiar.npz",
        "model.json",
        "model.keras",
        "predictions.csv",
        "result.json",
        "rows.npz",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_a_result_that_can_be_gone_on_from(folder: Path, number: int, exit_code: int) -> None:
    """After the first epoch: exit 130 or 143 with the scores of the best weights; the same command trains on."""
    code, out, err = signalled(folder, number)
    assert code == exit_code, err
    assert "interrupted; kept are the weights of epoch" in err and "the same command goes on from there" in err
    assert "Traceback" not in err and out.startswith("model")
    result = json.loads((folder / RUNS / "result.json").read_text())
    assert result["params"]["stopped_"] == "interrupted"
    assert "going on after epoch" in warm.run(*COMMAND, cwd=folder).stderr


@pytest.mark.slow
def test_a_signal_ends_a_comparison(folder: Path) -> None:
    """No other model is fitted after it; the same command fits none again that was, and goes on with the network."""
    words = ["classify", "compare", "s.h5", "--models", "logreg", "dense", "linearsvm"]
    code, out, err = signalled(folder, signal.SIGINT, words)
    assert (code, out) == (130, ""), err
    assert "the same command goes on from there" in err and "linear SVM" not in err
    fitted = (folder / RUNS.with_name("logreg") / "model.skops").stat()
    assert (folder / RUNS / "result.json").is_file() and not (folder / RUNS.with_name("linearsvm")).exists()
    again = warm.run(*words, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "logistic regression was fitted before the interruption" in again.stderr
    assert "going on after epoch" in again.stderr and "fitting linear SVM" in again.stderr
    assert (folder / RUNS.with_name("logreg") / "model.skops").stat() == fitted
    assert {line.split()[0] for line in again.stdout.splitlines()[1:4]} == {"logreg", "dense", "linearsvm"}
    anew = warm.run(*words[:-1], cwd=folder)  # finished, or another command: all is done again
    assert "fitting logistic regression" in anew.stderr and not list(folder.rglob("unfinished.json"))


@pytest.mark.slow
def test_what_another_training_left_is_not_used(folder: Path) -> None:
    """Another seed is another training: the line says what differs, and it begins with its first epoch."""
    signalled(folder, signal.SIGKILL)
    other = warm.run(*COMMAND, "--seed", "1", cwd=folder)
    assert other.returncode == 0, other.stderr
    line, *rest = other.stderr.splitlines()
    assert line == f"{RUNS}/best.h5 is of another training (other random_state); this one begins anew"
    assert not any(later.startswith("going on") for later in rest)


def kept(path: Path, **run: Any) -> Checkpoint:
    return Checkpoint(path / "best.h5", run)


def test_a_file_is_read_back_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The very weights, the history up to the best; other shapes or a damaged file are not used, and that is said."""
    weights = [np.arange(6, dtype="f4").reshape(2, 3), np.ones(3, "f4")]
    trained = Trained({"loss": [3.0, 2.0, 2.5], "val_loss": []}, 2, 2.0, "interrupted")
    kept(tmp_path, rate=1).keep(trained, weights)
    found = kept(tmp_path, rate=1).load(weights)
    assert found and found[0] == Trained({"loss": [3.0, 2.0], "val_loss": []}, 2, 2.0, "interrupted")
    assert all(np.array_equal(a, b) for a, b in zip(found[1], weights, strict=True))
    assert kept(tmp_path, rate=1).load(weights[:1]) is None
    assert "other shapes of the weights" in capsys.readouterr().err
    data = (tmp_path / "best.h5").read_bytes()
    (tmp_path / "best.h5").write_bytes(data[: len(data) // 2])
    assert kept(tmp_path, rate=1).load(weights) is None
    assert "best.h5 is damaged, so training begins anew" in capsys.readouterr().err


def test_only_its_own_files_are_removed(tmp_path: Path) -> None:
    """Guards a stack or a model that lies in the same folder: only checkpoints go, those of parts and half ones too."""
    (tmp_path / "bestiary-vgg16.h5").touch()
    (tmp_path / "best-of-all.h5").touch()
    whole = kept(tmp_path)
    for each in (whole, whole.part("head")):
        each.keep(Trained({"loss": [1.0]}, 1, 1.0, "interrupted"), [np.ones(3, "f4")])
    (tmp_path / "best.h5.partial").touch()
    whole.remove()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best-of-all.h5", "bestiary-vgg16.h5"]


@pytest.mark.parametrize("about", ['{"epochs": 3}', "[]", '{"run": {}, "history": {}, "epoch": 1}', '{"run": 5}'])
def test_a_file_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], about: str) -> None:
    """Guards against a traceback: a foreign best.h5 is said, and training begins anew."""
    with h5py.File(tmp_path / "best.h5", "w") as file:
        file["about"] = about
        file["weights/0"] = np.ones(3, "f4")
    assert kept(tmp_path).load([np.ones(3, "f4")]) is None
    assert "best.h5 is damaged, so training begins anew" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_had_ended_is_not_done_again(tmp_path: Path) -> None:
    """Killed between the end of a training and its result: history and weights come back without one more step."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((120, 5)).astype("f4"), random.integers(0, 2, 120)
    split = sides(X, y, 0)
    first, again = (dense_head(5, 2, (8,), 0.0, None) for _ in range(2))
    ended = train(compiled(first, 0.01), X, y, split, epochs=3, seed=0, checkpoint=kept(tmp_path))
    assert train(compiled(again, 0.01), X, y, split, epochs=3, seed=0, checkpoint=kept(tmp_path)) == ended
    np.testing.assert_array_equal(again.predict_on_batch(X), first.predict_on_batch(X))
    assert np.isclose(evaluate(again, X[split[1]], y[split[1]])[0], ended.lowest)


@pytest.mark.slow
def test_a_checkpoint_changes_no_result(tmp_path: Path) -> None:
    """With and without one, the same network."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((120, 5)).astype("f4"), np.arange(120) % 2
    plain = Dense(widths=(4,), epochs=3).fit(X, y)
    written = Dense(widths=(4,), epochs=3).fit(X, y, checkpoint=kept(tmp_path))
    np.testing.assert_array_equal(written.predict_proba(X), plain.predict_proba(X))
