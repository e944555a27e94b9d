"""An image's bytes and what identifies them, from a folder. `features.archive` reads them from other places."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.runtime.disk import open_file
from features.runtime.errors import Failed

MOST_BYTES = 1_280_000_000  # of one file: 160 million pixels of four channels of 16 bits, not compressed
CHANGING = "it changed while it was read"
Stat = tuple[int, int]  # bytes, modification time in ns; -1 and -1 if there is no such file
NOWHERE: Stat = (-1, -1)


class Unreadable(Exception):
    """An image that cannot be read or decoded; the message is the reason to record."""


class File(NamedTuple):
    """The bytes of an image file and what identifies them."""

    data: bytes
    sha256: np.ndarray  # (32,) uint8
    size: int
    mtime_ns: int


class Source:
    """A folder of images. Archives are read the same way.

    Attributes:
        root: absolute path of the folder or archive; of an array, `file::dataset`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self) -> bool:
        """Whether it is where `root` says."""
        return self.root.exists()

    def stat(self, path: str) -> Stat:
        """Size and time of an image."""
        try:
            status = os.stat(self.root / path)
        except (OSError, UnicodeEncodeError):
            return NOWHERE
        return status.st_size, status.st_mtime_ns

    def read(self, path: str) -> File:
        """Read an image once; hash, size and time belong to just these bytes.

        Raises:
            Unreadable: it cannot be read, is too large, or is being written.
        """
        return read_file(self.root / path)

    def sha256(self, path: str) -> bytes | None:
        """SHA-256 of an image's bytes; None if it cannot be read."""
        return file_sha256(self.root / path)

    def is_readable(self, path: str) -> bool:
        """Whether `read` can read the image."""
        try:
            self.read(path)
        except Unreadable:
            return False
        return True


def read_file(path: Path) -> File:
    """Read a file once; hash, size and time belong to just these bytes.

    Raises:
        Unreadable: it cannot be read, is too large, or is being written.
    """
    try:
        with open_file(path) as file:
            status = os.fstat(file.fileno())
            check_size(status.st_size)
            data, after = file.read(status.st_size + 1), os.fstat(file.fileno())
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except UnicodeEncodeError as error:
        raise Unreadable(f"its name has characters that this system's {error.encoding} lacks") from None
    if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise Unreadable(CHANGING)
    return File(data, np.frombuffer(hashlib.sha256(data).digest(), "u1"), len(data), status.st_mtime_ns)


def file_sha256(path: Path) -> bytes | None:
    """SHA-256 of a file's bytes; None where it cannot be read, or is a pipe or a device."""
    try:
        return bytes.fromhex(hashed(path))
    except Failed:
        return None


def hashed(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        Failed: it cannot be read, or is a pipe or a device.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, UnicodeEncodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Failed(f"cannot read {path}: {why}") from None


def check_size(size: int) -> None:
    """Raise Unreadable for more than `MOST_BYTES`."""
    if size > MOST_BYTES:
        raise Unreadable(f"it has {size:,} bytes, more than the {MOST_BYTES:,} that are read")
