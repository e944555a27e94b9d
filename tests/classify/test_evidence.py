"""Evidence maps: places add up to decisions, and slopes are those that finite differences find."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import contents, stack

from classify import fit
from classify.answers import SavedModel
from classify.classical.answering import Kernel
from classify.explaining.evidence import ACTIVATION, EXACT, GRADIENT, SHAPLEY, evidence, kind_of
from classify.saved import load_answers
from features import open_stack


def held(shape: tuple[int, ...] = (3, 4, 6), classes: int = 3, seed: int = 0) -> dict[str, Any]:
    """Rows of clouds, non-negative as after a ReLU, half of them zeros."""
    random, made = np.random.default_rng(seed), contents(90, shape, classes)
    centres = random.standard_normal((classes, int(np.prod(shape))))
    noise = random.standard_normal((90, int(np.prod(shape))))
    made["features"] = np.maximum(centres[made["labels"]] + noise, 0).astype("f4")
    return made


def saved(tmp_path: Path, model: str, *shapes: tuple[int, ...], classes: int = 3, **how: Any) -> tuple[Any, list[Any]]:
    """A fitted model as it is saved, and six rows of each of its stacks."""
    made = [held(shape, classes, seed) for seed, shape in enumerate(shapes)]
    stacks = [str(stack(tmp_path / f"{i}.h5", each, engine="keras", batch=4)) for i, each in enumerate(made)]
    folder = fit(stacks, model, out=str(tmp_path / model), **how)
    return SavedModel(*load_answers(folder)), [open_stack(each).X[:6] for each in stacks]


@pytest.mark.parametrize("model", ["logreg", "linearsvm"])
@pytest.mark.parametrize("pool", ["flatten", "avg", "max"])
@pytest.mark.parametrize(
    ("shapes", "classes"),
    [([(3, 4, 6)], 3), ([(3, 4, 6)], 2), ([(11, 6)], 3), ([(2, 2, 6), (3, 3, 5)], 3)],
    ids=["map", "two classes", "tokens", "two stacks"],
)
def test_places_add_up(tmp_path: Path, model: str, pool: str, shapes: list[Any], classes: int) -> None:
    """Guards the promise: places and what lies in none add up to the decision, pooled, fused or with a class token."""
    one, parts = saved(tmp_path, model, *shapes, classes=classes, pool=pool)
    asked = np.tile(np.arange(classes), (6, 1))
    found = evidence(one, parts, asked)
    assert found is not None and found.kind == EXACT
    decisions = one.estimator.decide(one._joined(parts))[1]
    wanted = np.stack([-decisions, decisions], axis=1) if classes == 2 else decisions
    assert np.allclose(found.maps.sum(axis=(2, 3)) + found.rest, wanted, atol=1e-5)
    grid = {3: shapes[0][:2], 2: (3, 3)}[len(shapes[0])]
    assert found.maps.shape == (6, classes, *((6, 6) if len(shapes) > 1 else grid))


def test_one_place_alone(tmp_path: Path) -> None:
    """Guards where evidence lies: the only place with features has all of it."""
    one, (rows,) = saved(tmp_path, "logreg", (3, 4, 6))
    alone = np.zeros((1, 3, 4, 6), "f4")
    alone[0, 1, 2] = rows[0].reshape(3, 4, 6)[1, 2] + 1
    found = evidence(one, [alone.reshape(1, -1)], np.array([[0]]))
    assert found is not None and np.argwhere(found.maps[0, 0]).tolist() == [[1, 2]]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_kernels_slope(tmp_path: Path, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the RBF machine's gradient against finite differences of its decisions, exact path and Nyström's."""
    for path in ("kernel", "nystrom"):
        monkeypatch.setattr("classify.fitting.choose_method", lambda *given, path=path: path)
        monkeypatch.setattr("classify.task.choose_method", lambda *given, path=path: path)
        (tmp_path / path).mkdir()
        one, (rows,) = saved(tmp_path / path, "svm", (3, 4, 6), classes=classes)
        assert isinstance(one.estimator, Kernel) == (path == "kernel")
        found = evidence(one, [rows], np.tile(np.arange(classes), (6, 1)))
        assert found is not None and found.kind == GRADIENT
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f8")
        place = np.zeros((3, 4, 6), bool)
        place[1, 2] = True
        step = 1e-3 * unit * place.reshape(-1)
        for code in range(classes):
            slope = (decision(one.estimator, unit + step, code) - decision(one.estimator, unit - step, code)) / 2e-3
            assert np.allclose(found.maps[:, code, 1, 2], slope, atol=2e-3), (path, code)


def decision(machine: Any, unit: np.ndarray, code: int) -> np.ndarray:
    """A class's mean decision against each other, of rows that are not scaled again: by support rows, one by one."""
    support = np.asarray(machine.rows, "f8")
    support = support / np.linalg.norm(support, axis=1, keepdims=True)
    near = np.exp(-machine.gamma * ((unit[:, None] - support) ** 2).sum(-1))
    if not isinstance(machine, Kernel):
        given = near @ machine.coef.T
        return given[:, code] if given.shape[1] > 1 else given[:, 0] * (1 if code else -1)
    if len(machine.classes) == 2:
        return (near @ machine.dual.T)[:, 0] * (1 if code else -1)
    owner = np.repeat(np.arange(len(machine.counts)), machine.counts)
    total = np.zeros(len(unit))
    for i in range(len(machine.classes)):
        for j in range(i + 1, len(machine.classes)):
            pair = near[:, owner == i] @ machine.dual[j - 1, owner == i]
            pair = pair + near[:, owner == j] @ machine.dual[i, owner == j]
            total += pair * ((code == i) - (code == j) * 1.0)
    return total / (len(machine.classes) - 1)


def test_xgboosts_own_values(tmp_path: Path) -> None:
    """Guards SHAP: places and the constant add up to XGBoost's margin, and no evidence lies where nothing is active."""
    xgboost = pytest.importorskip("xgboost")
    for classes in (2, 3):
        (tmp_path / str(classes)).mkdir()
        one, (rows,) = saved(tmp_path / str(classes), "xgboost", (3, 4, 6), classes=classes)
        found = evidence(one, [rows], np.tile(np.arange(classes), (6, 1)))
        assert found is not None and found.kind == SHAPLEY
        margin = one.estimator.get_booster().predict(xgboost.DMatrix(one._joined([rows])), output_margin=True)
        wanted = np.stack([-margin, margin], axis=1) if classes == 2 else margin
        assert np.allclose(found.maps.sum(axis=(2, 3)) + found.rest, wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [True, False])
def test_the_dense_heads_slope(scale: bool) -> None:
    """Guards the way back through the dense head against finite differences of its scores."""
    from classify.explaining.gradients import dense_gradient
    from classify.networks.dense import dense_head
    from extract.network.importing import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    centre = (random.standard_normal(8) / 10, 0.5) if scale else None
    network = dense_head(8, 3, (16, 5), 0.5, centre, root=scale)
    scores = keras.Model(network.inputs, network.layers[-1].output)
    scores.layers[-1].activation = keras.activations.linear
    rows, codes = random.uniform(0.5, 2, (4, 8)), np.tile(np.arange(3), (4, 1))
    slope, step = dense_gradient(network, rows, codes), 1e-2
    for i in range(8):
        moved = step * np.eye(8)[i]
        up, down = (
            np.asarray(scores(keras.ops.convert_to_tensor((rows + way).astype("f4")))) for way in (moved, -moved)
        )
        assert np.allclose(slope[..., i], (up - down) / (2 * step), atol=2e-3)


@pytest.mark.slow
def test_the_dense_heads_maps(tmp_path: Path) -> None:
    """Guards the class activation: of average-pooled rows, as large as gradient × input of the pooled row."""
    one, (rows,) = saved(tmp_path, "dense", (3, 4, 6), epochs=3)
    found = evidence(one, [rows], np.tile(np.arange(3), (6, 1)))
    assert found is not None and found.kind == ACTIVATION and np.abs(found.maps).max() > 0


@pytest.mark.parametrize(
    ("model", "shape", "why"),
    [
        ("logreg", (72,), "rows without positions have no maps"),
        ("knn", (3, 4, 6), "nearest neighbours, cosine has no maps"),
    ],
)
def test_where_there_are_no_maps(tmp_path: Path, model: str, shape: tuple[int, ...], why: str) -> None:
    """Guards the reason that is told instead of a map."""
    one, parts = saved(tmp_path, model, shape)
    assert kind_of(one) == ("", why) and evidence(one, parts, np.zeros((6, 1), int)) is None


def test_stacks_that_see_different_parts(tmp_path: Path) -> None:
    """Guards maps that would not lie over each other: one stack sees all of a photo, the other its middle."""
    held_rows = held()
    stacks = [
        str(stack(tmp_path / f"{resize}.h5", held_rows, engine="keras", batch=4, resize=resize))
        for resize in ("squash", "crop")
    ]
    one = SavedModel(*load_answers(fit(stacks, "logreg", out=str(tmp_path / "m"))))
    assert kind_of(one) == ("", "its stacks see different parts of a photo, so their maps do not lie over each other")
