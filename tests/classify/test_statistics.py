"""The statistics of the comparison, each against an independent reference."""

from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from classify.comparison.intervals import difference_interval, share_interval
from classify.comparison.statistics import (
    calibration_error,
    confused_pairs,
    holm,
    log_loss,
    mcnemar,
    reliability,
    separation,
)


def right(n: int = 80, models: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, models)) < [0.9, 0.8, 0.5][:models]


def probabilities(n: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, classes, n), random.dirichlet(np.ones(classes) * 0.5, n)


@pytest.mark.parametrize(
    ("right", "n", "ends"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))]
)
def test_interval_of_a_share_is_the_published_one(right: int, n: int, ends: tuple[float, float]) -> None:
    """Newcombe's own examples (Statistics in Medicine 17, 857–872, 1998), and what scipy makes of them."""
    assert share_interval([right], [n]) == pytest.approx(ends, abs=5e-5)
    assert share_interval([right], [n]) == pytest.approx(binomtest(right, n).proportion_ci(method="wilson"), abs=1e-6)


def test_fewer_rows_mean_wider_intervals_even_where_all_are_right() -> None:
    """A perfect score of two rows is not worth that of 450, and neither is certain."""
    few, many = share_interval([2], [2]), share_interval([450], [450])
    assert few == pytest.approx((0.342, 1), abs=5e-4) and many == pytest.approx((0.9915, 1), abs=5e-5)
    assert share_interval([40, 2], [40, 2])[0] < share_interval([40, 40], [40, 40])[0] < 1


def test_interval_of_a_difference_is_the_bootstraps_where_there_are_many_rows() -> None:
    """Independent of any formula: rows drawn with replacement, both models on the same ones."""
    random = np.random.default_rng(0)
    hard = random.random(2000)  # images that are hard for both
    a, b = hard < random.normal(0.8, 0.1, 2000), hard < random.normal(0.75, 0.1, 2000)
    drawn = random.integers(0, 2000, (4000, 2000))
    differences = (a[drawn] * 1.0 - b[drawn]).mean(axis=1)
    assert difference_interval(a, b) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.002)


def test_models_that_never_disagree_may_differ_all_the_same() -> None:
    """By less, the more rows there are; and a model is never further than 100 points from another."""
    few, many = np.array([True, True]), np.repeat([True, False], [400, 50])
    assert difference_interval(few, few) == pytest.approx((-0.658, 0.658), abs=5e-4)
    assert difference_interval(many, many)[1] < 0.02
    assert difference_interval(few, ~few) == pytest.approx((-0.315, 1), abs=5e-4)  # of two images, both: by chance


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


def test_separation_is_the_area_under_the_curve():
    """Guards the measure against scikit-learn's, ties included; too few answers of a kind give none."""
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    right = random.random(300) < 0.7
    confidence = np.round(random.normal(0.6 + 0.1 * right, 0.1), 2)
    area, (low, high) = separation(right, confidence)
    assert area == pytest.approx(roc_auc_score(right, confidence)) and low < area < high
    assert separation(right[:12], confidence[:12]) is None
    covered = 0
    for _ in range(200):
        right = random.random(150) < 0.7
        low, high = separation(right, random.random(150))[1]
        covered += low <= 0.5 <= high
    assert covered >= 180  # of 95 %
