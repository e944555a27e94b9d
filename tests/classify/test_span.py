"""The rotation into the rows' span is exact, for every shape and rank."""

import numpy as np
import pytest
from sklearn.preprocessing import Normalizer, normalize
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny import contents, stack

from classify.classical.products import squared_distances, unit_products
from classify.classical.span import SpanRotation
from features import open_stack


def rows(n: int, d: int, duplicates: int = 0) -> np.ndarray:
    X = np.random.default_rng(n * d).standard_normal((n, d)).astype("f4")
    X[n - duplicates :] = X[:duplicates]
    return X


@pytest.mark.parametrize(("n", "d"), [(5, 3), (40, 200), (7, 9000)])
def test_products_are_those_of_normalised_rows(n, d):
    """Streaming column blocks, also where the last one is short, gives numpy's own product."""
    X, Y = rows(n, d), rows(n + 3, d)
    X[1] = 0  # a row without direction
    unit_x, unit_y = normalize(X.astype("f8")), normalize(Y.astype("f8"))
    np.testing.assert_allclose(unit_products(X), unit_x @ unit_x.T, atol=2e-6)
    np.testing.assert_allclose(unit_products(X, Y), unit_x @ unit_y.T, atol=2e-6)


def test_products_of_a_stack_are_those_of_its_rows(tmp_path):
    """A stack whose selected rows are scattered over the file streams the right ones."""
    held = contents(rows=23, shape=(4, 4, 5))
    opened = open_stack(stack(tmp_path / "s.h5", held)).select("train")
    X = normalize(held["features"][held["split"] == 0].astype("f8"))
    np.testing.assert_allclose(unit_products(opened), X @ X.T, atol=2e-6)


@parametrize_with_checks([SpanRotation()])
def test_is_a_scikit_learn_transformer(estimator, check):
    """Clone, fit, transform, shapes, errors: the whole contract of a transformer."""
    check(estimator)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("n", "d", "duplicates", "rank"), [(30, 300, 0, 30), (30, 300, 4, 26), (30, 12, 0, 12)])
def test_rotation_keeps_all_inner_products(n, d, duplicates, rank, dtype):
    """Z is an isometry of the rows, in as many dimensions as their rank, whatever their precision."""
    X = rows(n, d, duplicates).astype(dtype)
    unit = normalize(X.astype("f8"))
    Z = SpanRotation().fit_transform(X)
    assert Z.shape == (n, rank)
    np.testing.assert_allclose(Z @ Z.T, unit @ unit.T, atol=3e-6 if dtype == "f4" else 1e-10)


@pytest.mark.parametrize(("n", "d", "duplicates"), [(30, 300, 0), (30, 300, 4), (30, 12, 0)])
def test_other_rows_keep_their_products_with_the_training_rows(n, d, duplicates):
    """What a linear model sees of a held-out row survives; training rows come out as they were fitted."""
    X, new = rows(n, d, duplicates).astype("f8"), rows(7, d).astype("f8")
    rotation = SpanRotation().fit(X)
    unit, unit_new = Normalizer().transform(X), Normalizer().transform(new)
    np.testing.assert_allclose(rotation.transform(new) @ rotation.Z_.T, unit_new @ unit.T, atol=1e-10)
    np.testing.assert_allclose(rotation.transform(X), rotation.Z_, atol=1e-9)


@pytest.mark.parametrize("duplicates", [0, 4])
def test_a_model_on_the_span_is_the_same_model_on_the_rows(duplicates):
    """Mapped back to full width, coefficients give the same decisions, and have the same length."""
    X = rows(30, 300, duplicates).astype("f8")
    rotation = SpanRotation().fit(X)
    v = np.random.default_rng(1).standard_normal((2, rotation.Z_.shape[1]))
    w = rotation.to_width(X, v)
    np.testing.assert_allclose(normalize(X) @ w.T, rotation.Z_ @ v.T, atol=1e-9)
    np.testing.assert_allclose(np.sum(w * w, axis=1), np.sum(v * v, axis=1), rtol=1e-9)


def test_a_stack_is_rotated_like_the_array_in_it(tmp_path):
    """Scattered rows of a stack, streamed, give the coordinates of their copy in memory."""
    train = open_stack(stack(tmp_path / "s.h5", contents(rows=40, shape=(4, 4, 5)))).select("train")
    np.testing.assert_allclose(
        SpanRotation().fit(train).transform(train), SpanRotation().fit_transform(train.X), atol=1e-5
    )


def test_distances_have_the_true_lengths():
    """|x − y|² from products and squared lengths is the distance, also to a row of zeros."""
    X = normalize(rows(6, 20).astype("f8"))
    X[2] = 0
    squares = np.sum(X * X, axis=1)
    expected = np.sum((X[:, None] - X[None]) ** 2, axis=2)
    np.testing.assert_allclose(squared_distances(X @ X.T, squares, squares), expected, atol=1e-12)
