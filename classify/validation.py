"""Train rows that are put aside to decide when training stops."""

from hashlib import sha256
from typing import Any

import numpy as np

from classify.rows import row_chunks
from extract.split import seeded_split
from features import Stack
from features.schema import SPLITS

VALIDATION_SHARE = 0.15


def held_out(X: Any, y: np.ndarray, seed: int) -> np.ndarray:
    """Which training rows are for validation: the dataset's own, else a seeded 15 % of each class.

    Identical rows, and all rows of one image, go to the same side.

    Args:
        X: (n, d) array or `Stack`.
        y: (n,) int64 class indices.
        seed: any integer.

    Returns:
        (n,) bool.
    """
    if isinstance(X, Stack):
        own: np.ndarray = X.split == SPLITS["val"]
        if own.any():
            return own
        identity = X.field("sha256")
    else:
        digests = b"".join(sha256(row.tobytes()).digest() for piece in row_chunks(X) for row in piece)
        identity = np.frombuffer(digests, "u1").reshape(-1, 32)
    return np.asarray(seeded_split(y, identity, seed, VALIDATION_SHARE) == SPLITS["test"])
