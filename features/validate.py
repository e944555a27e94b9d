"""Check that an HDF5 file is what FORMAT.md says, before a byte of its datasets is read or allocated."""

import math
import mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.runtime.errors import Failed, Refused, listed
from features.schema import FORMAT, REQUIRED, SPLITS, UNLABELLED, VERSION, Correction, plain, row_fields

# gzip makes zeros at most 1,032 times smaller: what claims to unpack to more than this cannot come out of the file.
UNPACKED = 1100
MOST_PIECE = 64 << 20  # bytes
RESTORE = "Restore it from a copy, or delete it and extract again."
FEW = ("label_names", "fingerprint", "extract_seconds")  # the datasets that have no entry a row
OPTIONAL_DATA = ("rejects", "corrections", "group", "copies")  # those that a file may lack
START = b"GCOL\1\0\0\0"  # of a global heap collection, version 1: this, its size (8 bytes), then objects
HEADER = 16  # bytes before a collection's objects, and before each object's own: index (2), …, length (8)


def check_root(path: Path, file: h5py.File) -> dict[str, Any]:
    """The root attributes, as plain Python values.

    Raises:
        Refused: it is no feature stack, or of a newer format version.
        Failed: an attribute is missing, or the texts are damaged.
    """
    if "format" not in file.attrs:  # its value may lie in a heap; that it is there does not
        raise _foreign(path)
    if not heaps_are_sound(path, file["features"] if _is_own_dataset(file, "features") else None):
        raise _damaged(path, "its texts cannot be read")
    attrs = _attributes(file)
    if attrs.get("format") != FORMAT:
        raise _foreign(path)
    version = attrs.get("format_version", VERSION)
    if not isinstance(version, int):
        raise _damaged(path, f"format_version is {version!r}, expected a number")
    if version > VERSION:
        raise Refused(f"{path} has format version {version}; this program reads up to {VERSION}. Update it.")
    if missing := [name for name in REQUIRED if name not in attrs]:
        raise _damaged(path, f"attribute {listed(missing)} is missing")
    return attrs


def check_fields(path: Path, file: h5py.File, feature_shape: tuple[int, ...]) -> int:
    """Check that every dataset is there, inside the file, of its shape and type; returns the number of rows.

    A dataset may lie about its size, its place or the file it is in; reading it then would take memory without bound,
    or show bytes of another file.

    Raises:
        Failed: a dataset is missing, is elsewhere, or cannot be what it says it is.
    """
    expected = row_fields(math.prod(feature_shape), 1)
    if min(feature_shape, default=0) < 1:
        raise _damaged(path, f"feature_shape is {feature_shape}, expected positive numbers")
    if missing := [name for name in (*expected, *FEW) if not _is_own_dataset(file, name)]:
        raise _damaged(path, f"dataset {listed(missing)} is missing")
    features, size = file["features"], path.stat().st_size
    count = features.shape[0] if features.shape else 0
    for name in [*expected, *FEW, *(name for name in OPTIONAL_DATA if name in file)]:
        if not _is_own_dataset(file, name):
            raise _damaged(path, f"{name} does not lie in this file")
        data = file[name]
        if name in ("group", "copies") and data.shape != (count,):
            raise _damaged(path, f"{name} has shape {data.shape}, expected {(count,)}")
        if name in expected and data.shape != (count, *expected[name][0]):
            raise _damaged(path, f"{name} has shape {data.shape}, expected {(count, *expected[name][0])}")
        if not _fits(name, data.dtype, expected[name][1] if name in expected else None):
            raise _damaged(path, f"{name} has type {data.dtype}")
        needed, offset = math.prod(data.shape or ()) * data.dtype.itemsize, data.id.get_offset()
        if data.external or data.is_virtual or (offset is not None and offset + needed > size):
            raise Failed(f"{path} is truncated: {name} does not lie inside the file's {size} bytes. {RESTORE}")
        stored = data.id.get_storage_size()
        piece = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0  # HDF5 unpacks a whole one at a time
        if piece > max(needed, MOST_PIECE):
            raise _damaged(path, f"{name} of {needed:,} bytes is stored in pieces of {piece:,} bytes")
        if stored > size or needed > UNPACKED * stored:
            raise _damaged(path, f"{name} says it has {needed:,} bytes, and {stored:,} are stored")
    return int(count)


def check_codes(path: Path, labels: np.ndarray, classes: int, split: np.ndarray, view: np.ndarray) -> None:
    """Raise Failed if a row's label, split or view is a number without a meaning."""
    checks = (
        ("label", labels, (labels < UNLABELLED) | (labels >= classes), f"−1 to {classes - 1}"),
        ("split", split, ~np.isin(split, list(SPLITS.values())), f"0 to {max(SPLITS.values())}"),
        ("view", view, view < 0, "0 or more"),
    )
    for name, values, wrong, expected in checks:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise _damaged(path, f"row {row} has {name} {values[row]}; expected {expected}")


def _attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes that are texts or numbers. HDF5 itself crashes on other kinds if they are damaged."""
    kinds = (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
    ours = [name for name in file.attrs if isinstance(file.attrs.get_id(name).get_type(), kinds)]
    return {name: plain(file.attrs[name]) for name in ours}


def _foreign(path: Path) -> Refused:
    return Refused(f"{path} is HDF5 but no feature stack (its root has no attribute format = {FORMAT!r})")


def _damaged(path: Path, how: str) -> Failed:
    return Failed(f"{path} is damaged: {how}. {RESTORE}")


def _is_own_dataset(file: h5py.File, name: str) -> bool:
    """Not a link to elsewhere: following one would open another file."""
    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file.get(name), h5py.Dataset)


def _fits(name: str, dtype: np.dtype, expected: Any) -> bool:
    if name in ("paths", "label_names", "fingerprint", "group"):
        return h5py.check_string_dtype(dtype) is not None
    if name == "corrections":
        return dtype.names == Correction._fields and all(map(h5py.check_string_dtype, (dtype[i] for i in range(3))))
    if name == "rejects":
        texts = all(h5py.check_string_dtype(dtype[part]) for part in ("path", "reason") if part in (dtype.names or ()))
        return texts and dtype.names == ("path", "reason", "size", "mtime_ns")
    if name == "copies":
        return bool(dtype.kind == "i")
    if name in ("features", "extract_seconds"):
        return dtype.kind == "f"
    return bool(dtype.kind == expected.kind and dtype.itemsize == expected.itemsize)


def heaps_are_sound(path: Path, features: h5py.Dataset | None) -> bool:
    """Whether every step through every heap leads forward and stays inside.

    Args:
        path: the file.
        features: its rows, if it has any; what they fill is left out of the search.
    """
    rows = sorted(_pieces(features)) if features is not None else []
    starts, stops = [0, *(stop for _, stop in rows)], [start for start, _ in rows]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop in zip(starts, [*stops, len(data)], strict=True):
            at = data.find(START, start, stop)
            while at >= 0:
                if not _leads_on(data, at):
                    return False
                at = data.find(START, at + 1, stop)
    return True


def _pieces(features: h5py.Dataset) -> list[tuple[int, int]]:
    """(first byte, byte after the last) of each piece that rows are stored in: one, or a chunk each."""
    offset = features.id.get_offset()
    if offset is not None:
        return [(offset, offset + features.id.get_storage_size())]
    pieces: list[tuple[int, int]] = []
    if features.chunks:
        features.id.chunk_iter(lambda chunk: pieces.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))
    return pieces


def _leads_on(data: mmap.mmap, at: int) -> bool:
    end = min(at + int.from_bytes(data[at + 8 : at + HEADER], "little"), len(data))
    at += HEADER
    while at + HEADER <= end:
        free = data[at : at + 2] == b"\0\0"  # index 0: what is left of the collection, its own header counted
        length = int.from_bytes(data[at + 8 : at + HEADER], "little")
        step = length if free else HEADER + (length + 7) // 8 * 8
        if not 0 < step <= end - at:
            return False
        at += step
    return True
