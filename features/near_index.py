"""An index of a stack's rows beside it, for stacks of which every row cannot be read for each question.

It is a graph of neighbours (HNSW, Malkov and Yashunin, 2018) over pooled rows rounded to 8 bits, made by usearch. It
finds a few candidates, whose cosines are then computed exactly. Images are known to it by their bytes, so it follows a
stack whose images come and go.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from features.nearest import Nearest, nearest, pooled, unit_rows
from features.reader import Stack
from features.runtime.disk import write_json
from features.runtime.errors import Failed, Refused
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.runtime.machine import cores
from features.runtime.progress import progress
from features.schema import recipe_attrs

CANDIDATES = 10  # for each neighbour that is asked for; at least …
FEWEST = 100
SETTINGS = {"metric": "cos", "dtype": "i8", "connectivity": 16, "expansion_add": 64}
LOOKED_AT = (
    2048  # nodes of the graph that a question looks at; `python -m benchmarks.near` says what it finds with these
)
BLOCK = 4096  # rows that are added together


def index_path(stack: Stack) -> Path:
    """Where the index of a stack lies; what it is of stands beside it, in a JSON file."""
    return stack.path.with_name(stack.path.name + ".near")


def build(images: Stack, pool: str) -> None:
    """Make the index, or bring it up to date: only images that it lacks are read.

    Args:
        images: all images of a stack, no views.
        pool: how rows are pooled.

    Raises:
        Refused: usearch is not installed.
        Failed: the disk is full.
    """
    path, about = index_path(images), _about(images, pool)
    with writer_lock(path):
        there = _described(images)
        index = _usearch().Index(ndim=about["width"], **SETTINGS)
        if there and there["recipe"] == about["recipe"]:
            try:
                index.load(str(path))
            except RuntimeError as error:
                log.info(f"{path} is damaged ({error}) and is made anew")
                index = _usearch().Index(ndim=about["width"], **SETTINGS)
        keys = _keys(images)
        have = np.array(list(index.keys), np.uint64)
        gone = np.setdiff1d(have, keys)
        first = np.unique(keys, return_index=True)[1]  # copies byte for byte are one to it
        new = np.sort(first[~np.isin(keys[first], have)])
        if len(gone):
            index.remove(gone)
        with progress(total=len(new), unit="images") as bar:
            for start in range(0, len(new), BLOCK):
                some = new[start : start + BLOCK]
                index.add(keys[some], unit_rows(pooled(images.take(some), pool)), threads=cores())
                bar.update(len(some))
        fresh = path.with_name(path.name + ".layout")
        try:
            index.save(str(fresh))
            if fresh.stat().st_size < index.serialized_length:  # usearch does not say so
                raise Failed(f"cannot write {path}: the disk is full, over its quota, or limits a file's size")
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        write_json(_beside(path), about)
    log.info(f"{path}: {len(new):,} images added, {len(gone):,} removed, {path.stat().st_size / 1e6:,.0f} MB")


def is_current(images: Stack, pool: str) -> bool:
    """Whether there is an index of just these images, pooled so; one of others is told of."""
    there = _described(images)
    if there is None or there == _about(images, pool):
        return there is not None
    log.info(
        f"{index_path(images)} is of other images or another pooling: every row is read. --index brings it up to date"
    )
    return False


def search(images: Stack, queries: np.ndarray, k: int, own: np.ndarray, pool: str) -> Nearest:
    """The k nearest images of each query among the candidates that the index finds, by exact cosine.

    Args:
        images: those that the index is of.
        queries: (q, d) float32 of unit length.
        k: how many.
        own: (q,) which image each query is, −1 for none.
        pool: how rows are pooled.
    """
    try:
        index = _usearch().Index.restore(str(index_path(images)), view=True)
    except RuntimeError as error:
        raise Failed(f"{index_path(images)} is damaged ({error}). --index makes it anew") from None
    index.expansion_search = LOOKED_AT
    keys = _keys(images)
    order = np.argsort(keys, kind="stable")
    found = index.search(queries, min(len(index), max(FEWEST, CANDIDATES * k)))
    candidates = np.atleast_2d(found.keys)
    rows, cosines = [], []
    for query, mine, one in zip(queries, candidates, own.tolist(), strict=True):
        first, last = (np.searchsorted(keys, mine, side, sorter=order) for side in ("left", "right"))
        some = np.sort(np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)]))
        place = np.searchsorted(some, one) if one in some else -1
        exact = nearest([unit_rows(pooled(images.take(some), pool))], query[None], k, np.array([place]))
        rows.append(np.where(exact.rows[0] >= 0, some[exact.rows[0]], -1))
        cosines.append(exact.cosines[0])
    return Nearest(np.stack(rows), np.stack(cosines))


def _about(images: Stack, pool: str) -> dict[str, Any]:
    """What an index is of: the rows' recipe and pooling, and just which images."""
    flat = pool == "flatten" or len(images.feature_shape) == 1
    width = int(np.prod(images.feature_shape)) if flat else images.feature_shape[-1]
    text = json.dumps([recipe_attrs(images.attrs), pool, SETTINGS], sort_keys=True)
    return {"recipe": hashlib.sha256(text.encode()).hexdigest(), "pool": pool, "width": width, "key": images.key}


def _described(images: Stack) -> dict[str, Any] | None:
    path = index_path(images)
    try:
        return dict(json.loads(_beside(path).read_text("utf-8"))) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _keys(images: Stack) -> np.ndarray:
    """(n,) uint64, the first 8 bytes of each image's hash."""
    return np.ascontiguousarray(images.field("sha256")[:, :8]).view("<u8")[:, 0].astype(np.uint64)


def _usearch() -> Any:
    try:
        from usearch import index
    except ImportError:
        raise Refused("an index needs usearch: pip install -e '.[near]'") from None
    return index
