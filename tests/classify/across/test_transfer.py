"""The quick score against a fit without each row, and pairs against fused rows."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from classify.across.transfer import best_pair, leave_one_out, left_out, sampled
from classify.classical.products import spread, unit_products
from classify.rows import unit_rows


@pytest.mark.parametrize("width", [5, 60])
def test_rows_left_out_are_those_of_ridge_regressions_without_them(width: int) -> None:
    """Copies and views of one image are left out together."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((30, width)) + 0.5, np.arange(30) % 3
    groups = np.arange(30)
    groups[[3, 9]], groups[[4, 5, 6]] = 100, 101
    X[9] = X[3]
    products = unit_products(X)
    scores = left_out(products, y, groups, 0.3)
    unit, targets = unit_rows(X), np.eye(3)[y]
    for group in np.unique(groups):
        out = groups == group
        plain = Ridge(alpha=0.3 * spread(products)).fit(unit[~out], targets[~out])
        assert plain.predict(unit[out]) == pytest.approx(scores[out], abs=1e-9)


def test_the_score_is_of_the_best_penalty_and_knows_noise() -> None:
    random = np.random.default_rng(0)
    y = np.arange(300) % 3
    noise = random.standard_normal((300, 40))
    signal = noise + 2 * np.eye(40)[y]
    groups = np.arange(300)
    assert leave_one_out(unit_products(signal), y, groups) > 0.8
    assert leave_one_out(unit_products(noise), y, groups) < 0.5


def test_two_halves_of_a_signal_are_the_best_pair() -> None:
    """Each half tells other classes apart; noise helps neither."""
    random = np.random.default_rng(0)
    y = np.arange(200) % 4
    one = random.standard_normal((200, 30)) + 3 * np.eye(30)[y // 2]
    two = random.standard_normal((200, 30)) + 3 * np.eye(30)[y % 2]
    none = random.standard_normal((200, 30))
    products = {name: unit_products(X) for name, X in (("one", one), ("none", none), ("two", two))}
    pair = best_pair(products, y, np.arange(200))
    assert pair.names == ("one", "two") and pair.score > pair.alone + 0.2
    assert sum(pair.weights) == pytest.approx(1)


def test_a_sample_has_every_class_in_its_share() -> None:
    y = np.repeat([0, 1], [300, 100])
    rows = sampled(np.arange(400), y, 40)
    assert len(rows) == 40 and (np.diff(rows) > 0).all() and abs((y[rows] == 1).sum() - 10) <= 1
    assert sampled(np.arange(5), y, 40).tolist() == [0, 1, 2, 3, 4]
