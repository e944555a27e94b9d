"""Folds inside the train rows: stratified, and never with copies or views of one image on both sides."""

from typing import Any

import numpy as np

from features import Stack

FOLDS = 5
Splits = list[tuple[np.ndarray, np.ndarray]]  # (train, held-out) row indices of each fold


def source_groups(X: Any) -> np.ndarray:
    """(n,) int64, equal for rows that come from the same image bytes; an array's rows are all their own."""
    if not isinstance(X, Stack):
        return np.arange(len(X))
    groups: np.ndarray = np.unique(X.field("sha256"), axis=0, return_inverse=True)[1].reshape(-1)
    return groups


def folds(X: Any, y: np.ndarray, seed: int = 0) -> Splits:
    """(train, held-out) row indices of up to five folds; fewer where a class has fewer images, none where it has one.

    Images are dealt out, and rows follow: a fold trains on all views of its train images, and holds out the other
    images as they are, their view 0, which is what a model will be asked about. So augmented rows stand in no held-out
    part, and which images are held out does not depend on how many views there are.

    Args:
        X: (n, d) array or `Stack`.
        y: (n,) labels.
        seed: of the shuffle.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = source_groups(X)
    own = np.flatnonzero(X.field("view") == 0) if isinstance(X, Stack) else np.arange(len(y))
    classes = np.unique(y)
    images = min(len(np.unique(groups[own][y[own] == label])) for label in classes)
    if images < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, images), shuffle=True, random_state=seed)
    splits = []
    for _, picked in splitter.split(own, y[own], groups[own]):
        train = np.flatnonzero(~np.isin(groups, groups[own[picked]]))
        if len(np.unique(y[train])) == len(classes):  # of a class of two images, both may be dealt to one fold
            splits.append((train, own[picked]))
    return splits
