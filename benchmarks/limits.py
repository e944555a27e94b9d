"""Stage one against what the machine could do, and its memory as the dataset grows.

    python -m benchmarks.limits PHOTOS [WEIGHTS]

Bare forward: the engine's own images/s on pixels already in memory, as many batches at once as it takes. Bare decoding:
reading, hashing, decoding and resizing on all cores, and nothing else. Forward and decoding share the cores, so the
bound of the whole stage is 1 / (1 / forward + 1 / decoding). Measured turn about in one run, median of the turns. Then
the peak memory of extracting 2,000 and 20,000 rows, each in a process of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.results import linked, row, speed
from extract import extract
from extract.backbones import backbone_named
from extract.compute.pipeline import read_block
from extract.images.dataset import scan
from extract.network.engines import choose_engine
from extract.network.forward import choose_device, compile_forward
from extract.network.network import KerasNetwork
from extract.recipe import Recipe
from features.runtime.machine import cores

TURNS = 3
CASES = {"vgg16": 128, "mobilenetv2": 1024}  # backbone → images


def speeds(photos: Path, name: str, weights: str, folder: Path) -> tuple[float, float, float, float]:
    """Images/s of the bare forward pass, of bare decoding, and of the whole stage; and the whole over their bound."""
    backbone, count = backbone_named(name), CASES[name]
    data = linked(photos, count, folder / name)
    device = choose_device("auto")
    engine, _ = choose_engine("auto", device, "f32")
    network = KerasNetwork.named(backbone, weights, backbone.size, 0, [backbone.layer])
    forward = compile_forward(network, engine.batch, device, engine.name)
    recipe = Recipe(scan(str(data)), backbone, weights, backbone.layer, backbone.size, seed=0)
    paths = recipe.listing.paths
    blocks = [np.arange(start, start + engine.batch) for start in range(0, count, engine.batch)]

    def read(rows: np.ndarray) -> np.ndarray:
        return read_block(recipe, [paths[i] for i in rows], np.zeros(len(rows), int), rows).images

    pixels = read(blocks[0])
    found: list[tuple[float, float, float]] = []
    for turn in range(TURNS + 1):
        clock = [time.perf_counter()]
        with ThreadPoolExecutor(forward.lanes) as lanes:
            list(lanes.map(forward, [pixels] * len(blocks)))
        clock.append(time.perf_counter())
        with ThreadPoolExecutor(cores()) as readers:
            list(readers.map(read, blocks))
        clock.append(time.perf_counter())
        stack = extract(str(data), name, weights=weights, out=str(folder / f"{name}{turn}.h5"))
        bare, decoding = (count / seconds for seconds in np.diff(clock))
        found.append((bare, decoding, speed(stack)))
    bare, decoding, whole = (median(column) for column in zip(*found[1:], strict=True))
    return bare, decoding, whole, median(w * (1 / b + 1 / d) for b, d, w in found[1:])


def peak_memory(photos: Path, count: int, folder: Path) -> float:
    """Peak resident memory, MB, of a process of its own that extracts so many rows."""
    data = linked(photos, count, folder / str(count))
    words = f"extract {data} --backbone mobilenetv2 --weights random --size 96 --out {folder / str(count)}.h5".split()
    child = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"extraction of {count} rows failed:\n{child.stderr.read().decode() if child.stderr else ''}")
    return usage.ru_maxrss / 1024


def main(photos: Path, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backbone, given, bar in (("vgg16", "random", "0.97"), ("mobilenetv2", weights, "")):
            bare, decoding, whole, share = speeds(photos, backbone, given, folder)
            row(
                f"{backbone} f32, whole stage over bare forward",
                f"{whole:.1f} of {bare:.1f} images/s: {whole / bare:.3f}",
                bar,
            )
            row(
                f"{backbone} f32, whole stage over the bound of forward and decoding ({decoding:.0f} images/s)",
                f"{share:.3f}",
                "0.92" if backbone == "mobilenetv2" else "",
            )
        small, large = (peak_memory(photos, rows, folder) for rows in (2_000, 20_000))
        row(
            "peak memory at 20,000 rows over 2,000", f"{large:,.0f} over {small:,.0f} MB: {large / small:.3f}", "≤ 1.05"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "random")
