"""Walk over rows by rows or by columns, whether they are an array or a stack larger than memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from features import Failed, Refused, Stack
from features.layout import CHUNK_BYTES
from features.nearest import unit_rows as unit_rows
from features.runtime.errors import shown

BATCH = 64  # rows that are shuffled together into one step of a training
BLOCK = 8  # consecutive rows that are read together
POOL_BYTES = 256 << 20  # rows held at a time, and shuffled among themselves
ROUNDING = 1e-12  # of a spread that float64 sums; of equal rows in float32 at other scales up to 2e-14 was measured
COLUMNS = 4096  # columns a block: wide enough for BLAS, 64 MB at 4,000 rows


def shape(X: Any) -> tuple[int, int]:
    """(rows, width) of an array or a stack."""
    if isinstance(X, Stack):
        return len(X), int(np.prod(X.feature_shape))
    rows, width = X.shape
    return rows, width


def taken(X: Any, rows: np.ndarray) -> Any:
    """Some rows of an array or a stack, by index: an array or a stack."""
    return X.take(rows) if isinstance(X, Stack) else X[rows]


def checked_views(stack: Stack, views: int | None) -> int:
    """How many augmented views of each train image count: as many as were asked for, or all there are.

    Raises:
        Refused: there are fewer.
    """
    most = int(stack.view.max(initial=0))
    if views is not None and not 0 <= views <= most:
        raise Refused(
            f"--views {views}: {stack.path} has {most or 'no'} views of its train images. "
            f"Make one that has them: python -m extract DATA --views {views}"
        )
    return most if views is None else views


def pooled(X: Any, pool: str) -> Any:
    """Rows of a stack average- or max-pooled, (n, c) float32; flattened ones and arrays are left as they are."""
    if not isinstance(X, Stack) or pool == "flatten":
        return X
    rows = X.pooled(pool)
    check_finite(X, 0, rows)  # XGBoost would take NaN for a missing value, and say nothing
    return rows


def check_products(X: Any, squares: np.ndarray) -> None:
    """Raise Failed if the squared length (n,) of a stack's row is not finite."""
    if isinstance(X, Stack) and not np.isfinite(squares).all():
        check_finite(X, 0, squares[:, None])


def check_finite(stack: Stack, first: int, rows: np.ndarray) -> None:
    """Raise Failed with the image's name if one of a stack's rows, from index `first` on, is not finite."""
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        more = f" (and {len(bad) - 1} rows after it)" if len(bad) > 1 else ""
        raise Failed(
            f"{stack.path}: the features of {shown(stack.paths[first + int(bad[0])])}{more} hold NaN, infinity or "
            "numbers too large. Delete the stack and extract again: "
            f"{stack.attrs['command']}"
        )


def column_blocks(X: Any) -> Iterator[np.ndarray]:
    """(n, up to COLUMNS) contiguous blocks of an array's or a stack's columns, in order."""
    _, width = shape(X)
    for start in range(0, width, COLUMNS):
        stop = min(start + COLUMNS, width)
        yield X.columns(start, stop) if isinstance(X, Stack) else np.ascontiguousarray(X[:, start:stop])


def row_chunks(X: Any) -> Iterator[np.ndarray]:
    """(k, width) pieces of an array's or a stack's rows, in order."""
    if isinstance(X, Stack):
        row = 0
        for piece in X.chunks():
            check_finite(X, row, piece)
            row += len(piece)
            yield piece
        return
    step = max(1, CHUNK_BYTES // max(1, X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        yield X[start : start + step]


def batches(
    X: Any, y: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and their labels in a new random order, 64 at a time, at most 256 MB of rows in memory.

    The order of blocks of neighbouring rows is random, and so is that of rows within each 256 MB of such blocks.
    A stack is sorted by class: without blocks far smaller than that, a batch would hold few classes.
    """
    size = int(np.prod(X.feature_shape)) * 4 if isinstance(X, Stack) else X[:1].nbytes
    pool = max(1, POOL_BYTES // size // BATCH) * BATCH
    starts = rng.permutation(np.arange(0, len(rows), BLOCK))
    order = np.concatenate([rows[start : start + BLOCK] for start in starts])
    for start in range(0, len(order), pool):
        held = np.sort(order[start : start + pool])
        inputs, targets = in_memory(X, held), y[held]
        shuffled = rng.permutation(len(held))
        for first in range(0, len(held), BATCH):
            batch = shuffled[first : first + BATCH]
            yield inputs[batch], targets[batch]


def in_memory(X: Any, rows: np.ndarray) -> np.ndarray:
    """Some rows of an array or a stack, by index, (k, …) as an array."""
    return np.asarray(X.take(rows).X).astype("<f4", copy=False) if isinstance(X, Stack) else np.asarray(X[rows])


def unit_centre(X: Any, root: bool = False) -> tuple[np.ndarray, float]:
    """Mean of rows scaled to unit length, (d,) float64, and their spread: the mean squared distance to it.

    The spread is 0 where it is no more than rounding.

    Args:
        X: (n, d) array or `Stack`.
        root: whether the rows are those of `signed_root`.

    Raises:
        Refused: a row holds NaN or infinity; one would make all of them NaN, and ReLU turns that into silent zeros.
    """
    total: Any = 0.0
    squares = 0.0
    for piece in row_chunks(X):
        rows = unit_rows(signed_root(piece) if root else piece)
        total += rows.sum(axis=0, dtype=np.float64)
        squares += float(np.einsum("ij,ij->", rows, rows, dtype=np.float64))
    if not np.isfinite(squares):
        raise Refused(
            f"{X.path if isinstance(X, Stack) else 'rows'}: a train row holds NaN or infinity. Extract again."
        )
    mean = total / shape(X)[0]
    spread = squares / shape(X)[0] - float(mean @ mean)
    return mean, spread if spread > ROUNDING else 0.0


def signed_root(X: np.ndarray) -> np.ndarray:
    """√|x| with the sign of x: power normalisation, which keeps a few large numbers from ruling a row's length."""
    rooted: np.ndarray = np.sign(X) * np.sqrt(np.abs(X))
    return rooted
