"""Open and make HDF5 files: the only place that does.

HDF5 takes a `flock` on each file that it opens. That fails on file systems without locks, and for some milliseconds
after another thread has started a process, which still holds the file. Nobody needs these locks: readers need none, and
the writer of a stack has ours (`features.runtime.lock`). `locking=False` alone would not do: a process cannot open a
file both with and without locks, and a notebook may have a stack open by h5py itself. So HDF5 reads and writes through
a file object of ours.
"""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from features.runtime.disk import BINARY, read_at, write_at
from features.runtime.errors import Failed, check_readable

_one_block = threading.RLock()


def open_hdf5(path: str | os.PathLike[str], **how: Any) -> h5py.File:
    """Open a file for reading; `how` is for `h5py.File`.

    Raises:
        OSError: it is missing, may not be read, or is no HDF5 file.
    """
    return h5py.File(_Bytes(os.open(path, os.O_RDONLY | BINARY)), "r", **how)


@contextmanager
def opened_without_locks() -> Iterator[None]:
    """Have h5py open files for reading as `open_hdf5` does, in a `with` block in which Keras reads its weights.

    Keras takes a path, and the environment's settings of HDF5 no longer count once a notebook has imported h5py.
    Blocks of several threads follow one another: each puts back what it found.
    """
    with _one_block:
        usual = h5py.File.__init__

        def init(file: h5py.File, name: Any, mode: str = "r", *others: Any, **how: Any) -> None:
            if mode == "r" and isinstance(name, str | os.PathLike):
                name = _Bytes(os.open(name, os.O_RDONLY | BINARY))
            usual(file, name, mode, *others, **how)

        h5py.File.__init__ = init
        try:
            yield
        finally:
            h5py.File.__init__ = usual


def unreadable(path: Path, error: OSError, way: str) -> Failed:
    """The error for a damaged file. `way` out may say that it must go.

    Raises:
        Failed: it is not damaged, but the system does not let it be read (`check_readable`). HDF5's own errors have no
            number here; the system's have one: no permission, for example, or no answer of a server.
    """
    check_readable(path, error)
    what = "is truncated" if "truncated" in str(error) else "is no HDF5 file that can be opened"
    return Failed(f"{path} {what}. {way}")


class NewHDF5(h5py.File):
    """A file that is made, or replaced, in a `with` block.

    HDF5 crashes the process if the disk fails while it closes a file (full, over its quota, at a limit of size). So it
    never hears of that: `check`, and the end of the block, raise what happened.
    """

    def __init__(self, path: Path, **how: Any) -> None:
        self._bytes = _Bytes(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | BINARY, 0o666))
        super().__init__(self._bytes, "w", **how)

    def check(self) -> None:
        """Raise OSError if something could not be written."""
        if self._bytes.failed:
            raise self._bytes.failed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._bytes.close()
        if kind is None or issubclass(kind, Exception):  # which may only follow from bytes that are not there
            self.check()


class _Bytes(io.RawIOBase):
    """What HDF5 sees of a file. A forked child that has it too moves no position of ours."""

    def __init__(self, fd: int) -> None:
        self.failed: OSError | None = None
        self._fd, self._at = fd, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size}
        self._at = starts[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        got = read_at(self._fd, view, self._at)
        view[got:] = bytes(len(view) - got)  # HDF5 may ask for more than is written yet
        return len(view)

    def write(self, data: Any) -> int:
        try:
            write_at(self._fd, memoryview(data), self._at)
        except OSError as error:
            self.failed = self.failed or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            os.ftruncate(self._fd, size or 0)
        except OSError as error:
            self.failed = self.failed or error
        return size or 0

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
