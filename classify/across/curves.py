"""How many photos are enough: accuracy by the number of train images of a class, all from the one extraction."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from classify.across.feature_set import FeatureSet
from classify.across.power_law import Expected, expected
from classify.across.splits import Split
from classify.classical import memory
from classify.fitting import Settings
from classify.models import Model
from classify.rows import shape
from features import Stack
from features.runtime.machine import free_memory

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # train images of a class
REPEATS = 5  # at least


class Curve(NamedTuple):
    """A learning curve.

    Attributes:
        sizes: train images of a class; the last are all there are, on average over classes.
        accuracies: (repeats, sizes) on the test rows.
        twice: what twice as many images promise.
        checked: what the sizes but the last promised for the last; None with too few sizes.
    """

    sizes: list[int]
    accuracies: np.ndarray
    twice: Expected | None
    checked: Expected | None

    def as_json(self) -> dict[str, Any]:
        """For `compare.json`."""
        told = {"sizes": self.sizes, "accuracies": self.accuracies.tolist()}
        for name, each in (("twice", self.twice), ("checked", self.checked)):
            told[name] = None if each is None else each._asdict()
        return told


def sizes_of(y: np.ndarray, images: np.ndarray) -> list[int]:
    """Numbers of images of a class that the smallest class has, and at last the mean over all classes.

    Args:
        y: (n,) class indices of the train rows.
        images: (n,) bool, rows that are images themselves.
    """
    counts = np.bincount(y[images])
    counts = counts[counts > 0]
    everything = round(float(counts.mean()))
    return [size for size in SIZES if size <= counts.min() and size < 0.9 * everything] + [everything]


def learning_curve(
    model: Model,
    features: FeatureSet,
    splits: Sequence[Split],
    settings: Settings,
    repeats: int = REPEATS,
    done: Callable[[], object] = lambda: None,
) -> Curve:
    """Fit a model to ever more train images.

    A repeat draws an order of each class's images; a smaller size takes the first of a larger one's. With several
    splits, repeats take turns at them.

    Args:
        model: a model that is fitted through inner products.
        features: the rows.
        splits: train and test parts.
        settings: how; nothing is searched for.
        repeats: how many times.
        done: called after each fit.
    """
    y, images = features.y, features.stack.view == 0
    sizes = sizes_of(y[splits[0].train], images[splits[0].train])
    identity = features.stack.field("sha256")
    names = np.unique(identity, axis=0, return_inverse=True)[1].reshape(-1)
    right = np.zeros((repeats, len(sizes)))
    whole: dict[int, float] = {}  # of a split, with all its images, the same in every repeat
    with threadpool_limits(settings.threads, "blas"):
        for repeat in range(repeats):
            at = repeat % len(splits)
            split = splits[at]
            order = np.random.default_rng([settings.seed, repeat]).permutation(int(names.max()) + 1)
            for column, size in enumerate(sizes):
                if column < len(sizes) - 1:
                    rows = _first(split.train, y, names, order, size)
                    right[repeat, column] = _accuracy(model, features, rows, split.test, settings)
                else:
                    if at not in whole:
                        whole[at] = _accuracy(model, features, split.train, split.test, settings)
                    right[repeat, column] = whole[at]
                done()
    twice = expected(sizes, right, 2 * sizes[-1], settings.seed)
    checked = expected(sizes[:-1], right[:, :-1], sizes[-1], settings.seed)
    return Curve(sizes, right, twice, checked)


def _first(train: np.ndarray, y: np.ndarray, names: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    """Train rows of the first `size` images of each class in an order of the images; views and copies come along."""
    rows = []
    for code in np.unique(y[train]):
        own = train[y[train] == code]
        ranks = order[names[own]]
        rows.append(own[ranks <= np.unique(ranks)[size - 1]])
    return np.sort(np.concatenate(rows))


def _accuracy(model: Model, features: FeatureSet, train: np.ndarray, test: np.ndarray, settings: Settings) -> float:
    """Share of the test rows that are right, of a model with its default settings and without probabilities."""
    y = features.y[train]
    estimator = model.build(settings.seed).set_params(**(model.balanced if settings.balance else {}))
    if features.shares:
        X: Any = features.shared.rows
        seen, asked = X[train], X[test]
        products = features.shared.products[np.ix_(train, train)]
    else:
        X = features.rows(features.pool_for("flatten"))
        stack = isinstance(X, Stack)
        seen, asked = (X.take(train), X.take(test)) if stack else (X[train], X[test])
        products = None
    kernel = model.takes == "products"
    method = memory.choose_method(*shape(seen), kernel, free_memory())
    estimator.set_params(path=method or model.of_many)
    estimator.fit(seen, y, products if estimator.wants_products(seen) else None, [])
    return float(np.mean(estimator.answering.decide(asked)[0] == features.y[test]))
