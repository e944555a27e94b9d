"""Stage one on a Dask cluster: workers read and compute blocks of rows, and this process alone writes them.

A worker keeps nothing but the compiled network, so a block that died with one is done again by another. It rebuilds
stage one from what the stack records, as `predict` does, and is refused where that would give other bits.
"""

import dataclasses
import json
import math
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from extract.compute.local import Compiled, Compute, Local, compile_recipe
from extract.compute.pipeline import Block, Done, Reasons, Writers, in_blocks, read_block, write_all
from extract.compute.rebuild import NOWHERE, StageOne, rebuild
from extract.images.dataset import Listing
from extract.network.engines import row_versions
from extract.recipe import Recipe
from features import Failed, Refused
from features.archive import open_source
from features.runtime.cli import KEPT
from features.runtime.cluster import all_fit, connect, other_versions
from features.runtime.errors import listed
from features.runtime.machine import use_only
from features.runtime.versions import installed
from features.schema import made_by
from features.source import CHANGING
from features.writer import StackWriter

TASK = 32  # rows a block at least, in whole batches: a scheduler passes a few hundred blocks a second (docs/scale.md)
STALLED = 30  # seconds without a result before it is asked whether there are workers at all
_one_at_a_time = Lock()


@contextmanager
def open_compute(dask: str | None, root: Path) -> Iterator["Local | Cluster"]:
    """Rows are computed here, or on the cluster that `--dask` names.

    Args:
        dask: see `extract`.
        root: the dataset's folder, which workers read from too.

    Raises:
        Refused, Failed: there is no such cluster, or one of its workers cannot take part; see `connect`.
    """
    if dask is None:
        yield Local()
        return
    with connect(dask) as client:
        all_fit(client, _unfit, row_versions(), str(root))
        yield Cluster(client)


class Cluster:
    """Rows are computed by the workers of a Dask cluster; see `Local`."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def compile(self, recipe: Recipe, compute: Compute, measure: bool) -> Compiled:
        """See `Local`. What one worker finds holds for all, or they refuse."""
        weights = str(Path(recipe.weights).resolve()) if Path(recipe.weights).is_file() else recipe.weights
        sent = dataclasses.replace(recipe, listing=NOWHERE, weights=weights)
        return next(computed(self.client, _compile, iter([(sent, compute, measure)]), 1))

    def fill(self, writers: Writers, recipe: Recipe, rows: np.ndarray, batch: int, done: Done) -> Reasons:
        """See `Local`; two blocks a thread of the cluster are in flight: one computed, one on its way."""
        writer = next(iter(writers.values()))  # any of them: they differ in the layer alone, and in rows that are done
        blocks = in_blocks(rows, batch * math.ceil(TASK / batch))
        made = json.dumps(made_by(writer.attrs) | {"versions": row_versions(recipe.is_onnx)})
        listing = recipe.listing

        def told(rows: np.ndarray) -> tuple[Any, ...]:
            paths = [writer.paths[row] for row in rows]
            nameless = listing.nameless.intersection(paths)
            return made, str(listing.root), paths, nameless, writer.view[rows], rows

        threads = sum(self.client.nthreads().values())
        # Every worker compiles before the clock starts, as one process does.
        list(computed(self.client, _ready, [(made, str(listing.root))] * threads, threads))
        blocks_done = computed(self.client, _block, map(told, blocks), 2 * threads)
        return write_all(writers, recipe, (_seen_alike(writer, listing, *each) for each in blocks_done), done)

    def report_changing(self, paths: list[str]) -> None:
        """See `Local`.

        Raises:
            Failed: always, since the workers may read other files than this process.
        """
        raise Failed(
            f"workers read other bytes of {listed(paths)} than are here, twice: all must see the same images in the "
            f"same place. If they are being written, wait until that is done; {KEPT}"
        )


def computed(client: Any, function: Callable[..., Any], items: Iterable[tuple[Any, ...]], depth: int) -> Iterator[Any]:
    """Yield `function(*item)` of every item as the workers finish it; at most `depth` are in flight.

    Raises:
        Failed: there are no workers any more, or the scheduler is gone, or several died over one item.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, wait

    waiting: set[Any] = set()
    left = iter(items)
    try:
        while True:
            waiting |= {client.submit(function, *item, pure=False) for item in islice(left, depth - len(waiting))}
            if not waiting:
                return
            try:
                ready, waiting = wait(waiting, timeout=STALLED, return_when="FIRST_COMPLETED")
            except TimeoutError:
                if not client.scheduler_info()["workers"]:
                    raise Failed(f"no workers are left. Start some; {KEPT}") from None
                continue
            yield from client.gather(list(ready))  # all at once: a call for each is a round trip for each
    except KilledWorker as error:
        raise Failed(f"worker after worker died over the same images, for want of memory perhaps ({error})") from None
    except CancelledError:
        raise Failed(f"the scheduler is gone; {KEPT}") from None


def _seen_alike(
    writer: StackWriter, listing: Listing, block: Block, layers: list[np.ndarray]
) -> tuple[Block, list[np.ndarray]]:
    """Check that a worker failed to read an image only if this process cannot read it either.

    Raises:
        Failed: the workers see another folder.
    """
    for row in block.rows[block.stats["size"] < 0].tolist():  # no byte of these was read
        path, reason = writer.paths[row], block.reasons[row]
        if reason != CHANGING and path not in listing.nameless and listing.source.is_readable(path):
            raise Failed(
                f"a worker cannot read {listing.root / path} ({reason}), and this process can: all must see the images "
                f"in the same place; {KEPT}"
            )
    return block, layers


def _unfit(writers: dict[str, str], root: str) -> str:
    """Why this worker cannot take part; empty where it can."""
    if open_source(root).exists():
        return other_versions(writers, installed(writers))
    return f"no {root} there: workers read the images from where the writer does, so share or mount it"


def _compile(recipe: Recipe, compute: Compute, measure: bool) -> Compiled:
    with _one_at_a_time:
        _use_own_threads()
        return compile_recipe(recipe, compute, measure)[0]


def _ready(made: str, root: str) -> None:
    _compiled(made, root)


def _block(
    made: str, root: str, paths: list[str], nameless: frozenset[str], view: np.ndarray, rows: np.ndarray
) -> tuple[Block, list[np.ndarray]]:
    """A block from `read_block` without its pixels, and its features, (k, width) float32 of each layer."""
    stage = _compiled(made, root)
    listing = dataclasses.replace(NOWHERE, root=Path(root), nameless=nameless)
    block = read_block(dataclasses.replace(stage.recipe, listing=listing), paths, view, rows)
    return block._replace(images=block.images[:0]), stage.layers(block.images)


def _compiled(made: str, root: str) -> StageOne:
    """This worker's one network, which its threads share."""
    with _one_at_a_time:
        try:
            return _stage(made, root)
        except Failed as error:
            raise type(error)(f"worker on {socket.gethostname()}: {error}") from None


@lru_cache(maxsize=1)
def _stage(made: str, root: str) -> StageOne:
    described = json.loads(made)
    if why := _unfit(described["versions"], root):  # a worker that came later
        raise Refused(why)
    _use_own_threads()
    return rebuild(described, exactly=True)


def _use_own_threads() -> None:
    """Limit this process to the worker's threads. TensorFlow reads the limit once, when Keras is imported."""
    from distributed import get_worker

    threads = get_worker().state.nthreads
    use_only(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
