"""Lay a stack out on disk before its first row is known.

A killed h5py writer leaves a file that does not open, or one that opens with rows of zeros. So HDF5 only ever makes
the empty file: contiguous datasets at fixed offsets, disk space reserved, closed. Everything after that is `os.pwrite`.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.hdf5 import NewHDF5, open_hdf5
from features.runtime.disk import reserve, sync
from features.runtime.errors import Failed
from features.schema import AXES, FORMAT, VERSION, Correction, group_dtype, row_fields

ALIGNMENT = 4096  # without it rows lie at odd offsets, and BLAS has to copy a memmap before it can use it
CHUNK_BYTES = 32 << 20  # rows are re-read for checking and copying in pieces of about this size
HDF5_OWN = 1 << 20  # bytes, generously, for HDF5's own headers and the small fields


def partial_path(stack: Path) -> Path:
    """Where a stack lives until every row of it is accounted for."""
    return stack.with_name(stack.name + ".partial")


def aside_path(stack: Path) -> Path:
    """Where an unfinished file is set aside whose images have changed, until its rows are carried over."""
    return stack.with_name(stack.name + ".aside")


def layout_path(stack: Path) -> Path:
    """Where a file is laid out before it is renamed to a partial or finished stack; worthless after a kill."""
    return stack.with_name(stack.name + ".layout")


def lay_out(
    path: Path,
    rows: Mapping[str, Any],
    label_names: Sequence[str],
    feature_shape: Sequence[int],
    attrs: Mapping[str, Any],
    rejects: Sequence[tuple[str, str, int, int]] = (),
    corrections: Sequence[Correction] = (),
) -> None:
    """Make the file `path` with every row empty and its disk space reserved. An existing file is replaced.

    Args:
        path: the file to make.
        rows: what is already known of the rows, by dataset name; `paths`, `labels` and `view` (rows,) at least, and
            `group` if the dataset has groups, `copies` if near copies are grouped.
        label_names: (classes,) names, sorted.
        feature_shape: shape of one row before flattening: (h, w, c), (t, c) of tokens, (c,) of pooled ones.
        attrs: root attributes beside `format`, `format_version` and `feature_shape`; `dtype` is that of the rows.
        rejects: (path, reason, size, mtime_ns) of the images that could not be read.
        corrections: that the labels were corrected by.

    Raises:
        Failed: the disk is too small or the folder cannot be written; no file is left.
    """
    paths = [p.encode() for p in rows["paths"]]
    count = len(paths)
    texts = {"paths": paths}
    fields = row_fields(int(np.prod(feature_shape)), max(map(len, paths)), attrs["dtype"])
    if "copies" in rows:
        fields["copies"] = (), np.dtype("<i4")
    if "group" in rows:
        texts["group"] = [group.encode() for group in rows["group"]]
        fields["group"] = (), group_dtype(max(map(len, texts["group"])))
    try:
        data = sum(count * math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in fields.values())
        check_space(path.parent, data + HDF5_OWN)
        with NewHDF5(path, alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
            for name, (shape, dtype) in fields.items():
                _contiguous(file, name, (count, *shape), dtype)
                if name in rows:
                    file[name][:] = texts.get(name, rows[name])
            # Learned when the rows are complete, and written in place then.
            _contiguous(file, "fingerprint", (), h5py.string_dtype("ascii", 64))
            _contiguous(file, "extract_seconds", (), np.dtype("<f8"))
            names = [n.encode() for n in label_names]
            file.create_dataset(
                "label_names", data=names, dtype=h5py.string_dtype("utf-8", max(map(len, names), default=1))
            )
            _tables(file, rejects, corrections)
            file.attrs.update(dict(attrs, format=FORMAT, format_version=VERSION, axes=AXES[len(feature_shape)]))
            file.attrs["feature_shape"] = np.array(feature_shape, "<i8")
        _reserve(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Failed(
            f"cannot lay out {path}: {error.strerror or error}. Free some space or choose another --out."
        ) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _tables(file: h5py.File, rejects: Sequence[tuple[str, str, int, int]], corrections: Sequence[Correction]) -> None:
    """The tables that only some files have; see `lay_out`."""
    text = h5py.string_dtype("utf-8")
    if rejects:
        kinds = [("path", text), ("reason", text), ("size", "<i8"), ("mtime_ns", "<i8")]
        file.create_dataset("rejects", data=np.array(list(rejects), kinds))
    if corrections:
        kinds = [(part, text) for part in Correction._fields]
        file.create_dataset("corrections", data=np.array(list(corrections), kinds))


def offsets(path: Path) -> dict[str, int]:
    """Byte offset in the file of every contiguous dataset of a laid-out stack."""
    with open_hdf5(path) as file:
        known = {name: item.id.get_offset() for name, item in file.items() if isinstance(item, h5py.Dataset)}
    return {name: offset for name, offset in known.items() if offset is not None}


def _contiguous(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """A dataset whose bytes lie in one piece, allocated now and never filled by HDF5."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype), logical=True), space, how)


def check_space(folder: Path, size: int) -> None:
    """Raise OSError for too small a disk: HDF5 can crash the process when the disk fills while it closes a file."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(0, f"it needs {size / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free")


def _reserve(path: Path) -> None:
    """Reserve the file's disk blocks now, so that a full disk is an error before the work starts."""
    with open(path, "r+b") as file:
        reserve(file.fileno(), path.stat().st_size)
        sync(file.fileno())  # so that a power loss after the rename finds a file that opens
