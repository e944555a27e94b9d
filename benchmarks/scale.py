"""Stage one by two Dask processes of this machine against a single process: the same photos, turn about in one run.

    python -m benchmarks.scale PHOTOS [WEIGHTS]

MobileNetV2 at its native size, batches of 32. Images a second as the stacks record them: while rows are made, without
what each run does once (starting processes, compiling), of which there is a row of its own. That the rows are equal to
the last bit is checked.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.results import linked, row
from extract import extract
from features import Stack, open_stack

TURNS, PHOTOS = 3, 2000


def made(data: Path, weights: str, out: Path, dask: str | None) -> tuple[Stack, float, float]:
    """The stack, its images a second, and the seconds that were not spent on images."""
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    stack = open_stack(extract(str(data), "mobilenetv2", weights=weights, batch=32, dask=dask, out=str(out)))
    seconds = time.perf_counter() - began
    return stack, len(stack) / stack.extract_seconds, seconds - stack.extract_seconds


def main(photos: Path, weights: str) -> None:
    found: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = linked(photos, PHOTOS, folder / "photos")
        for _ in range(TURNS):
            one, speed, before = made(data, weights, folder / "one.h5", None)
            two, speed_of_two, before_two = made(data, weights, folder / "two.h5", "local:2")
            found.append((speed, speed_of_two, before, before_two))
            if not np.array_equal(one.X, two.X):
                sys.exit("the rows differ")
    alone, two_processes, start, start_two = (median(turns) for turns in zip(*found, strict=True))
    figure = f"{two_processes:.1f} against {alone:.1f} images/s: {two_processes / alone:.2f}×"
    row("`--dask local:2` against a single process, the same bits", figure)
    row("the same, seconds that are not spent on images", f"{start_two:.1f} against {start:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "random")
