"""Read and write files so that every byte arrives and survives a power loss."""

import errno
import fcntl
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from features.runtime.errors import Failed

ONE_CALL = 1 << 30  # bytes: above 2 GiB Linux stops short, and macOS gives an error


def sync(fd: int) -> None:
    """`os.fsync`, all the way: on macOS that ends in the drive's cache, which a power loss empties."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    try:
        if full is not None:
            fcntl.fcntl(fd, full)
            return
    except OSError:  # a file system that does not have it
        pass
    os.fsync(fd)


def open_file(path: Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: there is none, or it is a pipe or a device, which may never begin or never end.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, `open` says it
        raise OSError(errno.EINVAL, "a pipe, device or socket, and no file", str(path))
    return open(path, "rb")


def publish(source: Path, target: Path) -> Path:
    """Rename a synced file and sync the folder, so that the new name survives a power loss too."""
    os.replace(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        sync(folder)
    finally:
        os.close(folder)
    return target


def pwrite_all(fd: int, values: np.ndarray, offset: int) -> None:
    """`os.pwrite` until every byte is written."""
    view = np.ascontiguousarray(values).reshape(-1).view("u1").data
    while view:
        written = os.pwrite(fd, view[:ONE_CALL], offset)
        view, offset = view[written:], offset + written


def pread_all(fd: int, count: int, offset: int) -> bytearray:
    """`os.preadv` until `count` bytes are there.

    Raises:
        Failed: the file ends before.
    """
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        got = os.preadv(fd, [view[:ONE_CALL]], offset)
        if not got:
            raise Failed(f"the stack's file ends {len(view)} bytes early")
        view, offset = view[got:], offset + got
    return buffer


def write_json(path: Path, value: Any) -> None:
    """Write a file as a whole or not at all: on a full disk, half a file would look like damage."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)
