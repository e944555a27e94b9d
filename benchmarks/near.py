"""Finding the nearest of many rows: by reading all of them, and by the index.

    python -m benchmarks.near PHOTOS WEIGHTS

200,000 resampled rows (`benchmarks.growth`), pooled and stored as float16; 200 of them are asked for their ten nearest.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.growth import Source
from benchmarks.results import row
from extract import extract
from features import find
from features.near_index import index_path
from features.open import open_stack

ROWS, ASKED, NEAREST = 200_000, 200, 10


def main(photos: str, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = extract(photos, "mobilenetv2", weights=weights, size=64, out=str(folder / "small.h5"))
        stack = Source(small, 101).grown(ROWS, folder / "grown.h5", pool=True)
        asked = [str(i) for i in np.random.default_rng(0).permutation(ROWS)[:ASKED]]
        took: dict[str, float] = {}

        def timed(what: str, photos: list[str], index: bool = False) -> list[set[int]]:
            began = time.perf_counter()
            found = find(str(stack), photos, k=NEAREST, index=index)
            took[what] = time.perf_counter() - began
            return [{each["row"] for each in one["nearest"]} for one in found]

        timed("read one", asked[:1])
        exact = timed("read many", asked)
        timed("build", asked[:1], index=True)
        timed("index one", asked[:1])
        quick = timed("index many", asked)
        recall = np.mean([len(a & b) / NEAREST for a, b in zip(exact, quick, strict=True)])
        size = index_path(open_stack(stack)).stat().st_size
        of = f"{ROWS:,} pooled rows"
        row(f"recall@{NEAREST} of the index of {of}, {ASKED} questions", f"{recall:.3f}", "0.99")
        row(
            f"`find` of one in {of}: reading all, against the index",
            f"{took['read one']:.2f} against {took['index one']:.2f} s",
        )
        row(
            f"`find` of {ASKED} in {of}: reading all, against the index",
            f"{took['read many']:.2f} against {took['index many']:.2f} s",
        )
        row(f"`find --index` of {of}: making it", f"{took['build']:.0f} s, {size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
