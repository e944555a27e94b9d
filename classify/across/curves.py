"""How many photos are enough: accuracy by the number of train images of a class, all from the one extraction."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from classify.across.feature_set import FeatureSet, SharedRows
from classify.across.power_law import Expected, expected
from classify.across.splits import Split
from classify.classical import memory
from classify.classical.crossfit import answered_by_passes, cross_fit, row_weights
from classify.classical.descent import SCORED
from classify.classical.losses import loss_of
from classify.fitting import Settings
from classify.folds import Splits
from classify.models import Model
from classify.rows import shape, taken
from features.runtime.machine import free_memory

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # train images of a class
REPEATS = 5


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
    known: Sequence[float] = (),
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
        known: accuracies of the splits with all images, where cells of these settings have them already.
        done: called after each size.
    """
    y, images = features.y, features.stack.view == 0
    sizes = sizes_of(y[splits[0].train], images[splits[0].train])
    names = np.unique(features.stack.field("sha256"), axis=0, return_inverse=True)[1].reshape(-1)
    orders = [np.random.default_rng([settings.seed, i]).permutation(int(names.max()) + 1) for i in range(REPEATS)]
    turns = [splits[repeat % len(splits)] for repeat in range(REPEATS)]
    right = np.zeros((REPEATS, len(sizes)))
    with threadpool_limits(settings.threads, "blas"):
        for column, size in enumerate(sizes[:-1]):
            parts = [
                (_first(split.train, y, names, order, size), split.test)
                for split, order in zip(turns, orders, strict=True)
            ]
            right[:, column] = _accuracies(model, features, parts, settings)
            done()
        # All images of a split are the same in every repeat.
        few = splits[:REPEATS]
        whole = known or _accuracies(model, features, [(split.train, split.test) for split in few], settings)
        right[:, -1] = [whole[repeat % len(few)] for repeat in range(REPEATS)]
        done()
    tested = len(np.unique(np.concatenate([split.test for split in few])))
    twice = expected(sizes, right, 2 * sizes[-1], settings.seed, tested)
    # What it is checked by was measured on the same test images.
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


def _accuracies(model: Model, features: FeatureSet, parts: Splits, settings: Settings) -> list[float]:
    """Share of the test rows of each (train, test) that are right, of models with default settings."""
    estimator = model.build(settings.seed).set_params(**(model.balanced if settings.balance else {}))
    if not features.shares or model.paired(features.y) > memory.MOST_PAIRED:
        return [_alone(clone(estimator), model, features, train, test) for train, test in parts]
    if model.takes == "span":
        predicted = _by_descent(estimator, features.shared, features.y, parts)
    else:
        predicted = [_by_products(estimator, features.shared, features.y, train, test) for train, test in parts]
    return [float(np.mean(said == features.y[test])) for said, (_, test) in zip(predicted, parts, strict=True)]


def _by_descent(estimator: Any, shared: SharedRows, y: np.ndarray, parts: Splits) -> list[np.ndarray]:
    """What linear models of each part say of its test rows: all are fitted in the same passes."""
    plain = [estimator.plain(shared.spread(train)) for train, _ in parts]
    rows = np.unique(np.concatenate([each for part in parts for each in part]))
    within = [(np.searchsorted(rows, train), np.searchsorted(rows, test)) for train, test in parts]
    descent = shared.descent_on(rows)
    weights = row_weights(plain[0], y[rows], [train for train, _ in within])
    loss = loss_of(plain[0], int(y.max()) + 1)
    found = descent.minimise(loss, np.array([each.C for each in plain]), weights, tolerance=SCORED)
    said = answered_by_passes(descent, found, [test for _, test in within])
    return np.split(said.predicted, said.ends[:-1])


def _by_products(estimator: Any, shared: SharedRows, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What a kernel machine or neighbours of one part say of its test rows."""
    scale, rows = shared.spread(train), np.concatenate([train, test])
    space = estimator.space(None, y[rows], shared.products[np.ix_(rows, rows)], scale)
    places = np.arange(len(rows))
    return cross_fit([estimator.plain(scale)], space, y[rows], [(places[: len(train)], places[len(train) :])])[
        0
    ].predicted


def _alone(estimator: Any, model: Model, features: FeatureSet, train: np.ndarray, test: np.ndarray) -> float:
    """The same of a model that is fitted to the rows themselves."""
    X = features.rows(features.pool_for("flatten"))
    seen, asked = (taken(X, train), taken(X, test))
    paired = model.paired(features.y[train])
    method = memory.choose_method(*shape(seen), model.takes == "products", free_memory(), paired=paired)
    estimator.set_params(path=method or model.of_many).fit(seen, features.y[train], None, [])
    return float(np.mean(estimator.answering.decide(asked)[0] == features.y[test]))
