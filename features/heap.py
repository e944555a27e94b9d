"""Heaps of texts in an HDF5 file, walked before HDF5 does: where a length in one is damaged it walks on for ever."""

import mmap
from pathlib import Path

import h5py

START = b"GCOL\1\0\0\0"  # of a global heap collection, version 1: this, its size (8 bytes), then objects
HEADER = 16  # bytes before a collection's objects, and before each object's own: index (2), …, length (8)


def heaps_are_sound(path: Path, features: h5py.Dataset | None) -> bool:
    """Whether each step through each heap leads on, and not out of it.

    Args:
        path: the file.
        features: its rows, if it has any; where they lie in one piece, that is left out of the search.
    """
    offset = None if features is None else features.id.get_offset()
    rows = (0, 0) if features is None or offset is None else (offset, offset + features.id.get_storage_size())
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop in ((0, rows[0]), (rows[1], len(data))):
            at = data.find(START, start, stop)
            while at >= 0:
                if not _leads_on(data, at):
                    return False
                at = data.find(START, at + 1, stop)
    return True


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
