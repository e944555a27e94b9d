"""Statistics of repeated splits: models that were fitted and scored on several train and test parts of the same rows.

The train parts share most of their rows, so the scores of different splits are not independent, and a plain t-test
calls too many differences significant. Nadeau and Bengio (Machine Learning 52, 239–281, 2003) correct the variance of
their mean from s²/R to s²·(1/R + n_test/n_train). The same variance, read as a posterior, is the Bayesian correlated
t-test (Corani and Benavoli, 2015; Benavoli et al., JMLR 18, 2017). Friedman's test of ranks, and Nemenyi's after it,
take datasets as blocks; the splits of one dataset are no such blocks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

ROPE = 0.01  # two models whose accuracies differ by less than a point are practically equal (Benavoli et al., 2017)


class Parts(NamedTuple):
    """How many rows a split has on either side."""

    train: int
    test: int


class Practical(NamedTuple):
    """Posterior probabilities that a model is worse than another by more than `ROPE`, practically equal, or better."""

    worse: float
    equal: float
    better: float


def mean_error(values: ArrayLike, parts: Parts, least: float = 0.0) -> float:
    """The corrected standard error of the mean of scores, or of differences, over splits.

    Args:
        values: (R,), R at least 2.
        parts: of each split.
        least: what it is at least, see `share_error`: a few splits may agree by chance, even to the last image.
    """
    several = np.asarray(values, float)
    return max(least, float(several.std(ddof=1) * np.sqrt(1 / len(several) + parts.test / parts.train)))


def share_error(share: ArrayLike, images: ArrayLike) -> float:
    """The standard error of a share of independent images, as if one more had been of either kind (Laplace).

    No number of splits knows a share better than all the images that they test do.

    Args:
        share: (k,) of several strata's shares, where their mean is asked for; the two further images are spread over
            them.
        images: (k,) how many each share is of.
    """
    shares, n = np.asarray(share, float), np.asarray(images, float)
    smoothed = (shares * n.sum() + 1) / (n.sum() + 2)
    return _mean_error(smoothed * (1 - smoothed), n)


def difference_error(apart: ArrayLike, difference: ArrayLike, images: ArrayLike) -> float:
    """The standard error of how much more often one model is right than another, on the same independent images.

    Of an image it is 1, 0 or −1: the variance is p − d², where p is the share that only one of them got right, and d
    the difference. As in `share_error`, one more image had only one right, and one more neither or both.

    Args:
        apart, difference: (k,) p and d of each stratum; images: (k,) how many.
    """
    p, d, n = (np.asarray(each, float) for each in (apart, difference, images))
    total = n.sum()
    return _mean_error((p * total + 1) / (total + 2) - (d * total / (total + 2)) ** 2, n)


def _mean_error(variances: np.ndarray, images: np.ndarray) -> float:
    """Of the mean over strata of means of `images`, each with this variance."""
    return float(np.sqrt((variances / images).sum()) / np.size(images))


def mean_interval(values: ArrayLike, parts: Parts, least: float = 0.0) -> tuple[float, float]:
    """The corrected 95 % interval of the mean over splits; arguments: see `mean_error`."""
    from scipy.stats import t

    several = np.asarray(values, float)
    reach = float(t.ppf(0.975, len(several) - 1)) * mean_error(several, parts, least)
    return float(several.mean() - reach), float(several.mean() + reach)


def corrected_t(differences: ArrayLike, parts: Parts, least: float = 0.0) -> tuple[float, float]:
    """Corrected resampled t-test of a mean difference: t, and the two-sided p-value.

    Args:
        differences: (R,) of two models' scores, split by split.
        parts, least: see `mean_error`.

    Returns:
        t is infinite where all differences are equal and not 0, and 0 where all are 0.
    """
    from scipy.stats import t

    several = np.asarray(differences, float)
    mean, error = float(several.mean()), mean_error(several, parts, least)
    statistic = mean / error if error else float(np.sign(mean)) * np.inf if mean else 0.0
    return statistic, float(2 * t.sf(abs(statistic), len(several) - 1))


def practically(differences: ArrayLike, parts: Parts, least: float = 0.0, rope: float = ROPE) -> Practical:
    """The Bayesian correlated t-test; arguments: see `corrected_t`.

    The posterior of the mean difference is Student's t around the mean, as wide as `mean_error`.
    """
    from scipy.stats import t

    several = np.asarray(differences, float)
    mean, error = float(several.mean()), mean_error(several, parts, least)
    if not error:
        return Practical(float(mean < -rope), float(-rope <= mean <= rope), float(mean > rope))
    below, above = (float(t.cdf((edge - mean) / error, len(several) - 1)) for edge in (-rope, rope))
    return Practical(below, above - below, 1 - above)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's τ-b of two rankings; None with fewer than three of them, or where one of them is all ties."""
    from scipy.stats import kendalltau

    if len(a) < 3:
        return None
    tau = float(kendalltau(a, b).statistic)
    return tau if tau == tau else None
