"""The dense head, and with it the training loop that all networks share."""

import csv
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import warm
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from classify.folds import sides
from classify.networks.dense import Dense, dense_head
from classify.networks.training import compiled, train
from classify.rows import BATCH, batches
from classify.saved import load_model, save_model
from extract.network.importing import import_keras
from features import Failed, Stack, open_stack


@pytest.fixture
def eager() -> Iterator[None]:
    """Without compiling: that would take nearly all of the time of a hundred tiny fits."""
    if import_keras().backend.backend() != "tensorflow":
        yield
        return
    tensorflow = import_module("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.mark.slow
@parametrize_with_checks([Dense(widths=(16,), rate=0.1, epochs=5)])
def test_scikit_learn_contract(estimator: Any, check: Any, eager: None) -> None:
    """Whatever scikit-learn asks of a classifier."""
    check(estimator)


def two_classes(rows: int = 200, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose class is the sign of their first column."""
    X = np.random.default_rng(seed).standard_normal((rows, width)).astype("f4")
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """96 rows in two classes that their features tell apart, sorted by class as stage one sorts them."""
    held = tiny.contents(rows=96)
    held["labels"] = np.arange(96) // 48
    held["features"] += (3 * held["labels"] - 1.5)[:, None].astype("f4")
    return open_stack(tiny.stack(tmp_path / "s.h5", held))


@pytest.mark.slow
def test_learns_a_stack_and_predicts_the_same_after_saving(stack: Stack, tmp_path: Path) -> None:
    """Fit from a stack, save without pickle, load with safe mode on: the same probabilities to the bit."""
    rows, test = stack.select("train"), stack.select("test")
    fitted = Dense(pool="flatten", widths=(16,), rate=0.01, epochs=20).fit(rows, rows.y)
    assert fitted.score(test, test.y) > 0.9
    save_model(fitted, tmp_path / "model", {"model": "dense", "seed": 0})
    loaded, _ = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(test), fitted.predict_proba(test))
    np.testing.assert_array_equal(loaded.predict(test), fitted.predict(test))


@pytest.mark.slow
def test_same_seed_same_network(stack: Stack) -> None:
    """A seed decides weights, order and validation rows; a stack and its array give the same network."""
    first = Dense(pool="flatten", widths=(4,), epochs=2, random_state=3).fit(stack, stack.y)
    again = clone(first).fit(stack, stack.y)
    np.testing.assert_array_equal(first.predict_proba(stack), again.predict_proba(stack))
    assert first.history_ == again.history_
    assert Dense(pool="flatten", widths=(4,), epochs=2, random_state=4).fit(stack, stack.y).history_ != first.history_


@pytest.mark.slow
def test_sources_architecture_is_arguments_away() -> None:
    """Dense 4096, Dense 1072, dropout, softmax on 7·7·512 rows of VGG16: 107 million parameters."""
    net = dense_head(25_088, 10, widths=(4096, 1072), dropout=0.2, centre=None)
    assert net.count_params() == (25_088 + 1) * 4096 + (4096 + 1) * 1072 + (1072 + 1) * 10
    assert [type(layer).__name__ for layer in net.layers[1:]] == ["Dense", "Dense", "Dropout", "Dense"]


@pytest.mark.slow
def test_scaled_rows_lose_their_length() -> None:
    """With `scale`, a row and ten times that row get the same probabilities, and a row of zeros gets finite ones."""
    X, y = two_classes()
    fitted = Dense(widths=(4,), epochs=1).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X), fitted.predict_proba(10 * X), atol=1e-5)
    assert np.isfinite(fitted.predict_proba(np.zeros((1, 6)))).all()


@pytest.mark.slow
def test_rows_that_hardly_differ_are_learned_as_well() -> None:
    """Features of a random network lie close together, far from zero: they are learned all the same."""
    X, y = two_classes()
    assert Dense(widths=(16,), rate=0.01, epochs=20, scale=False).fit(X / 100 + 1, y).score(X / 100 + 1, y) < 0.65
    assert Dense(widths=(16,), rate=0.01, epochs=20).fit(X / 100 + 1, y).score(X / 100 + 1, y) > 0.75


def test_validation_rows_are_stratified_and_keep_copies_together() -> None:
    """15 % of each class; identical rows never straddle; another seed takes others."""
    X = np.repeat(np.random.default_rng(0).standard_normal((100, 3)), 2, axis=0)
    y = np.repeat(np.arange(2), 100)
    train_rows, held = sides(X, y, seed=0)
    assert sorted([*train_rows, *held]) == list(range(200))
    assert np.array_equal(held[::2] + 1, held[1::2])
    assert (held < 100).sum() == (held >= 100).sum() == 16  # 15 % of 50 pairs, rounded to even
    assert not np.array_equal(held, sides(X, y, seed=1)[1])


def test_the_datasets_own_validation_rows_are_used(tmp_path: Path) -> None:
    """A split with val rows decides, not the seed."""
    held = tiny.contents(rows=12)
    held["split"] = np.arange(12) % 3
    rows = open_stack(tiny.stack(tmp_path / "s.h5", held)).select(("train", "val"))
    train_rows, validated = sides(rows, rows.y, 0)
    assert np.array_equal(rows.split[train_rows], np.zeros(4))
    assert np.array_equal(rows.split[validated], np.ones(4))


def test_few_images_of_a_class_are_all_trained_on(tmp_path: Path) -> None:
    """Nine images, however many rows, are too few to put one aside of; ten are not, nor a dataset's own."""
    X, y = two_classes()
    few = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:9]]
    assert [len(rows) for rows in Dense().sides(X[few], y[few])] == [len(few), 0]
    ten = np.r_[few, np.flatnonzero(y == 1)[9]]
    assert all(map(np.array_equal, Dense().sides(X[ten], y[ten]), sides(X[ten], y[ten], 0)))
    held = tiny.contents(rows=40)
    held |= {"labels": np.arange(40) // 2 % 2, "view": np.arange(40) % 2, "split": np.zeros(40, "u1")}
    held["sha256"] = held["sha256"][np.arange(40) // 2]
    ten = open_stack(tiny.stack(tmp_path / "views.h5", held))
    assert len(Dense().sides(ten, ten.y)[1]) == len(sides(ten, ten.y, 0)[1]) > 0
    nine = ten.take(np.arange(38))
    assert [len(rows) for rows in Dense().sides(nine, nine.y)] == [38, 0]
    held |= {"view": np.zeros(40, "i4"), "split": np.arange(40) % 5 // 4}
    own = open_stack(tiny.stack(tmp_path / "own.h5", held)).take(np.arange(10))
    assert np.array_equal(Dense().sides(own, own.y)[1], [4, 9])


@pytest.mark.slow
def test_views_are_trained_on_and_never_validated_on(tmp_path: Path) -> None:
    """Views of an image that is held out are on neither side, pooled rows or not; the images' sides are as without."""
    held, image, view = tiny.contents(rows=60), np.repeat(np.arange(20), 3), np.tile(np.arange(3), 20)
    held |= {"sha256": held["sha256"][image], "labels": image % 2, "view": view, "split": np.zeros(60, "u1")}
    rows = open_stack(tiny.stack(tmp_path / "s.h5", held))
    train_rows, validated = sides(rows, rows.y, 0)
    originals = rows.take(rows.view == 0)
    expected = sides(originals, originals.y, 0)
    assert np.array_equal(validated, 3 * expected[1])
    assert np.array_equal(train_rows, (3 * expected[0][:, None] + np.arange(3)).ravel())
    fitted = Dense(pool="avg", widths=(2,), epochs=1, rate=0.0).fit(rows, rows.y)
    chosen = fitted.predict_proba(rows)[validated, rows.y[validated]]
    assert np.isclose(-np.log(chosen).mean(), fitted.history_["val_loss"][0], atol=1e-6)


def test_batches_hold_every_row_once_and_mix_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block-shuffled order loses no row and repeats none, even where memory holds one batch at a time."""
    X = np.arange(1000, dtype="f4")[:, None]
    y = np.arange(1000) // 500
    monkeypatch.setattr("classify.rows.POOL_BYTES", 1)
    rows = np.flatnonzero(np.arange(1000) % 7)
    found = list(batches(X, y, rows, np.random.default_rng(0)))
    inputs = np.concatenate([one for one, _ in found])[:, 0].astype(int)
    assert np.array_equal(np.sort(inputs), rows)
    assert np.array_equal(np.concatenate([targets for _, targets in found]), y[inputs])
    assert all(0 < targets.mean() < 1 for _, targets in found if len(targets) == BATCH)


@pytest.mark.slow
def test_stops_early_and_gives_the_best_weights_back() -> None:
    """Labels that mean nothing: validation gets worse, training stops, and the weights of the best epoch are back."""
    X, _ = two_classes(rows=300, width=30)
    y = np.random.default_rng(1).integers(0, 2, 300)
    fitted = Dense(widths=(64,), rate=0.01, epochs=50).fit(X, y)
    assert fitted.stopped_ == "patience" and len(fitted.history_["loss"]) == fitted.best_epoch_ + 5
    held = sides(X, y, 0)[1]
    chosen = fitted.predict_proba(X[held])[np.arange(len(held)), y[held]]
    before = fitted.history_["val_loss"]
    if fitted.best_epoch_:
        assert np.isclose(-np.log(chosen).mean(), min(before))
    else:
        assert -np.log(chosen).mean() < min(before)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """An absurd rate overflows; the best weights stay, and stderr says why."""
    X, y = two_classes()
    fitted = Dense(widths=(8, 8, 8), scale=False, rate=1e30, epochs=5).fit(X, y)
    assert fitted.stopped_ == "nan"
    assert np.isfinite(fitted.predict_proba(X)).all()
    assert "the loss is no longer a number (try a lower rate)" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_keeps_the_best_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in the third epoch keeps what two epochs brought; in the first there is nothing to keep."""
    X, y = two_classes()

    def interrupted_in(epoch: int) -> Any:
        calls = 0

        def augment(row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls == (epoch - 1) * 200 + 100:
                raise KeyboardInterrupt
            return row

        model = dense_head(6, 2, (8,), 0.0, None)
        return train(compiled(model, 0.01), X, y, (np.arange(200), np.arange(0)), epochs=9, seed=0, augment=augment)

    assert interrupted_in(3).stopped == "interrupted"
    assert "interrupted; kept are the weights of epoch 2" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupted_in(1)


@pytest.mark.slow
def test_a_row_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """One NaN would spread to every row through their mean, and the network would learn nothing in silence."""
    held = tiny.contents(rows=40)
    held["features"][5, 3] = np.nan
    stack = open_stack(tiny.stack(tmp_path / "s.h5", held))
    with pytest.raises(Failed, match=r"s\.h5: the features of class1/é5\.png hold NaN, infinity"):
        Dense(pool="flatten", epochs=1).fit(stack, stack.y)


@pytest.mark.slow
def test_a_class_of_one_image_is_missing_from_test(tmp_path: Path) -> None:
    """The command still fits, predicts and scores: probabilities for all classes, accuracy over those there are."""
    held = tiny.contents(rows=40)
    held["features"][:, 0] += 9 * held["labels"]
    held["labels"][0] = 2
    held["label_names"] = ["class0", "class1", "lonely"]
    held["split"] = np.where(np.arange(40) % 5 == 3, 2, 0).astype("u1")
    tiny.stack(tmp_path / "s.h5", held)
    done = warm.run(
        *("classify", "fit", "s.h5", "--model", "dense", "--pool", "flatten", "--epochs", "3", "--json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    with open(tmp_path / "classify/runs/s/dense/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["n_test"] == 8
    assert {row["label"] for row in rows} == {"class0", "class1"}
    assert result["accuracy"] == np.mean([row["label"] == row["predicted"] for row in rows])
    assert all(0 < float(row["lonely"]) < 1 for row in rows)


@pytest.mark.slow
def test_a_class_with_a_single_row_is_trained_on() -> None:
    """It has no validation row, and no error."""
    X, y = two_classes(rows=40)
    y[0] = 2
    assert 0 in sides(X, y, 0)[0]
    assert Dense(widths=(4,), epochs=1).fit(X, y).predict_proba(X).shape == (40, 3)
