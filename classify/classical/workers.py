"""`Passes` over rows that the workers of a Dask cluster read, each its own part; only sums come back.

A worker opens the stack's files by the same paths. If it dies, another opens its part, and that pass is done again.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from classify.classical.losses import Loss
from classify.classical.passes import Passes, Rows, Sums
from classify.fusion import SideBySide
from classify.rows import shape
from features import Failed, Refused, Stack, open_stack
from features.shards import EndToEnd

_cluster: ContextVar[Any] = ContextVar("cluster", default=None)
_rows_here: dict[str, Rows] = {}  # of a worker: its parts of the last stack

BACK = 30  # seconds that workers have to come back where all have died


class Part(NamedTuple):
    """Some rows of one file.

    Attributes:
        token: names it.
        path: of the file.
        rows: (m,) indices in the file, in order.
        codes: (m,) classes.
        start: index of the first among all rows.
    """

    token: str
    path: str
    rows: np.ndarray
    codes: np.ndarray
    start: int

    @property
    def here(self) -> slice:
        """Its places among all rows."""
        return slice(self.start, self.start + len(self.rows))


@contextmanager
def on_workers(client: Any) -> Iterator[None]:
    """`passes_over` spreads its rows over a cluster meanwhile; None for this machine."""
    before = _cluster.set(client)
    try:
        yield
    finally:
        _cluster.reset(before)


def passes_over(X: Any, codes: np.ndarray) -> Passes:
    """Passes over rows (n, d) of classes (n,): here, or where `on_workers` says."""
    client = _cluster.get()
    alone = client is None or not isinstance(X, Stack) or isinstance(X, SideBySide)
    return Rows(X, codes) if alone else OnWorkers(client, X, codes)


class OnWorkers:
    """`Passes` over a stack's rows, in as many parts as there are workers, or as it has shards.

    Args:
        client: of the cluster.
        stack: (n,) rows.
        codes: (n,) int64 classes 0…k−1.

    Raises:
        Refused: a worker cannot open a file; the message names both.
    """

    def __init__(self, client: Any, stack: Stack, codes: np.ndarray) -> None:
        self.codes, self.shape = codes, shape(stack)
        self._client = client
        self._parts = _divided(stack, codes, len(client.scheduler_info()["workers"]))
        self._ask(_opened, [() for _ in self._parts])  # so that a worker that cannot see its part is named now

    def sums(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> Sums:
        """See `Passes`."""
        every = self._ask(_sums, [(loss, coef, intercept, weights[part.here]) for part in self._parts])
        return Sums(*(sum(each[i] for each in every) for i in range(3)))

    def curvature(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        every = self._ask(_curvature, [(loss, coef, intercept, weights[part.here]) for part in self._parts])
        return np.asarray(sum(every))

    def scores(self, coef: np.ndarray, intercept: np.ndarray, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        return np.concatenate(self._ask(_scores, [(coef, intercept, self._own(which, part)) for part in self._parts]))

    def sample(self, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        return np.concatenate(self._ask(_sample, [(self._own(which, part),) for part in self._parts]))

    def coordinates(self, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        return np.concatenate(self._ask(_coordinates, [(mean, basis) for _ in self._parts]))

    def _own(self, which: np.ndarray, part: Part) -> np.ndarray:
        low, high = np.searchsorted(which, [part.here.start, part.here.stop])
        return which[low:high] - part.start

    def _ask(self, what: Callable[..., Any], given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What each part answers, in order; its rows stay with one worker as long as that lives."""
        from distributed import KilledWorker

        try:  # those that died are mostly started again
            self._client.wait_for_workers(1, timeout=BACK)
        except TimeoutError:
            raise Failed("the cluster has no workers left. Start some and run the same command again") from None
        workers = sorted(self._client.scheduler_info()["workers"])
        asked = [
            self._client.submit(
                what, part, *args, workers=[workers[i % len(workers)]], allow_other_workers=True, pure=False
            )
            for i, (part, args) in enumerate(zip(self._parts, given, strict=True))
        ]
        try:
            return list(self._client.gather(asked))
        except KilledWorker as error:
            raise Failed(f"workers died again and again over the same rows ({error})") from None


def _divided(stack: Stack, codes: np.ndarray, workers: int) -> list[Part]:
    """A stack's rows file by file, each file's in equal parts, so that there is one for every worker."""
    owned = [(stack.path, stack.rows)]
    if isinstance(stack, EndToEnd):
        ends = np.cumsum([len(shard) for shard in stack.parts])
        of = np.searchsorted(ends, stack.rows, side="right")
        owned = [(shard.path, stack.rows[of == i] - (ends[i] - len(shard))) for i, shard in enumerate(stack.parts)]
    each = -(-workers // len(owned))
    token, start = uuid.uuid4().hex, 0
    parts: list[Part] = []
    for path, rows in owned:
        for some in np.array_split(rows, each):
            if len(some):
                name = f"{token}-{len(parts)}"
                parts.append(Part(name, str(path.resolve()), some, codes[start : start + len(some)], start))
                start += len(some)
    return parts


def _opened(part: Part) -> Any:
    _rows_of(part)


def _sums(part: Part, *given: Any) -> Sums:
    return _rows_of(part).sums(*given)


def _curvature(part: Part, *given: Any) -> np.ndarray:
    return _rows_of(part).curvature(*given)


def _scores(part: Part, coef: np.ndarray, intercept: np.ndarray, which: np.ndarray) -> np.ndarray:
    return _rows_of(part).scores(coef, intercept, which)


def _sample(part: Part, which: np.ndarray) -> np.ndarray:
    return _rows_of(part).sample(which)


def _coordinates(part: Part, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return _rows_of(part).coordinates(mean, basis)


def _rows_of(part: Part) -> Rows:
    """A part's rows on this worker, opened once; those of stacks before go."""
    if part.token not in _rows_here:
        stack_of = part.token.partition("-")[0]
        for other in [token for token in _rows_here if not token.startswith(stack_of)]:
            del _rows_here[other]
        from distributed import get_worker

        worker = get_worker()
        threads = worker.state.nthreads  # workers of one machine share its cores
        try:
            _rows_here[part.token] = Rows(open_stack(part.path).take(part.rows), part.codes, threads=threads)
        except (Refused, Failed) as error:
            raise Refused(f"worker {worker.address} cannot open its rows: {error}") from None
    return _rows_here[part.token]
