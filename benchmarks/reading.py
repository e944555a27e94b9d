"""Reading a stack: its memory map against `cat` with a cold cache, and compressed against as it is.

    python -m benchmarks.reading STACK

Before each turn the kernel is told to forget the file's pages.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.results import row
from features import compress, open_stack

TURNS = 5


def cold(path: Path, read: Callable[[Path], object]) -> float:
    """Seconds of reading a file that is not in memory."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    read(path)
    return time.perf_counter() - began


def cat(path: Path) -> None:
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)


def total(path: Path) -> float:
    return float(open_stack(path).X.sum())


def pieces(path: Path) -> float:
    return sum(float(piece.sum()) for piece in open_stack(path).chunks())


def main(stack: Path) -> None:
    found = [(cold(stack, cat), cold(stack, total), cold(stack, pieces)) for _ in range(TURNS)]
    size = stack.stat().st_size / 1e6
    for name, at in (("summing `X`, a memory map", 1), ("summing `chunks()`", 2)):
        speed, theirs = (median(size / turn[i] for turn in found) for i in (at, 0))
        ratio = median(turn[0] / turn[at] for turn in found)
        row(f"{name}, cold cache, against `cat`", f"{speed:,.0f} of {theirs:,.0f} MB/s: {ratio:.2f}", "0.9")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        packed = compress(str(stack), out=f"{folder}/a.h5")
        speed = size / (time.perf_counter() - began)
        share = packed.stat().st_size / stack.stat().st_size
        row("`features compress`, to and from the disk", f"{speed:.0f} MB/s, to {share:.0%} of its size")
        speed = median(size / cold(packed, pieces) for _ in range(TURNS))
        row("summing `chunks()` of the compressed stack, cold cache", f"{speed:,.0f} MB/s of rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
