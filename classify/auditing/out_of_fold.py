"""What logistic regression says of every labelled image, by a model that has not seen it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from classify.across.feature_set import FeatureSet
from classify.classical.calibration import Tempered
from classify.classical.crossfit import answered_by_passes, row_weights
from classify.classical.descent import SCORED, Descent
from classify.classical.losses import loss_of
from classify.classical.passes import Rows
from classify.folds import folds, source_groups
from classify.models import MODELS
from features import Refused, Stack
from features.runtime.machine import cores

MODEL = "logreg"


class OutOfFold(NamedTuple):
    """Probabilities of images by models that had not seen them, nor their copies.

    Attributes:
        rows: (m,) indices of the images that were judged: those of classes with a single image cannot be.
        y: (m,) int64 class indices of their labels.
        proba: (m, classes) float64; classes that were not judged have none.
    """

    rows: np.ndarray
    y: np.ndarray
    proba: np.ndarray


def out_of_fold(images: Stack, units: np.ndarray, copies: Sequence[np.ndarray]) -> OutOfFold:
    """Five folds over all images, test images too. Copies of an image, near ones too, are on one side of each fold.

    Rows are taken whole where the inner products of all pairs are few enough to be taken apart; else pooled.

    Args:
        images: labelled images, no views.
        units: (n, d) float32 rows, pooled and of unit length.
        copies: groups of near copies.

    Raises:
        Refused: fewer than two classes have images enough.
    """
    groups = merged(source_groups(images), copies)
    judged = np.isin(images.y, [c for c in np.unique(images.y) if len(np.unique(groups[images.y == c])) > 1])
    rows = np.flatnonzero(judged)
    classes, codes = np.unique(images.y[rows], return_inverse=True)
    if len(classes) < 2:
        raise Refused(f"{images.path}: fewer than two classes have two images that are no copies; nothing to compare")
    parts = folds(images.take(rows), codes, groups=groups[rows])
    with threadpool_limits(cores(), "blas"):
        descent, scale = _descent(images.take(rows), units[rows], codes)
        decisions = _decisions(descent, scale, codes, parts)
    proba = np.zeros((len(rows), len(images.label_names)))
    held = np.concatenate([held for _, held in parts])
    proba[np.ix_(held, classes)] = decisions
    held = np.sort(held)
    return OutOfFold(rows[held], images.y[rows[held]], proba[held])


def _descent(images: Stack, units: np.ndarray, codes: np.ndarray) -> tuple[Descent, float]:
    """What fits linear models to the rows, and the spread of these."""
    features = FeatureSet("", images, None, codes)
    if features.shares:
        return features.shared.descent, features.shared.spread(np.arange(len(codes)))
    mean = units.mean(axis=0, dtype=np.float64)
    return Descent(Rows(units, codes, are_unit=True)), float(1 - mean @ mean) or 1.0


def _decisions(descent: Descent, scale: float, codes: np.ndarray, parts: Any) -> np.ndarray:
    """(h, k) probabilities of the rows that each fold holds out, fold after fold."""
    model: Tempered = MODELS[MODEL].build(0).set_params(path="passes")
    plain = model.plain(scale)
    weights = row_weights(plain, codes, [train for train, _ in parts])
    found = descent.minimise(loss_of(plain, int(codes.max()) + 1), plain.C, weights, tolerance=SCORED)
    held = answered_by_passes(descent, found, [held for _, held in parts])
    T = model.find_temperature(held.decisions, codes[held.rows])
    proba = model.probabilities(held.decisions, held.predicted, T)
    assert proba is not None  # logistic regression's are its own
    return proba


def merged(groups: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) groups of rows, joined where other groups, of row indices, have rows of several."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([(other[0], row) for other in others for row in other], np.int64).reshape(-1, 2)
    count = int(groups.max()) + 1
    links = coo_array((np.ones(len(pairs)), (groups[pairs[:, 0]], groups[pairs[:, 1]])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1])[groups]
