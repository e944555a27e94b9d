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
    found: list[tuple[int, int]] = []
    if features.chunks:
        features.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))
    return found


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
