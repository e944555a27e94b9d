"""Read and write files so that every byte arrives and survives a power loss.

What only some operating systems have is asked for here and nowhere else.
"""

import errno
import json
import os
import stat
import threading
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from features.runtime.errors import Failed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ONE_CALL = 1 << 30  # bytes: above 2 GiB Linux stops short, and macOS gives an error
BINARY = getattr(os, "O_BINARY", 0)  # for `os.open`: without it Windows changes the ends of lines
_turn = threading.Lock()  # where a file has a single position for all threads


def sync(fd: int) -> None:
    """`os.fsync`, all the way: on macOS that ends in the drive's cache, which a power loss empties."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        with suppress(OSError):  # a file system that does not have it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_all() -> None:
    """Sync every file system, where the operating system has that."""
    if hasattr(os, "sync"):
        os.sync()


def lock_file(fd: int) -> None:
    """Lock an open file for this process, until the file is closed or the process dies.

    Raises:
        BlockingIOError: another process holds it.
        OSError: there are no locks here.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def reserve(fd: int, size: int) -> None:
    """Reserve the disk's blocks of a file. macOS and Windows lack the call: there a check of the space has to do."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)


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
    if os.name != "nt":  # Windows opens no folders
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            sync(folder)
        finally:
            os.close(folder)
    return target


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all bytes at a place of a file."""
    while data:
        written = _pwrite(fd, data[:ONE_CALL], offset)
        data, offset = data[written:], offset + written


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer with the bytes at a place of a file; returns how many there were, fewer only at the file's end."""
    done = 0
    while done < len(buffer) and (got := _pread(fd, buffer[done : done + ONE_CALL], offset + done)):
        done += got
    return done


def _pwrite(fd: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    with _turn:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def _pread(fd: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    with _turn:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def pwrite_all(fd: int, values: np.ndarray, offset: int) -> None:
    """Write an array at a place of a file."""
    write_at(fd, np.ascontiguousarray(values).reshape(-1).view("u1").data, offset)


def pread_all(fd: int, count: int, offset: int) -> bytearray:
    """`count` bytes at a place of a file.

    Raises:
        Failed: the file ends before.
    """
    buffer = bytearray(count)
    if missing := count - read_at(fd, memoryview(buffer), offset):
        raise Failed(f"the stack's file ends {missing} bytes early")
    return buffer


def write_json(path: Path, value: Any) -> None:
    """Write a file as a whole or not at all: on a full disk, half a file would look like damage."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)
