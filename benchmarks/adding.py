"""Adding photos to a stack against extracting all of them: whole commands, from start to end.

    python -m benchmarks.adding PHOTOS

VGG16 on seeded random weights: a stack of 2,100 photos from nothing; then 100 of them go, and come back.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import linked, row

ROWS, ADDED = 2_100, 100


def seconds(data: Path, stack: Path) -> float:
    began = time.perf_counter()
    words = f"extract {data} --backbone vgg16 --weights random --out {stack}".split()
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(photos: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, stack = linked(photos, ROWS, folder / "photos"), folder / "a.h5"
        everything = seconds(data, stack)
        some = {place: place.readlink() for place in sorted(data.rglob("*.jpg"))[:: ROWS // ADDED]}
        for place in some:
            place.unlink()
        seconds(data, stack)
        for place, photo in some.items():
            place.symlink_to(photo)
        added = seconds(data, stack)
    figure = f"{added:.1f} s against {everything:.1f} s: {everything / added:.1f}×"
    row(f"vgg16, adding {len(some)} photos to {ROWS - len(some):,} against extracting {ROWS:,}", figure, "10×")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
