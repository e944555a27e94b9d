"""Stage one against its own bare forward pass, and its memory as the dataset grows.

    python -m benchmarks.stage_one PHOTOS

Prints, for VGG16 on seeded random weights and Keras's engine, images/s of the compiled forward on pixels already in
memory, images/s of the whole stage (read, hash, decode, forward, check, write), and their ratio, measured turn about;
then the peak memory of extracting 1,000 and 4,000 rows.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from extract import extract
from extract.backbones import backbone_named
from extract.base import load_base
from extract.forward import compile_forward
from extract.image import decode, squash
from features import open_stack

ROUNDS, ROWS, BATCH = 3, 128, 32


def sample(photos: Path, count: int, folder: Path) -> Path:
    """A manifest of so many photos, drawn from class folders."""
    files = sorted(file for file in photos.rglob("*.jpg"))
    random.Random(0).shuffle(files)
    manifest = folder / f"{count}.csv"
    with open(manifest, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for i, photo in enumerate(files[:count]):
            table.writerow([photo, photo.parent.name, "test" if i % 4 == 0 else "train"])
    return manifest


def speed(photos: Path, folder: Path) -> str:
    row = backbone_named("vgg16")
    base, _ = load_base(row, "random", row.size, seed=0)
    forward, _ = compile_forward(base, row, BATCH, "cpu")
    files = sorted(photos.rglob("*.jpg"))[:BATCH]
    pixels = np.stack([squash(decode(file.read_bytes()), row.size) for file in files])
    manifest = sample(photos, ROWS, folder)
    bare, whole = [], []
    for turn in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(ROWS // BATCH):
            forward(pixels)
        bare.append(ROWS / (time.perf_counter() - began))
        stack = extract(str(manifest), weights="random", engine="keras", batch=BATCH, out=str(folder / f"{turn}.h5"))
        whole.append(ROWS / open_stack(stack).extract_seconds)
    ratio = median(w / b for w, b in zip(whole, bare, strict=True))
    return (
        f"VGG16: bare forward {median(bare):.2f} images/s, whole stage {median(whole):.2f} images/s, ratio {ratio:.3f}"
    )


def peak_memory(photos: Path, rows: int, folder: Path) -> float:
    """Peak resident memory, MB, of a process of its own that extracts so many rows."""
    manifest = sample(photos, rows, folder)
    words = [
        manifest,
        "--backbone",
        "mobilenetv2",
        "--weights",
        "random",
        "--engine",
        "keras",
        "--size",
        "96",
        "--out",
        folder / f"{rows}.h5",
    ]
    child = subprocess.Popen([sys.executable, "-m", "extract", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"extraction of {rows} rows failed")
    return usage.ru_maxrss / 1024


def main(photos: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(speed(photos, Path(folder)), flush=True)
        small, large = (peak_memory(photos, rows, Path(folder)) for rows in (1000, 4000))
        print(f"peak memory: {small:.0f} MB at 1,000 rows, {large:.0f} MB at 4,000 rows, ratio {large / small:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
