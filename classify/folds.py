"""Divide train rows into folds that choose settings, and into rows to train on and rows that say when to stop.

Both are stratified, and never have copies or views of one image on both sides.
"""

from hashlib import sha256
from typing import Any

import numpy as np

from classify.rows import row_chunks
from features import Stack
from features.schema import SPLITS

FOLDS = 5
VALIDATION_SHARE = 0.15
DEALT = 5000  # groups beyond which they are dealt out in turn
Splits = list[tuple[np.ndarray, np.ndarray]]  # (train, held-out) row indices of each fold


def source_groups(X: Any) -> np.ndarray:
    """(n,) int64, equal for rows of the same image bytes, of near copies that are known, or of the same group.

    An array's rows are all their own.
    """
    if not isinstance(X, Stack):
        return np.arange(len(X))
    sha256, names = X.identity, X.groups
    if names is not None:
        from extract.images.split import units  # stage one's; what needs only plain folds starts without it

        return np.unique(units([image.tobytes() for image in sha256], names), return_inverse=True)[1]
    groups: np.ndarray = np.unique(sha256, axis=0, return_inverse=True)[1].reshape(-1)
    return groups


def folds(X: Any, y: np.ndarray, seed: int = 0, groups: np.ndarray | None = None) -> Splits:
    """(train, held-out) row indices of up to five folds; fewer where a class has fewer images, none where it has one.

    Images are dealt out, and rows follow: a fold trains on all views of its train images, and holds out the other
    images as they are, their view 0, which is what a model will be asked about. So augmented rows stand in no held-out
    part, and which images are held out does not depend on how many views there are.

    Args:
        X: (n, d) array or `Stack`.
        y: (n,) labels.
        seed: of the shuffle.
        groups: (n,) int64, rows that are never divided; by default `source_groups`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = source_groups(X) if groups is None else groups
    own = np.flatnonzero(X.field("view") == 0) if isinstance(X, Stack) else np.arange(len(y))
    classes = np.unique(y)
    images = min(len(np.unique(groups[own][y[own] == label])) for label in classes)
    if images < 2:
        return []
    count = min(FOLDS, images)
    if len(np.unique(groups[own])) > DEALT:
        dealt = _deal(y[own], groups[own], count, seed)
        parts = [np.flatnonzero(dealt == fold) for fold in range(count)]
    else:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        parts = [picked for _, picked in splitter.split(own, y[own], groups[own])]
    splits = []
    for picked in parts:
        train = np.flatnonzero(~np.isin(groups, groups[own[picked]]))
        if len(np.unique(y[train])) == len(classes):  # of a class of two images, both may be dealt to one fold
            splits.append((train, own[picked]))
    return splits


def _deal(y: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(m,) fold of each image: the groups of a class, shuffled, are dealt out in turn, each with all its images.

    scikit-learn's splitter weighs every group against every fold, which takes three minutes for a million.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(y[first[order]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(order)) % count
    return np.asarray(fold[group])


def sides(X: Any, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows to train on and which to validate on: the dataset's own, else a seeded 15 % of each class.

    Identical rows, and all views of one image, go to the same side, and only images themselves are validated on: other
    views of those are on neither.

    Args:
        X: (n, d) array or `Stack`.
        y: (n,) int64 class indices.
        seed: any integer.

    Returns:
        the indices of either's rows, in order.
    """
    from extract.images.split import seeded_split  # stage one's; what needs only folds starts without it

    if isinstance(X, Stack):
        own, view, identity, groups = X.split == SPLITS["val"], X.view, X.identity, X.groups
        if own.any():
            return np.flatnonzero(~own), np.flatnonzero(own)
    else:
        digests = b"".join(sha256(row.tobytes()).digest() for piece in row_chunks(X) for row in piece)
        identity, view, groups = np.frombuffer(digests, "u1").reshape(-1, 32), np.zeros(len(y)), None
    held = seeded_split(y, identity, seed, VALIDATION_SHARE, groups=groups) == SPLITS["test"]
    return np.flatnonzero(~held), np.flatnonzero(held & (view == 0))
