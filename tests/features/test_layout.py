import hashlib
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import attributes, begin, contents, stack

from features import Failed, open_stack
from features.layout import lay_out, offsets, partial_path

TYPES = {
    "features": "<f4",
    "labels": "<i8",
    "split": "u1",
    "sha256": "u1",
    "size": "<i8",
    "mtime_ns": "<i8",
    "view": "<i4",
    "row_crc32": "<u4",
    "row_state": "u1",
}


def test_h5py_alone_reads_all_that_was_written(tmp_path: Path) -> None:
    """Guards the format: names, shapes, types and values as DESIGN.md lists them, without our reader."""
    held = contents()
    with h5py.File(stack(tmp_path / "a.h5", held), "r") as file:
        for name, dtype in TYPES.items():
            assert file[name].dtype == np.dtype(dtype), name
            assert file[name].shape == ((10, 24) if name == "features" else (10, 32) if name == "sha256" else (10,))
            if name in held:
                assert np.array_equal(file[name][:], held[name]), name
        assert file["paths"].asstr()[:].tolist() == held["paths"]
        assert file["label_names"].asstr()[:].tolist() == ["class0", "class1"]
        assert h5py.check_enum_dtype(file["split"].dtype) == {"train": 0, "val": 1, "test": 2}
        assert h5py.check_enum_dtype(file["row_state"].dtype) == {"empty": 0, "done": 1, "rejected": 2}
        assert h5py.check_string_dtype(file["paths"].dtype).encoding == "utf-8"
        assert set(file["row_state"][:]) == {1}
        assert "rejects" not in file
        assert file.attrs["format"] == "feature-stack"
        assert file.attrs["format_version"] == 2
        assert file.attrs["feature_shape"].tolist() == [2, 3, 4]
        assert {name: file.attrs[name] for name in attributes()} == attributes()


def test_row_crc_by_hand(tmp_path: Path) -> None:
    """Guards what a row's CRC covers: its features, <i8 label, 32 bytes of sha256, <i4 view, in this order."""
    with h5py.File(stack(tmp_path / "a.h5", contents()), "r") as file:
        for row in range(10):
            text = file["features"][row].tobytes()
            text += int(file["labels"][row]).to_bytes(8, "little", signed=True)
            text += file["sha256"][row].tobytes()
            text += int(file["view"][row]).to_bytes(4, "little", signed=True)
            assert file["row_crc32"][row] == zlib.crc32(text)


def test_fingerprint_by_hand(tmp_path: Path) -> None:
    """Guards what the fingerprint covers: path, class name, image hash, view and split of every row, in order."""
    held = contents()
    text = "".join(
        f"{path}\0class{label}\0{image.tobytes().hex()}\0{view}\0{split}\n"
        for path, label, image, view, split in zip(
            *(held[name] for name in ("paths", "labels", "sha256", "view", "split")), strict=True
        )
    )
    with h5py.File(stack(tmp_path / "a.h5", held), "r") as file:
        assert file["fingerprint"].asstr()[()] == hashlib.sha256(text.encode()).hexdigest()


def test_rows_are_contiguous_aligned_and_reserved(tmp_path: Path) -> None:
    """Guards the layout before the first row: every dataset at a multiple of 4096, its blocks given to the file."""
    held = contents(rows=300, shape=(7, 7, 8))
    partial = partial_path(begin(tmp_path / "a.h5", held))
    found = offsets(partial)
    assert {*TYPES, "paths", "fingerprint", "extract_seconds"} <= set(found)
    assert {name for name, offset in found.items() if offset % 4096} == set()
    status = os.stat(partial)
    assert status.st_blocks * 512 >= status.st_size > 300 * 7 * 7 * 8 * 4
    with h5py.File(partial, "r") as file:
        assert file["features"].chunks is None
        assert file["features"].id.get_offset() == found["features"]
        assert not file["row_state"][:].any()


def test_memmap_is_what_h5py_reads(tmp_path: Path) -> None:
    """Guards the zero-copy way in: plain np.memmap at the offset gives h5py's numbers, and so does our X."""
    path = stack(tmp_path / "a.h5", contents(rows=33, shape=(3, 3, 5)))
    with h5py.File(path, "r") as file:
        rows, offset = file["features"][:], file["features"].id.get_offset()
    assert np.array_equal(np.memmap(path, "<f4", "r", offset, (33, 45)), rows)
    assert isinstance(open_stack(path).X, np.memmap)
    assert open_stack(path).X.ctypes.data % 64 == 0
    assert np.array_equal(open_stack(path).X, rows)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Guards the message where the file cannot be made."""
    with pytest.raises(Failed, match=r"cannot lay out .*gone/a\.h5.* choose another --out"):
        lay_out(tmp_path / "gone" / "a.h5", contents(), ["class0"], (2, 3, 4), attributes())
