"""Sound files that cannot be had: another process has them locked, or the system opens none."""

import fcntl
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def locked_by_a_child(*paths: Path) -> Iterator[None]:
    """Another process has each file's lock for itself, by a descriptor that it was born with."""
    files = [open(path, "a+b") for path in paths]  # noqa: SIM115
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX)
    child = subprocess.Popen(["sleep", "600"], pass_fds=[file.fileno() for file in files])
    for file in files:
        file.close()
    try:
        with pytest.raises(BlockingIOError), open(paths[0], "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        child.kill()
        child.wait()


@contextmanager
def nothing_opens() -> Iterator[None]:
    """The system has no descriptor left for this process: "Too many open files"."""
    few = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, few[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, few)
