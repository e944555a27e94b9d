"""A smaller stack of the same rows: pooled over all positions, perhaps as float16."""

import time
from pathlib import Path

import numpy as np

from features.compression import rounded
from features.layout import lay_out, layout_path, partial_path
from features.open import open_stack
from features.reader import Stack, pool_rows
from features.runtime.disk import publish
from features.runtime.errors import Refused
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.schema import STORES
from features.writer import StackWriter


def pool(stack: str, pool: str = "avg", store: str = "f32", out: str | None = None) -> Path:
    """Write a stack of the same rows, pooled: what `extract --pool` would have made, to the last bit.

    Images, labels, splits, groups and rejects are carried over. The rows are read once, and few are in memory.

    Args:
        stack: the HDF5 file, of rows that are not pooled.
        pool: avg or max over all positions, or cls, the class token of rows of tokens.
        store: type of the stored rows: f32, or f16.
        out: the file to write; by default the stack's name with -avg, -max or -cls before .h5.

    Returns:
        the path that was written.

    Raises:
        Refused: the rows are pooled or flat already, or float16 cannot hold them; or out is the stack itself.
        Failed: a row of the stack is damaged, or the disk is full.
    """
    source, began = open_stack(stack), time.perf_counter()
    if store not in STORES:
        raise Refused(f"no type of stored rows is called {store!r}; there are {', '.join(STORES)}")
    source.take(np.arange(0)).pooled(pool)  # refuses what cannot be pooled so
    if "pool" in source.attrs:
        raise Refused(f"{stack} holds rows that are pooled ({source.attrs['pool']}) already")
    ending = f"-{pool}.h5" if store == "f32" else f"-{pool}-{store}rows.h5"
    target = Path(out) if out else source.path.with_name(source.path.stem + ending)
    if target.exists() and target.samefile(source.path):
        raise Refused(f"pooled rows cannot be undone, which {stack} would lose for good: name another file with --out")
    with writer_lock(target):
        try:
            _write(source, target, pool, store)
        except BaseException:
            partial_path(target).unlink(missing_ok=True)
            raise
    before, after = source.path.stat().st_size, target.stat().st_size
    seconds = time.perf_counter() - began
    log.info(f"{len(source)} rows in {seconds:.1f} s, {before / 1e6:,.1f} MB became {after / 1e6:,.1f} MB")
    return target


def _write(source: Stack, target: Path, pool: str, store: str) -> None:
    command = source.attrs["command"]
    words = f"{command} --pool {pool}{'' if store == 'f32' else f' --store {store}'} --out {target}"
    attrs = {name: value for name, value in source.attrs.items() if name not in ("feature_shape", "rounding_error")}
    attrs |= {"pool": pool, "dtype": np.dtype(STORES[store]).name, "command": words}
    for name in ("format", "format_version"):
        attrs.pop(name)
    known = {"paths": source.paths, "labels": source.y, "view": source.view}
    if source.groups is not None:
        known["group"] = source.groups
    if source.copies is not None:
        known["copies"] = source.copies
    lay_out(
        layout_path(target),
        known,
        source.label_names,
        source.feature_shape[-1:],
        attrs,
        source.rejects,
        source.corrections,
    )
    publish(layout_path(target), partial_path(target))
    stats = {name: source.field(name) for name in ("sha256", "size", "mtime_ns")}
    with StackWriter(target) as writer:
        row, seconds = 0, source.extract_seconds
        for piece in source.chunks():
            rows = pool_rows(piece, source.feature_shape, pool)
            if store == "f16":
                rounded(rows, source, row)
            here = slice(row, row + len(rows))
            part = {name: values[here] for name, values in stats.items()}
            writer.write(row, rows, part, np.zeros(len(rows), bool), seconds)
            row, seconds = here.stop, 0.0
        writer.finish(source.split, {})
