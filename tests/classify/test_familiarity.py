"""How like the train images others are: against a direct computation, and on images of another kind."""

import numpy as np
from tiny import contents, stack

from classify import fit
from classify.familiarity import LEVELS, Familiarity
from classify.folds import folds
from classify.saved import load_model
from features import open_stack


def clustered(rows: int = 120, shape: tuple[int, ...] = (2, 2, 8)) -> dict:
    """Rows in three directions of channel space, whatever their place."""
    held = contents(rows=rows, shape=shape, classes=3)
    centre = np.tile(np.eye(8)[held["labels"]], 4)
    held["features"] = (held["features"] + 6 * centre).astype("f4")
    return held


def test_the_share_of_train_images_that_are_less_familiar(tmp_path) -> None:
    """Guards the definition: cosines with class means of the other folds, by NumPy alone."""
    opened = open_stack(stack(tmp_path / "a.h5", clustered()))
    found = Familiarity.of(opened, opened.y)
    assert found is not None and found.levels.shape == (LEVELS - 1,)
    pooled = opened.X.reshape(len(opened), 4, 8).mean(1)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    held = np.zeros(len(unit))
    for inside, out in folds(opened, opened.y):
        means = np.stack([unit[inside][opened.y[inside] == c].mean(0) for c in range(3)])
        held[out] = (unit[out] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).max(1)
    np.testing.assert_allclose(found.levels, np.quantile(held, np.arange(1, LEVELS) / LEVELS), rtol=1e-5)
    said = found([opened.X[:]], [(2, 2, 8)])
    assert said.min() >= 0 and said.max() < 1 and 0.35 < np.median(said) < 0.75
    stranger = -opened.X[:5]
    assert (found([stranger], [(2, 2, 8)]) == 0).all()
    assert np.array_equal(found([opened.X[:1]], [(2, 2, 8)]), said[:1])  # whatever else is asked for with it


def test_it_is_saved_beside_a_model(tmp_path) -> None:
    """Guards the file: checked like the model's own, without pickle; a model of one-image classes has none."""
    path = stack(tmp_path / "a.h5", clustered())
    folder = fit(str(path), "logreg", out=str(tmp_path / "run"))
    assert "familiar.npz" in load_model(folder)[1]["files"]
    loaded, opened = Familiarity.load(folder), open_stack(path).select("train")
    expected = Familiarity.of(opened, opened.y)
    assert expected is not None
    assert np.array_equal(loaded.means, expected.means) and np.array_equal(loaded.levels, expected.levels)
    few = clustered(rows=8)
    few["split"] = np.array([0, 0, 0, 2, 2, 2, 2, 2], "u1")
    alone = fit(str(stack(tmp_path / "few.h5", few)), "logreg", out=str(tmp_path / "alone"))
    assert not (alone / "familiar.npz").exists() and load_model(alone)
