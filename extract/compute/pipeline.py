"""Decode, forward and write at the same time, with a bounded number of blocks in between."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np

from extract.compute.remarks import Remarks
from extract.images.colour import RANGE, Range
from extract.images.decode import has_pages
from extract.recipe import Recipe
from features.runtime.machine import cores
from features.schema import STATES
from features.source import Unreadable
from features.writer import StackWriter, consecutive

R = TypeVar("R")
Layers = Callable[[np.ndarray], list[np.ndarray]]  # (k, side, side, 3) uint8 → (k, width) float32 of each layer
Writers = Mapping[int, StackWriter]  # which layer → its unfinished stack; all have the same rows
Reasons = dict[int, dict[int, str]]  # which layer → row → why it was rejected
Done = Callable[[int], object]  # told the number of rows of each block once it is written


class Block(NamedTuple):
    """Rows on their way through the pipeline."""

    rows: np.ndarray  # (k,) increasing
    images: np.ndarray  # (k, side, side, 3) uint8; black where unreadable
    stats: dict[str, np.ndarray]  # sha256 (k, 32), size (k,), mtime_ns (k,) of the files
    reasons: dict[int, str]  # row → why its image is unreadable
    paged: list[str]  # paths of images with several pages or frames
    ranges: dict[str, Range]  # path → range of the samples of an image of more than 8 bits


def fill(
    writers: Writers,
    recipe: Recipe,
    blocks: Iterable[np.ndarray],
    forward: Layers,
    done: Done,
    lanes: int = 1,
) -> Reasons:
    """Compute blocks of rows and write them.

    A row's bits do not depend on its place in a block (`compile_forward`), so missing rows are gathered from anywhere.

    Args:
        writers: the unfinished stacks; a row is written to those that miss it.
        recipe: where the images are, and how the base sees them.
        blocks: the rows to compute, increasing, at most `batch` in each.
        forward: the compiled function.
        done: called with the number of rows of each block once it is written.
        lanes: calls of `forward` that may run at once.

    Returns:
        the rows that were rejected, and why.
    """
    any_of_them = next(iter(writers.values()))

    def read(rows: np.ndarray) -> Block:
        return read_block(recipe, [any_of_them.paths[row] for row in rows], any_of_them.view[rows], rows)

    def compute(block: Block) -> tuple[Block, list[np.ndarray]]:
        return block, forward(block.images)

    with ThreadPoolExecutor(cores()) as readers, ThreadPoolExecutor(lanes) as lane:
        decoded = ahead(readers, read, ((rows,) for rows in blocks), depth=cores() + 1)
        return write_all(writers, recipe, ahead(lane, compute, ((block,) for block in decoded), depth=lanes + 1), done)


def in_blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows, `size` at a time; the last block may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def write_all(
    writers: Writers, recipe: Recipe, computed: Iterable[tuple[Block, list[np.ndarray]]], done: Done
) -> Reasons:
    """Write blocks, in whatever order they come, while the next ones are computed.

    Args:
        writers, recipe: see `fill`.
        computed: blocks and their features, (k, width) float32 of each layer.
        done: see `fill`.

    Returns:
        see `fill`.
    """
    rejected: Reasons = {layer: {} for layer in writers}
    remarks = Remarks(recipe)
    clock = time.perf_counter()

    def write(block: Block, layers: list[np.ndarray]) -> int:
        nonlocal clock
        now = time.perf_counter()
        for layer, writer in writers.items():
            rejected[layer] |= _write(writer, recipe, block, layers[layer], now - clock)
        clock = now
        remarks.add(block.paged, block.ranges)
        return len(block.rows)

    with ThreadPoolExecutor(1) as lane:
        for rows in ahead(lane, write, computed, depth=2):
            done(rows)
    remarks.tell()
    return rejected


def _write(writer: StackWriter, recipe: Recipe, block: Block, features: np.ndarray, seconds: float) -> dict[int, str]:
    """Write those rows of a block that a stack misses; returns row → why it was rejected."""
    features, unfit = recipe.stored(features)
    reasons = {int(block.rows[i]): why for i, why in unfit.items()} | block.reasons
    bad = np.isin(block.rows, list(reasons))
    missing = np.flatnonzero(writer.row_state[block.rows] != STATES["done"])
    for run in consecutive(block.rows[missing]):
        here = slice(missing[run.start], missing[run.stop - 1] + 1)
        stats = {name: values[here] for name, values in block.stats.items()}
        writer.write(int(block.rows[here.start]), features[here], stats, bad[here], seconds)
        seconds = 0.0
    return {row: reasons[row] for row in block.rows[missing].tolist() if row in reasons}


def read_block(recipe: Recipe, paths: list[str], view: np.ndarray, rows: np.ndarray) -> Block:
    """Read and decode the images of rows, an image with several views once.

    Args:
        recipe: where the images are, and how the base sees them.
        paths: (k,) of the rows.
        view: (k,) of the rows.
        rows: (k,) their numbers.
    """
    count = len(paths)
    images = np.zeros((count, recipe.size, recipe.size, 3), "u1")
    stats = {
        "sha256": np.zeros((count, 32), "u1"),
        "size": np.full(count, -1, "<i8"),
        "mtime_ns": np.full(count, -1, "<i8"),
    }
    reasons: dict[int, str] = {}
    paged: list[str] = []
    ranges: dict[str, Range] = {}
    source = recipe.listing.source
    for path, group in groupby(range(count), paths.__getitem__):
        views = list(group)
        try:
            if path in recipe.listing.nameless:
                raise Unreadable("its name is not UTF-8: rename it")
            file = source.read(path)
            stats["sha256"][views], stats["size"][views], stats["mtime_ns"][views] = (
                file.sha256,
                file.size,
                file.mtime_ns,
            )
            image = recipe.open(file.data)
            for i in views:
                images[i] = recipe.pixels(image, file.sha256, int(view[i]))
            if has_pages(file.data):
                paged.append(path)
            if isinstance(used := image.info.get(RANGE), Range):  # a PNG may have a text of that name
                ranges[path] = used
        except Unreadable as error:
            reasons |= {int(rows[i]): str(error) for i in views}
    return Block(rows, images, stats, reasons, paged, ranges)


def ahead(executor: Executor, function: Callable[..., R], items: Iterable[tuple[Any, ...]], depth: int) -> Iterator[R]:
    """Yield `function(*item)` of every item, in order; at most `depth` are in flight."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(executor.submit(function, *item))
        if len(begun) >= depth:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
