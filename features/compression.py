"""Rewrite a stack to take less room: `features` in checked, compressed chunks that any HDF5 library unpacks."""

import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from features.check import damaged_rows
from features.hdf5 import NewHDF5, open_hdf5
from features.layout import ALIGNMENT, HDF5_OWN, check_space, layout_path
from features.open import open_stack
from features.reader import Stack
from features.runtime.disk import publish, sync
from features.runtime.errors import Failed, Refused, shown
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.runtime.machine import cores
from features.schema import row_crc32, row_fields
from features.shards import EndToEnd
from features.validate import FEW, OPTIONAL_DATA

CHUNK = (64, 4096)  # rows, columns: 1 MB of float32, so that neither a few rows nor a few columns unpack everything
MOST_LOST = 1e-3  # of a row's length, in float16: rounding to eleven digits alone loses half of that at most


def compress(stack: str, out: str | None = None, float16: bool = False, level: int = 4) -> Path:
    """Rewrite a finished stack in compressed chunks: shuffle, gzip, and a Fletcher-32 checksum on each.

    Whatever reads stacks reads it as before. The new file is read once more and compared with its checksums before it
    takes its name.

    Args:
        stack: the HDF5 file.
        out: the file to write; by default the stack itself is replaced.
        float16: store rows as float16, rounded to eleven binary digits; needs another file to write, as digits go. The
            largest relative error of a row is printed, and recorded as `rounding_error`.
        level: of gzip, from 1 (fast) to 9 (small).

    Returns:
        the path that was written.

    Raises:
        Refused: float16 without another file, numbers that float16 cannot hold, or no such level.
        Failed: a row of the stack is damaged, or the disk is full; what was there stays.
    """
    if level not in range(1, 10):
        raise Refused(f"--level {level}: gzip takes 1 to 9")
    target, began = Path(out or stack), time.perf_counter()
    fresh, source = layout_path(target), open_stack(stack)
    if isinstance(source, EndToEnd):
        raise Refused(f"{stack} names several stacks: compress each of them")
    if float16 and (target.exists() and target.samefile(source.path)):
        raise Refused(f"--float16 drops digits, which {stack} would lose for good: name another file with --out FILE")
    with writer_lock(target):
        source = open_stack(stack)  # again: until now it may have been replaced
        before = source.path.stat().st_size
        try:
            _write(source, fresh, float16, level)
            if bad := damaged_rows(open_stack(fresh)):
                raise Failed(
                    f"{target} was not written, for its row {bad[0]} came out wrong; {source.path} is as it was"
                )
            publish(fresh, target)
        except OSError as error:
            raise Failed(f"cannot write {target}: {error.strerror or error}; {source.path} is as it was") from None
        finally:
            fresh.unlink(missing_ok=True)
    after = target.stat().st_size
    log.info(
        f"{len(source)} rows in {time.perf_counter() - began:.1f} s, "
        f"{before / 1e6:,.1f} MB became {after / 1e6:,.1f} MB ({after / before:.0%})",
    )
    return target


def _write(source: Stack, target: Path, float16: bool, level: int) -> None:
    """Write the whole file. One thread a core packs the features, since zlib works outside Python's lock."""
    with (
        open_hdf5(source.path) as old,
        NewHDF5(target, alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT) as new,
        ThreadPoolExecutor(cores()) as threads,
    ):
        rows, width = old["features"].shape
        stored = np.dtype("<f2") if float16 else old["features"].dtype
        for name in [*row_fields(width, 1), *FEW, *OPTIONAL_DATA]:
            if name in old and name != "features":
                old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value
        new.attrs["dtype"] = stored.name
        chunk = (min(CHUNK[0], rows), min(CHUNK[1], width))
        data = _packed_dataset(new, (rows, width), chunk, stored, level)
        labels, sha256, view, crc = (old[name][:] for name in ("labels", "sha256", "view", "row_crc32"))
        worst = 0.0
        for first in range(0, rows, chunk[0]):
            band = slice(first, min(first + chunk[0], rows))
            check_space(target.parent, chunk[0] * width * stored.itemsize + HDF5_OWN)
            identity = labels[band], sha256[band], view[band]
            X = source.take(np.arange(band.start, band.stop)).X[:]
            if (bad := first + np.flatnonzero(row_crc32(X, *identity) != crc[band])).size:
                raise Failed(f"{source.path} is damaged: row {bad[0]}. Mend it: {source.attrs['command']}")
            if float16:
                X, error = rounded(X, source, first)
                worst = max(worst, error)
            crc[band] = row_crc32(X, *identity)
            starts = range(0, width, chunk[1])
            packed = threads.map(partial(_pack, X, chunk, level), starts)
            for start, piece in zip(starts, packed, strict=True):
                data.id.write_direct_chunk((first, start), piece)
            new.check()
        new["row_crc32"][:] = crc
        if float16:
            new.attrs["rounding_error"] = worst
            log.info(f"rounded to float16: rows are up to {worst:.1e} of their length away")
        new.flush()
    with open(target, "rb") as file:
        sync(file.fileno())


def rounded(X: np.ndarray, source: Stack, first: int) -> tuple[np.ndarray, float]:
    """Rows (k, width) as float16, and the largest error of one, as a share of its length.

    Args:
        X: the rows.
        source: the stack, for messages.
        first: number of the first of them.

    Raises:
        Refused: numbers above 65,504, or so small that rows lose more than `MOST_LOST`.
    """
    with np.errstate(over="ignore"):
        half = X.astype("<f2")
    length = np.linalg.norm(X.astype("f8"), axis=1)
    lost = np.linalg.norm(X - half.astype("f8"), axis=1) / np.maximum(length, np.finfo("f8").tiny)
    for bad, why in (
        (~np.isfinite(half).all(axis=1), "holds numbers above 65,504, which float16 cannot"),
        (lost > MOST_LOST, f"holds numbers so small that float16 would lose {lost.max():.1%} of it"),
    ):
        if bad.any():
            row = first + int(np.flatnonzero(bad)[0])
            raise Refused(f"row {row} ({shown(source.paths[row])}) of {source.path} {why}. Keep float32")
    return half, float(lost.max(initial=0.0))


def _packed_dataset(
    file: h5py.File, shape: tuple[int, int], chunk: tuple[int, int], dtype: np.dtype, level: int
) -> h5py.Dataset:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk(chunk)
    how.set_shuffle()
    how.set_deflate(level)
    how.set_fletcher32()  # last, so that it is over the packed bytes, and asked before they are unpacked
    h5py.h5d.create(file.id, b"features", h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape), how)
    return file["features"]


def _pack(X: np.ndarray, chunk: tuple[int, int], level: int, start: int) -> bytes:
    """One chunk, as HDF5's filters would pack it: these rows, from column `start` on."""
    whole = np.zeros(chunk, X.dtype)  # at the edges too, HDF5 stores chunks of full size
    part = X[:, start : start + chunk[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    shuffled = np.ascontiguousarray(whole.view("u1").reshape(-1, X.itemsize).T)
    packed = zlib.compress(shuffled.data, level)
    return packed + fletcher32(packed).to_bytes(4, "little")


def fletcher32(data: bytes) -> int:
    """HDF5's Fletcher-32: two sums modulo 65,535 over big-endian 16-bit words, of the words and of the sums so far.

    Zero stands for no words, or none but zeros; other multiples of 65,535 are written as 65,535.
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype("u8")
    after = np.arange(len(words), 0, -1, dtype="u8")  # sums so far that a word is part of
    first, second = int(words.sum()), int((words * after).sum())  # below 2⁶⁴ for chunks under 30 MB
    low, high = ((total - 1) % 65535 + 1 if total else 0 for total in (first, second))
    return high << 16 | low
