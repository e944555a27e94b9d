"""Nearest rows by cosine, exact, and copies of images that only look a little different."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from features.reader import Stack
from features.runtime.progress import progress

BLOCK = 4096  # rows that are compared together: wide enough for BLAS, 16 MB of cosines with as many others at most
FEW = 50  # rows: of fewer, no distribution of distances can be told
STRICT = 4.0  # of 180 photos of three classes, 2.5 deviations took five pairs for copies that are none
SAME = 1 - 1e-6  # cosine of equal rows, but for rounding


class Nearest(NamedTuple):
    """The k nearest rows of each query, nearest first; rows of equal cosine in their order.

    Attributes:
        rows: (q, k) int64; −1 where there are fewer rows.
        cosines: (q, k) float32; −2 there.
    """

    rows: np.ndarray
    cosines: np.ndarray


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows (n, d) scaled to unit length, as scikit-learn's `Normalizer` does; rows of zeros stay.

    float16 becomes float32.
    """
    X = X.astype(np.promote_types(X.dtype, np.float32), copy=False)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    scaled: np.ndarray = X / np.where(lengths == 0, 1, lengths)[:, None].astype(X.dtype)
    return scaled


def unit_pieces(stack: Stack, pool: str) -> Iterator[np.ndarray]:
    """The rows of a stack, pooled or `flatten`, of unit length, in (m, d) pieces that fit into memory."""
    step = max(1, (64 << 20) // (4 * int(np.prod(stack.feature_shape))))
    for start in range(0, len(stack), step):
        some = stack.take(np.arange(start, min(start + step, len(stack))))
        yield unit_rows(pooled(some, pool))


def pooled(stack: Stack, pool: str) -> np.ndarray:
    """(n, d) float32 rows; of rows without positions there is nothing to pool."""
    if pool == "flatten" or len(stack.feature_shape) == 1:
        return np.concatenate([np.empty((0, int(np.prod(stack.feature_shape))), "<f4"), *stack.chunks()])
    return stack.pooled(pool)


def nearest(pieces: Iterable[np.ndarray], queries: np.ndarray, k: int, own: np.ndarray | None = None) -> Nearest:
    """Compare queries with all rows, piece after piece.

    Args:
        pieces: (m, d) float32 rows of unit length, in order.
        queries: (q, d) float32, likewise.
        k: how many.
        own: (q,) the row that each query is itself, which is left out.
    """
    rows = np.full((len(queries), k), -1, np.int64)
    cosines = np.full((len(queries), k), -2, np.float32)
    first = 0
    for piece in pieces:
        here = queries @ piece.T
        if own is not None:
            among = np.flatnonzero((own >= first) & (own < first + len(piece)))
            here[among, own[among] - first] = -2
        better = np.flatnonzero(here.max(axis=1, initial=-2) > cosines[:, -1])  # the others stay as they are
        if len(better):
            rows[better], cosines[better] = _merged(rows[better], cosines[better], here[better], first)
        first += len(piece)
    rows[cosines == -2] = -1
    return Nearest(rows, cosines)


def _merged(rows: np.ndarray, cosines: np.ndarray, here: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k of those so far and of a piece's cosines (q, m), whose first row is `first`."""
    k = rows.shape[1]
    some = min(k, here.shape[1])
    best = np.argpartition(-here, some - 1, axis=1)[:, :some]
    every = np.hstack([rows, best + first])
    values = np.hstack([cosines, np.take_along_axis(here, best, axis=1)])
    order = np.lexsort((every, -values), axis=1)[:, :k]
    return np.take_along_axis(every, order, axis=1), np.take_along_axis(values, order, axis=1)


def nearest_of_all(rows: np.ndarray, k: int) -> Nearest:
    """The k nearest other rows of each of (n, d) float32 rows of unit length: n² d products."""
    found = []
    with progress(total=len(rows), unit="rows") as bar:
        for start in range(0, len(rows), BLOCK):
            own = np.arange(start, min(start + BLOCK, len(rows)))
            found.append(nearest((rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK)), rows[own], k, own))
            bar.update(len(own))
    return Nearest(np.concatenate([each.rows for each in found]), np.concatenate([each.cosines for each in found]))


def copy_threshold(cosines: np.ndarray) -> float:
    """The cosine from which two images count as near copies, from that of each with its nearest (n,).

    The distances of images to their nearest, 1 − cosine, are about log-normal. Copies only make some of them smaller,
    so the distribution is read off its middle and its far side. The threshold is STRICT deviations below the middle,
    or where one of n distances would lie by chance, if that is stricter. `python -m benchmarks.audit` plants copies and
    says how many are found.
    """
    from statistics import NormalDist

    n = len(cosines)
    if n < FEW:
        return SAME
    distances = np.log(np.maximum(1 - cosines.astype(np.float64), 1e-7))
    middle, far = np.quantile(distances, [0.5, 0.8413])
    deviations = max(STRICT, NormalDist().inv_cdf(1 - 1 / n))
    return min(SAME, float(1 - np.exp(middle - deviations * (far - middle))))


def copy_groups(found: Nearest, threshold: float) -> list[np.ndarray]:
    """Groups of rows that are near copies of each other, directly or by way of others; the largest cosine first."""
    leader = np.arange(len(found.rows))

    def lead(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    best: dict[int, float] = {}
    pairs = np.argwhere(found.cosines >= threshold)
    for row, place in pairs.tolist():
        leader[lead(row)] = lead(int(found.rows[row, place]))
    for row, place in pairs.tolist():
        group = lead(row)
        best[group] = max(best.get(group, -2.0), float(found.cosines[row, place]))
    members: dict[int, list[int]] = {}
    for row in np.unique(pairs[:, 0]).tolist():
        members.setdefault(lead(row), []).append(row)
        other = int(found.rows[row, 0])  # reached from here, even where it does not reach back
        members[lead(row)].append(other)
    order = sorted(members, key=lambda group: (-best[group], min(members[group])))
    return [np.unique(members[group]) for group in order]
