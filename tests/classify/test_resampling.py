"""Statistics of repeated splits, against published examples."""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from classify.comparison.resampling import (
    Parts,
    corrected_t,
    mean_interval,
    practically,
    rank_correlation,
    share_error,
)


@pytest.fixture(scope="module")
def moons():
    """(100,) differences in ROC AUC of scikit-learn's example "Statistical comparison of models using grid search"."""
    X, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), X, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    return rbf - linear


def test_the_corrected_t_test_is_the_published_one(moons):
    """The example prints t = 0.750 and a one-sided p of 0.227, where the uncorrected test has 2.611 and 0.005."""
    t, p = corrected_t(moons, Parts(90, 10))
    assert f"{t:.3f} {p / 2:.3f}" == "0.750 0.227"
    plain = moons.mean() / (moons.std(ddof=1) / 10)
    assert f"{plain:.3f}" == "2.611"


def test_the_bayesian_test_is_the_published_one(moons):
    """The example prints 0.773 for rbf better at all, 0.432 for practically equal, and −0.016445 to 0.036445."""
    better_at_all = practically(moons, Parts(90, 10), rope=0.0)
    assert f"{better_at_all.better:.3f} {better_at_all.equal:.3f}" == "0.773 0.000"
    assert f"{practically(moons, Parts(90, 10)).equal:.3f}" == "0.432"
    assert [f"{end:.6f}" for end in mean_interval(moons, Parts(90, 10))] == ["-0.016445", "0.036445"]


def test_no_difference_and_a_constant_one():
    parts = Parts(75, 25)
    assert corrected_t([0.0, 0.0, 0.0], parts) == (0.0, 1.0)
    assert corrected_t([0.5, 0.5, 0.5], parts)[1] == 0.0
    assert practically([0.5, 0.5], parts) == (0, 0, 1) and practically([0.0, 0.0], parts) == (0, 1, 0)


def test_the_corrected_interval_covers_what_it_says_and_the_plain_one_does_not():
    """Simulated: the score on overlapping splits of one sample with a known mean."""
    random = np.random.default_rng(0)
    corrected = plain = 0
    for _ in range(400):
        sample = random.normal(size=100)
        means = []
        for _ in range(10):
            order = random.permutation(100)
            means.append(sample[order[75:]].mean())
        low, high = mean_interval(means, Parts(75, 25))
        reach = 2.262 * np.std(means, ddof=1) / np.sqrt(10)
        corrected += low <= 0 <= high
        plain += abs(np.mean(means)) <= reach
    assert corrected / 400 > 0.92 and plain / 400 < 0.75


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert rank_correlation([1, 2], [1, 2]) is None and rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_splits_that_agree_by_chance_know_no_more_than_their_images() -> None:
    """Two splits of 100 images with the very same score: the interval is no point, nor where all are right."""
    parts, least = Parts(75, 25), share_error(0.8, 100)
    assert least == pytest.approx(0.04, abs=0.001)
    low, high = mean_interval([0.8, 0.8], parts, least)
    assert high - low == pytest.approx(2 * 12.706 * least, rel=1e-3)
    assert mean_interval([1.0] * 10, parts, share_error(1.0, 100))[0] < 0.98
    assert 0.05 < corrected_t([0.04, 0.04], parts, share_error(0.1, 100))[1] < 1
    wide = [0.5, 0.9, 0.7]
    assert mean_interval(wide, parts, least) == mean_interval(wide, parts)
