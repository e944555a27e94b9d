"""The statistics of the comparison, each against an independent reference."""

from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from classify import statistics
from classify.statistics import (
    calibration_error,
    confused_pairs,
    holm,
    interval,
    log_loss,
    mcnemar,
    reliability,
    resampled_means,
    share_interval,
)


def right(n: int = 80, models: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, models)) < [0.9, 0.8, 0.5][:models]


def probabilities(n: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, classes, n), random.dirichlet(np.ones(classes) * 0.5, n)


def test_resampling_is_paired_and_equals_drawing_rows_one_by_one():
    """The same rows for every model: the means are those of plain indexing with the same draws."""
    values, random = right(), np.random.default_rng(7)
    expected = np.array([values[random.integers(0, 80, 80)].mean(axis=0) for _ in range(50)])
    np.testing.assert_allclose(resampled_means(values, 7, 50), expected)


def test_resampling_does_not_depend_on_the_size_of_its_pieces(monkeypatch):
    whole = resampled_means(right(), 3, 100)
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", 7 * 80)
    np.testing.assert_array_equal(resampled_means(right(), 3, 100), whole)


def test_interval_is_as_wide_as_theory_says():
    """For a share p of n rows the bootstrap's standard error is √(p(1 − p)/n)."""
    values = np.arange(2000)[:, None] < 1600
    low, high = interval(resampled_means(values, 0)[:, 0])
    margin = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
    assert (low, high) == pytest.approx((0.8 - margin, 0.8 + margin), abs=0.001)


def test_a_paired_difference_of_equal_models_is_zero():
    """Models that err on the same rows differ by nothing in every round, however uncertain each is."""
    same = np.repeat(right(models=1), 2, axis=1)
    means = resampled_means(same, 0, 200)
    assert interval(means[:, 0] - means[:, 1]) == (0, 0)


@pytest.mark.parametrize(
    ("right", "n", "ends"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))]
)
def test_interval_of_a_share_is_the_published_one(right: int, n: int, ends: tuple[float, float]) -> None:
    """The worked examples of Newcombe (1998), table I; and what scipy makes of them."""
    assert share_interval([right], [n]) == pytest.approx(ends, abs=5e-5)
    assert share_interval([right], [n]) == pytest.approx(binomtest(right, n).proportion_ci(method="wilson"), abs=1e-6)


def test_interval_of_a_mean_share_covers_it() -> None:
    """In 2,000 test sets of 60, 15 and 5 rows, the true mean recall lies within nearly 95 % of the intervals."""
    recalls, rows = np.array([0.97, 0.9, 0.8]), [60, 15, 5]
    drawn = np.random.default_rng(0).binomial(rows, recalls, (2000, 3))
    ends = np.array([share_interval(right, rows) for right in drawn])
    assert 0.93 < np.mean((ends[:, 0] <= recalls.mean()) & (recalls.mean() <= ends[:, 1])) < 0.98
    assert ends.min() >= 0 and ends.max() <= 1


def test_fewer_rows_mean_wider_intervals_even_where_all_are_right() -> None:
    """A perfect score of two rows is not worth that of 450, and neither is certain."""
    few, many = share_interval([2], [2]), share_interval([450], [450])
    assert few == pytest.approx((0.342, 1), abs=5e-4) and many == pytest.approx((0.9915, 1), abs=5e-5)
    assert share_interval([40, 2], [40, 2])[0] < share_interval([40, 40], [40, 40])[0] < 1


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (3, 9), (8, 8), (40, 12)])
def test_mcnemar_sums_the_binomial_tail(only_a, only_b):
    a = np.array([True] * only_a + [False] * only_b + [True, False] * 10)
    b = np.array([False] * only_a + [True] * only_b + [True, False] * 10)
    n, fewer = only_a + only_b, min(only_a, only_b)
    expected = min(1, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(expected)
    assert mcnemar(b, a) == mcnemar(a, b)


def test_holm_on_a_worked_example():
    """0.01 × 4, then 0.02 × 3, then 0.03 × 2 raised to what came before, then 0.04 × 1 likewise; never above 1."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_log_loss_is_scikit_learns():
    y, proba = probabilities()
    proba[0] = np.eye(4)[(y[0] + 1) % 4]  # certain, and wrong: clipped, not infinite
    assert log_loss(y, proba) == pytest.approx(metrics.log_loss(y, proba), rel=1e-6)


def test_calibration_error_is_the_textbook_sum():
    """Σ |bin|/n · |accuracy − confidence|, bin by bin, edges included."""
    y, proba = probabilities()
    proba[:3] = [[1, 0, 0, 0], [0.6, 0.4, 0, 0], [0.25, 0.25, 0.25, 0.25]]
    confidence, hit = proba.max(axis=1), proba.argmax(axis=1) == y
    expected, held = 0.0, 0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
            held += 1
    bins = reliability(y, proba)
    assert calibration_error(bins) == pytest.approx(expected)
    assert (len(bins.rows), bins.rows.sum()) == (held, 400)


def test_perfect_confidence_has_no_calibration_error():
    y = np.array([0, 1, 2, 1])
    assert calibration_error(reliability(y, np.eye(3)[y])) == 0


def test_confused_pairs_are_the_largest_off_the_diagonal():
    """The diagonal and empty cells never count; equals come in order of the classes."""
    confusion = np.array([[90, 2, 0], [5, 80, 2], [0, 7, 1]])
    assert confused_pairs(confusion, 3) == [(2, 1, 7), (1, 0, 5), (0, 1, 2)]
    assert len(confused_pairs(confusion, 9)) == 4
    assert confused_pairs(np.diag([3, 4])) == []
