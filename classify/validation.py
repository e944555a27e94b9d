"""Train rows that are put aside to decide when training stops."""

from hashlib import sha256
from typing import Any

import numpy as np

from classify.rows import row_chunks
from extract.images.split import seeded_split
from features import Stack
from features.schema import SPLITS

VALIDATION_SHARE = 0.15


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
    if isinstance(X, Stack):
        own, view, identity = X.split == SPLITS["val"], X.view, X.field("sha256")
        if own.any():
            return np.flatnonzero(~own), np.flatnonzero(own)
    else:
        digests = b"".join(sha256(row.tobytes()).digest() for piece in row_chunks(X) for row in piece)
        identity, view = np.frombuffer(digests, "u1").reshape(-1, 32), np.zeros(len(y))
    held = seeded_split(y, identity, seed, VALIDATION_SHARE) == SPLITS["test"]
    return np.flatnonzero(~held), np.flatnonzero(held & (view == 0))
