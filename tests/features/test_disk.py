"""What is written reaches the disk, on systems that this one is not too."""

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from features.runtime import disk
from features.runtime.disk import pread_all, pwrite_all, sync


@pytest.mark.parametrize("there", [True, False], ids=["there", "not on this file system"])
def test_macos_syncs_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Guards against a power loss on macOS, where `fsync` ends in the drive's cache: its own call, else `fsync`."""
    asked: list[object] = []

    def control(fd: int, how: int) -> None:
        asked.append(how)
        if not there:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda fd: asked.append("fsync"))
    with open(tmp_path / "a", "wb") as file:
        sync(file.fileno())
    assert asked == ([51] if there else [51, "fsync"])


def test_large_pieces_in_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards rows of more than 2 GiB, which macOS refuses to write or read at once; here the limit is 1,000 bytes."""
    monkeypatch.setattr(disk, "ONE_CALL", 1000)
    write, read = os.pwrite, os.preadv

    def limited_write(fd: int, data: memoryview, offset: int) -> int:
        if len(data) > 1000:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(fd, data, offset)

    def limited_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        if sum(map(len, buffers)) > 1000:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "pwrite", limited_write)
    monkeypatch.setattr(os, "preadv", limited_read)
    values = np.arange(900, dtype="<f4")
    with open(tmp_path / "a", "w+b") as file:
        pwrite_all(file.fileno(), values, 10)
        assert pread_all(file.fileno(), 3600, 10) == values.tobytes()
