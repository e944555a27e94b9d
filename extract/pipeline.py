"""Decode, forward and write at the same time, with a bounded number of blocks in between."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np

from extract.image import Unreadable, read_file
from extract.recipe import Recipe
from features.writer import StackWriter

R = TypeVar("R")
Rows = Callable[[np.ndarray], np.ndarray]  # (k, side, side, 3) uint8 → (k, width) float32


class Block(NamedTuple):
    """Consecutive rows on their way through the pipeline."""

    start: int
    images: np.ndarray  # (k, side, side, 3) uint8; black where unreadable
    stats: dict[str, np.ndarray]  # sha256 (k, 32), size (k,), mtime_ns (k,) of the files
    reasons: dict[int, str]  # row → why its image is unreadable


def fill(
    writer: StackWriter,
    recipe: Recipe,
    starts: Iterable[int],
    forward: Rows,
    batch: int,
    cores: int,
    done: Callable[[int], object],
    lanes: int = 1,
) -> dict[int, str]:
    """Compute blocks of rows and write them.

    A block is always the same rows in the same places, so that a resumed run gives bit-identical features.

    Args:
        writer: the unfinished stack.
        recipe: where the images are, and how the base sees them.
        starts: first row of each block to compute; a block is `batch` rows long, the last one shorter.
        forward: the compiled function.
        batch: rows a block.
        cores: threads that decode.
        done: called with the number of rows of each block once it is written.
        lanes: calls of `forward` that may run at once.

    Returns:
        row → reason, of the rows rejected.
    """
    rejected: dict[int, str] = {}
    clock = time.perf_counter()

    def read(start: int) -> Block:
        here = slice(start, min(start + batch, len(writer.paths)))
        return read_block(recipe, writer.paths[here], writer.view[here], start)

    def write(block: Block, features: np.ndarray) -> int:
        nonlocal clock
        for row in np.flatnonzero(~np.isfinite(features).all(1)):
            block.reasons.setdefault(block.start + int(row), "its features are not finite (NaN or infinity)")
        now = time.perf_counter()
        bad = np.isin(np.arange(block.start, block.start + len(features)), list(block.reasons))
        writer.write(block.start, features, block.stats, bad, now - clock)
        clock = now
        rejected.update(block.reasons)
        return len(features)

    def compute(block: Block) -> tuple[Block, np.ndarray]:
        return block, forward(block.images)

    with ThreadPoolExecutor(cores) as readers, ThreadPoolExecutor(lanes) as lane, ThreadPoolExecutor(1) as writers:
        blocks = ahead(readers, read, ((start,) for start in starts), depth=cores + 1)
        computed = ahead(lane, compute, ((block,) for block in blocks), depth=lanes + 1)
        for rows in ahead(writers, write, computed, depth=2):
            done(rows)
    return rejected


def read_block(recipe: Recipe, paths: list[str], view: np.ndarray, start: int) -> Block:
    """Read and decode the images of consecutive rows, an image with several views once.

    Args:
        recipe: where the images are, and how the base sees them.
        paths: (k,) of the rows.
        view: (k,) of the rows.
        start: index of the first row.
    """
    count = len(paths)
    images = np.zeros((count, recipe.size, recipe.size, 3), "u1")
    stats = {
        "sha256": np.zeros((count, 32), "u1"),
        "size": np.full(count, -1, "<i8"),
        "mtime_ns": np.full(count, -1, "<i8"),
    }
    reasons: dict[int, str] = {}
    for path, group in groupby(range(count), paths.__getitem__):
        rows = list(group)
        try:
            file = read_file(recipe.listing.root / path)
            stats["sha256"][rows], stats["size"][rows], stats["mtime_ns"][rows] = file.sha256, file.size, file.mtime_ns
            image = recipe.open(file.data)
            for i in rows:
                images[i] = recipe.pixels(image, file.sha256, int(view[i]))
        except Unreadable as error:
            reasons |= {start + i: str(error) for i in rows}
    return Block(start, images, stats, reasons)


def ahead(executor: Executor, function: Callable[..., R], items: Iterable[tuple[Any, ...]], depth: int) -> Iterator[R]:
    """`function(*item)` of every item, in order, with at most `depth` of them begun and not yet taken."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(executor.submit(function, *item))
        if len(begun) >= depth:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
