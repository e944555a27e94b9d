"""The rotation into the rows' span is exact, for every shape and rank."""

import numpy as np
import pytest
from sklearn.preprocessing import normalize
from tiny import contents, stack

from classify.gram import squared_distances, unit_products
from classify.span import Span
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


@pytest.mark.parametrize(("n", "d", "duplicates", "rank"), [(30, 300, 0, 30), (30, 300, 4, 26), (30, 12, 0, 12)])
def test_rotation_keeps_all_inner_products(n, d, duplicates, rank):
    """Z is an isometry of the rows, in as many dimensions as their rank, duplicate rows included."""
    X = normalize(rows(n, d, duplicates).astype("f8"))
    span = Span(X @ X.T)
    assert span.Z.shape == (n, rank)
    np.testing.assert_allclose(span.Z @ span.Z.T, X @ X.T, atol=1e-10)


@pytest.mark.parametrize("duplicates", [0, 4])
def test_a_model_on_the_span_is_the_same_model_on_the_rows(duplicates):
    """Mapped back to full width, coefficients give the same decisions, and have the same length."""
    X = normalize(rows(30, 300, duplicates).astype("f8"))
    span = Span(X @ X.T)
    v = np.random.default_rng(1).standard_normal((2, span.Z.shape[1]))
    w = span.to_width(X, v)
    np.testing.assert_allclose(X @ w.T, span.Z @ v.T, atol=1e-9)
    np.testing.assert_allclose(np.sum(w * w, axis=1), np.sum(v * v, axis=1), rtol=1e-9)


def test_distances_have_the_true_lengths():
    """|x − y|² from products and squared lengths is the distance, also to a row of zeros."""
    X = normalize(rows(6, 20).astype("f8"))
    X[2] = 0
    squares = np.sum(X * X, axis=1)
    expected = np.sum((X[:, None] - X[None]) ** 2, axis=2)
    np.testing.assert_allclose(squared_distances(X @ X.T, squares, squares), expected, atol=1e-12)
