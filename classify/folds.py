"""Folds inside the train rows: stratified, and never with copies or views of one image on both sides."""

from typing import Any

import numpy as np

from features import Stack

FOLDS = 5


def source_groups(X: Any) -> np.ndarray:
    """(n,) int64, equal for rows that come from the same image bytes; an array's rows are all their own."""
    if not isinstance(X, Stack):
        return np.arange(len(X))
    groups: np.ndarray = np.unique(X.field("sha256"), axis=0, return_inverse=True)[1].reshape(-1)
    return groups


def folds(y: np.ndarray, groups: np.ndarray, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, held-out) row indices of up to five folds; fewer where a class has fewer images, none where it has one.

    Args:
        y: (n,) labels.
        groups: (n,) as of `source_groups`.
        seed: of the shuffle.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    images = min(len(np.unique(groups[y == label])) for label in np.unique(y))
    if images < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, images), shuffle=True, random_state=seed)
    return list(splitter.split(y, y, groups))
